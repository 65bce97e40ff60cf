"""The `koda` command: its subcommands in the order of its help.

Exit codes: 0 the audit ran and the verdict is pass or warn; 1 the verdict is fail (or inconclusive
with --strict); 2 usage, configuration, data or models; 3 the run failed, or its store cannot be used;
128 + n the signal n ended it: 130 for Ctrl-C.
"""

from __future__ import annotations

import atexit
import sys
from typing import Annotated

import typer

from flows.cli.align import align
from flows.cli.annotate import annotate
from flows.cli.audit import audit, compare, demo
from flows.cli.calibrate import calibrate
from flows.cli.command import Command, Group
from flows.cli.init import init
from flows.cli.inputs import config, data, doctor, figures, models
from flows.cli.prune import prune
from flows.cli.report import report
from flows.cli.serve import serve
from flows.cli.several import SeveralEquals
from flows.cli.sign import sign
from flows.cli.site import site
from flows.cli.stored import diff, export, history, show
from flows.cli.sweep import sweep
from flows.cli.verify import verify
from flows.cli.watch import watch
from flows.failures import prefect_is_lost
from flows.logs import all_lines_only, complain
from flows.signals import leave, leave_as_the_last, stoppable
from flows.terminal import stop_printing
from koda.errors import reason_of

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Find what two vision-language models see differently, say how sure that is, and report it.",
)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        import koda

        typer.echo(f"koda {koda.__version__}")
        raise typer.Exit


for _command in (
    init, audit, demo, compare, history, show, report, annotate, site, verify, sign, models, data, config, figures,
    export, doctor, align, diff, sweep, calibrate, watch, serve, prune,
):  # fmt: skip
    app.command(cls=SeveralEquals if _command is calibrate else Command)(_command)


def main() -> None:
    """Entry point of the `koda` command."""
    codes: list[int] = []
    atexit.register(leave_as_the_last, codes)  # registered before what the command imports, it is called after that
    with all_lines_only(), stoppable():
        try:
            _run()
        except SystemExit as ended:
            if prefect_is_lost():
                leave(ended.code if isinstance(ended.code, int) else 0)
            if ended.code is None or isinstance(ended.code, int):
                codes.append(ended.code or 0)
            raise


def _run() -> None:
    """Run the command and write out what it has printed; where that cannot be written, say so and exit with 3."""
    try:
        try:
            app()
        finally:
            _write_out()
    except OSError as error:
        if error.filename is not None:  # another file's, which was to be told of where it is used
            raise
        complain(f"What the command prints on stdout could not be written: {reason_of(error)}.")
        stop_printing()
        raise SystemExit(3) from None


def _write_out() -> None:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # nobody reads it to its end
        stop_printing()
