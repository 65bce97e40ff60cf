"""The `koda` command: arguments, exit codes, and what people see.

Exit codes: 0 the audit ran and the verdict is pass or warn; 1 the verdict is fail (or inconclusive
with --strict); 2 usage, configuration, data or models; 3 the run failed, or its store cannot be used.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.align import align
from flows.cli.options import FreshOption, JsonOption, JunitOption, SetOption, StrictOption, guarded, no_stale
from flows.cli.sweep import sweep
from flows.environment import settle
from flows.failures import code_of_verdict, koda_home

app = typer.Typer(
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


@app.command()
def audit(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The configuration of the audit.")],
    set_: SetOption = None,
    fresh: FreshOption = False,
    strict: StrictOption = False,
    junit: JunitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Audit a candidate model against a baseline on a data set."""

    def work() -> dict[str, Any]:
        return _run_audit(_load(config, set_), fresh)

    _answer(work, as_json, strict, junit)


@app.command()
def demo(
    pair: Annotated[str, typer.Option(help="Which models: regressed, colour or self.")] = "regressed",
    set_: SetOption = None,
    fresh: FreshOption = False,
    strict: StrictOption = False,
    junit: JunitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run an audit on the embedded data and models: three tiny CLIPs, one of them regressed."""

    def work() -> dict[str, Any]:
        from flows.demo import demo_config
        from koda.config import parse_override

        return _run_audit(demo_config(pair, koda_home(), dict(parse_override(item) for item in set_ or [])), fresh)

    _answer(work, as_json, strict, junit)


@app.command()
def compare(
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="Embeddings whose structure is looked for.")],
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE", help="Embeddings that should lack it.")],
    set_: SetOption = None,
    both: Annotated[bool, typer.Option("--both", help="Ask the reverse question too.")] = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Write the slices to a folder.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two embedding folders, without models: find what TARGET ties together and REFERENCE does not."""

    def work() -> dict[str, Any]:
        from flows.cli.show_audit import comparing
        from koda.compare import compare_folders, summarise
        from koda.config import parse_override

        settings = dict(parse_override(item) for item in set_ or [])
        with comparing(target, reference):
            return summarise(compare_folders(target, reference, settings, both=both, out=out))

    result = guarded(work, as_json)
    if as_json:
        typer.echo(json.dumps(result, indent=1))
        return
    from flows.cli.show_audit import show_comparison

    show_comparison(result)


@app.command()
def history(as_json: JsonOption = False) -> None:
    """List the audits in KODA_HOME, the latest first."""

    def work() -> list[dict[str, Any]]:
        from koda.storage.database import AuditStore

        return AuditStore(koda_home()).list_audits()

    audits = guarded(work, as_json)
    if as_json:
        typer.echo(json.dumps(audits, indent=1, default=str))
        return
    from flows.cli.show_audit import show_history

    show_history(audits)


@app.command()
def show(
    audit_id: Annotated[str, typer.Argument(metavar="ID", help="An audit's id, or the beginning of one.")],
    as_json: JsonOption = False,
) -> None:
    """Show an audit's verdict and findings."""

    def work() -> Any:
        from koda.audit.publishing import read_published

        return read_published(koda_home(), audit_id)

    record = guarded(work, as_json)
    if as_json:
        typer.echo(record.to_json(), nl=False)
        return
    from flows.cli.show_audit import show_record

    show_record(record, koda_home())


@app.command()
def verify(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The folder of an audit, or a file in it.")],
    as_json: JsonOption = False,
) -> None:
    """Check that an audit's files are still those that it wrote; exit with 1 if not."""

    def work() -> Any:
        from koda.audit.verification import verify_audit

        return verify_audit(path)

    audit_id, checks = guarded(work, as_json)
    good = all(check.problem is None for check in checks)
    if as_json:
        files = {check.name: check.problem or "ok" for check in checks}
        typer.echo(json.dumps({"id": audit_id, "verified": good, "files": files}, indent=1))
    else:
        for check in checks:
            typer.echo(_check_line(check.name, check.problem), err=True)
    raise typer.Exit(0 if good else 1)


@app.command()
def models(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The configuration of an audit.")],
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the models that a configuration names, by fingerprint, without running anything."""

    def work() -> dict[str, Any]:
        from koda.models.inspection import look_at_models

        return look_at_models(_load(config, set_))

    found = guarded(work, as_json)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    from flows.cli.show_inputs import show_models

    show_models(found)


@app.command()
def data(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The configuration of an audit.")],
    set_: SetOption = None,
    page: Annotated[int, typer.Option("--page", metavar="N", help="Which page of samples.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Show the data that a configuration names: counts, what is left out and why, a page of samples."""

    def work() -> dict[str, Any]:
        from koda.datasets.inspection import look_at_data

        return look_at_data(_load(config, set_), page)

    found = guarded(work, as_json)
    if as_json:
        typer.echo(json.dumps(found, indent=1, default=str))
        return
    from flows.cli.show_inputs import show_data

    show_data(found)


@app.command()
def export(
    audit_id: Annotated[str, typer.Argument(metavar="ID", help="An audit's id, or the beginning of one.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where; gets a folder for each model.")],
    layout: Annotated[str, typer.Option("--layout", help="koda or clip-retrieval.")] = "koda",
    as_json: JsonOption = False,
) -> None:
    """Write the embeddings of an audit's models as folders, which `koda compare` and other tools read."""

    def work() -> dict[str, Any]:
        from koda.audit.export import export_embeddings
        from koda.audit.publishing import read_published
        from koda.config import AuditConfig

        record = read_published(koda_home(), audit_id)
        return export_embeddings(AuditConfig.model_validate(record.config), koda_home(), out, layout)

    written = guarded(work, as_json)
    if as_json:
        typer.echo(json.dumps(written, indent=1))
        return
    from flows.cli.show_inputs import show_export

    show_export(written)


@app.command()
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="An audit's id, the beginning of one, or an audit.json.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The audit to compare with it.")],
    as_json: JsonOption = False,
) -> None:
    """Say what differs between two audits: findings, verdict, figures, settings, data and software."""

    def work() -> Any:
        from koda.audit.history import diff_audits

        return diff_audits(koda_home(), a, b)

    changes = guarded(work, as_json)
    if as_json:
        typer.echo(changes.model_dump_json(indent=1))
        return
    from flows.cli.show_changes import show_changes

    show_changes(changes)


@app.command()
def figures(as_json: JsonOption = False) -> None:
    """List the figures that the rules of a policy may limit."""
    from koda.policy import FIGURES

    if as_json:
        rows = {
            name: {
                "words": figure.words,
                "bad": figure.bad,
                "percent": figure.percent,
                "of_a_finding": figure.of_a_finding,
            }
            for name, figure in FIGURES.items()
        }
        typer.echo(json.dumps(rows, indent=1))
        return
    from flows.cli.show_changes import show_figures

    show_figures(FIGURES)


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Look at what is installed, which device there is, can a PDF be made; exit with 3 if no audit can run."""
    home = koda_home()
    settle(home)
    from koda.doctor import examine

    checks = examine(home)
    good = all(check.state != "fault" for check in checks)
    if as_json:
        typer.echo(json.dumps({"healthy": good, "checks": [vars(check) for check in checks]}, indent=1))
    else:
        from flows.cli.show_inputs import show_checks

        show_checks(checks)
    raise typer.Exit(0 if good else 3)


def _load(config: Path, set_: list[str] | None) -> Any:
    """Read a configuration with the changes of the command line."""
    from koda.config import load_config, parse_override

    return load_config(config, dict(parse_override(item) for item in set_ or []))


def _check_line(name: str, problem: str | None) -> str:
    return f"  {'✓' if problem is None else '✕'} {name}: {problem or 'unchanged'}"


def _run_audit(config: Any, fresh: bool) -> dict[str, Any]:
    """Prepare an audit, so that what is wrong is said at once, and run its flow in this process."""
    begun = time.monotonic()
    home = koda_home()
    settle(home)
    from koda.audit.plan import prepare
    from tasks.plans import remember

    plan = remember(prepare(config, home))
    # Prefect makes its own folder, but not those above it, and then its server never answers
    Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
    from flows.terminal import watch

    with watch(plan):
        from flows.audit import audit as audit_flow

        result = audit_flow(plan.settings, str(home), fresh)
    return {**result, "seconds_total": round(time.monotonic() - begun, 3)}


def _answer(work: Callable[[], dict[str, Any]], as_json: bool, strict: bool, junit: Path | None) -> None:
    """Run an audit, print its result and exit with the code of its verdict."""

    def audited() -> dict[str, Any]:
        no_stale(junit)
        result = work()
        if junit is None:
            return result
        from koda.policy.export import junit_xml
        from koda.records import AuditRecord
        from koda.storage import write_atomically

        record = AuditRecord.from_json(Path(result["paths"]["record"]).read_bytes())
        write_atomically(junit, junit_xml([record], strict))
        return {**result, "paths": {**result["paths"], "junit": str(junit.absolute())}}

    result = guarded(audited, as_json)
    if as_json:
        typer.echo(json.dumps(result, indent=1))
    else:
        from flows.cli.show_audit import show_result

        show_result(result)
    raise typer.Exit(code_of_verdict(result["verdict"], strict))


app.command()(align)
app.command()(sweep)


def main() -> None:
    """Entry point of the `koda` command."""
    app()
