"""What every command shares: its options, and how it answers or says what went wrong."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from flows.cli.destinations import destination
from flows.cli.strict_json import strict_json
from flows.environment import koda_home
from flows.failures import in_words, unexpected
from flows.logs import complain
from flows.signals import Stopped, first_signal
from flows.terminal import stop_printing
from koda.wording import printable_json

if TYPE_CHECKING:
    from koda.config import AuditConfig

T = TypeVar("T")

CONFIG_HELP = "The configuration of an audit, or the audit.json of one, whose configuration is taken."
ConfigArgument = Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help=CONFIG_HELP)]
AUDIT_HELP = "An audit's id, the beginning of one, or its folder or a file in it."
AuditArgument = Annotated[str, typer.Argument(metavar="AUDIT", help=AUDIT_HELP)]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, e.g. discrepancy.n_directions=5. Repeatable."),
]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Execute every step again.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
JunitOption = Annotated[
    Path | None, typer.Option("--junit", metavar="FILE", help="Write the rules and their results as JUnit XML.")
]
WeightsOption = Annotated[
    list[str] | None,
    typer.Option("--weights", metavar="ROLE=PATH", help="Where a model's weights lie: candidate=PATH. Repeatable."),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Exit with 1 also when the verdict is inconclusive.")]


def home() -> Path:
    """Return KODA_HOME, which need not be there yet.

    Raises:
        StoreError: a file, or a link to nowhere, stands where it or a folder above it is to be.
    """
    from koda.errors import StoreError

    path = here = koda_home()
    while not os.path.lexists(here) and here != here.parent:
        here = here.parent
    if not here.is_dir():
        what = f"a link to {here.readlink()}, which is not there" if here.is_symlink() else "a file, not a folder"
        raise StoreError(f"Results cannot lie in {path}: {here} is {what}.", "Set KODA_HOME to a folder of your own.")
    return path


def settings_of(set_: list[str] | None) -> dict[str, Any]:
    """Return the changes of `--set`, by key."""
    from koda.config import parse_override

    return dict(parse_override(item) for item in set_ or [])


def load(config: Path, set_: list[str] | None) -> AuditConfig:
    """Read the configuration in a file, or in the record of an audit, with the changes of the command line."""
    from koda.audit.rerun import load_config_or_record

    return load_config_or_record(config, settings_of(set_))


def _json(result: Any) -> str:
    return strict_json(result)


def answer(
    work: Callable[[], T],
    as_json: bool,
    show: Callable[[T], None],
    to_json: Callable[[T], str] = _json,
    junit: Path | None = None,
) -> T:
    """Run the work of a command and print what came of it; say in words what went wrong, and exit with its code.

    Args:
        work: what the command does.
        as_json: whether the result is printed as JSON on stdout instead of being shown to people.
        show: shows the result.
        to_json: writes the result as JSON.
        junit: where the command writes its verdicts, or what went wrong.

    Returns:
        The result.
    """
    result = _guarded(work, as_json, junit)
    if as_json:
        try:
            typer.echo(printable_json(to_json(result)))
        except BrokenPipeError:
            stop_printing()
    else:
        show(result)
    return result


def _guarded(work: Callable[[], T], as_json: bool, junit: Path | None) -> T:
    if isinstance(sys.stdout, io.TextIOWrapper):  # as stderr does: a terminal without UTF-8 is no reason to fail
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _make_ready(junit)
    except Exception as error:
        _tell(error, as_json, None)
    try:
        with destination("--junit", junit, "file"):
            return work()
    except Stopped as stopped:
        _fail(str(stopped), as_json, stopped.exit_code, junit)
    except Exception as error:
        _tell(error, as_json, junit)


def _tell(error: Exception, as_json: bool, junit: Path | None) -> NoReturn:
    """Say in words what went wrong, and exit with its code."""
    if (told := first_signal()) is not None:
        _fail(str(told), as_json, told.exit_code, junit)
    foreseen = in_words(error)
    if foreseen is not None:
        _fail(str(foreseen), as_json, foreseen.exit_code, junit)
    _fail(unexpected(error), as_json, 3, junit)


def _fail(message: str, as_json: bool, code: int, junit: Path | None) -> NoReturn:
    """Say what went wrong, as JSON and as JUnit XML too where that is wanted, and exit."""
    if as_json:
        typer.echo(json.dumps({"error": message, "exit_code": code}, indent=1))
    complain(message)
    if junit is not None:
        leave_error(junit, message)
    raise typer.Exit(code)


def leave_error(junit: Path, message: str) -> None:
    """Leave a test suite with an error, so that whoever looks for the verdict finds that there is none, and why.

    Args:
        junit: the file of `--junit`.
        message: what went wrong.
    """
    from koda.errors import KodaError
    from koda.policy.export import junit_xml
    from koda.storage import write_atomically

    try:
        with destination("--junit", junit, "file"):
            write_atomically(junit, junit_xml([], failed={"koda": message}))
    except (OSError, KodaError) as error:
        complain(f"There is no JUnit file. {error}")


def _make_ready(junit: Path | None) -> None:
    """Remove the JUnit file of an earlier run, which would pass for this one's if it fails.

    Raises:
        ConfigError: it cannot be written or removed.
    """
    from koda.storage.writing import explain_os_errors

    if junit is not None:
        with destination("--junit", junit, "file"), explain_os_errors(junit):
            junit.unlink(missing_ok=True)


def with_junit(
    result: dict[str, Any],
    junit: Path | None,
    strict: bool,
    audits: Sequence[str],
    failed: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Write the verdicts of a run as JUnit XML where that is wanted, and name the file in the result.

    Args:
        result: what the command prints.
        junit: the file, or None.
        strict: as on the command line.
        audits: ids of the audits that ran.
        failed: name -> reason of those that could not be run.
    """
    if junit is None:
        return result
    from koda.audit.publishing import read_published
    from koda.policy.export import junit_xml
    from koda.storage import write_atomically

    records = [read_published(home(), audit) for audit in audits]
    write_atomically(junit, junit_xml(records, strict, failed))
    return {**result, "paths": {**result["paths"], "junit": str(junit.absolute())}}
