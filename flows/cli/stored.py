"""The commands that read what audits left in KODA_HOME: history, show, verify, export and diff."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import AUDIT_HELP, AuditArgument, JsonOption, answer, home
from flows.cli.show_audit import show_history, show_rebuilt, show_record, show_verification
from flows.cli.show_changes import show_changes
from flows.cli.show_inputs import show_export

if TYPE_CHECKING:
    from koda.records import AuditRecord, Changes


def history(
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="First make the database again from the folders of the audits.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the audits in KODA_HOME, the latest first."""

    def work() -> list[dict[str, Any]]:
        from flows.crashed import show_crashed
        from koda.audit.history import list_audits

        if rebuild:
            from koda.audit.rebuilding import rebuild as make_again

            show_rebuilt(make_again(home()))
        show_crashed(home())
        return list_audits(home())

    answer(work, as_json, show_history)


def show(audit_id: AuditArgument, as_json: JsonOption = False) -> None:
    """Show an audit's verdict and findings."""

    def work() -> AuditRecord:
        from koda.audit.publishing import read_published

        return read_published(home(), audit_id)

    answer(work, as_json, show_record, lambda record: record.to_json().removesuffix("\n"))


def verify(
    audit: AuditArgument,
    as_json: JsonOption = False,
) -> None:
    """Check that an audit's files are still those that it wrote; exit with 1 if not."""

    def work() -> dict[str, Any]:
        from koda.audit.publishing import find_published
        from koda.audit.verification import verify_audit

        audit_id, checks = verify_audit(find_published(home(), audit))
        files = {check.name: check.problem or "ok" for check in checks}
        return {"id": audit_id, "verified": all(check.problem is None for check in checks), "files": files}

    result = answer(work, as_json, show_verification)
    raise typer.Exit(0 if result["verified"] else 1)


def export(
    audit_id: AuditArgument,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where; gets a folder for each model.")],
    layout: Annotated[str, typer.Option("--layout", help="koda or clip-retrieval.")] = "koda",
    as_json: JsonOption = False,
) -> None:
    """Write the embeddings of an audit's models as folders, which `koda compare` and other tools read."""

    def work() -> dict[str, Any]:
        from koda.audit.export import export_embeddings
        from koda.audit.publishing import read_published
        from koda.audit.rerun import config_of

        record = read_published(home(), audit_id)
        return export_embeddings(config_of(record, {}), home(), out, layout)

    answer(work, as_json, show_export)


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help=AUDIT_HELP)],
    b: Annotated[str, typer.Argument(metavar="B", help="The audit to compare with it.")],
    as_json: JsonOption = False,
) -> None:
    """Say what differs between two audits: findings, verdict, figures, settings, data and software."""

    def work() -> Changes:
        from koda.audit.history import diff_audits

        return diff_audits(home(), a, b)

    answer(work, as_json, show_changes, lambda changes: changes.model_dump_json(indent=1))
