"""The commands that read what audits left in KODA_HOME: history, show, export and diff."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.destinations import destination
from flows.cli.options import AUDIT_HELP, AuditArgument, JsonOption, answer, home
from flows.cli.show_audit import show_history, show_rebuilt, show_record, show_unfinished
from flows.cli.show_changes import show_changes
from flows.cli.show_checkpoints import checkpoints_as_json, show_checkpoints
from flows.cli.show_inputs import show_export
from flows.cli.show_trends import show_exported_figures, show_spending, show_trend
from flows.cli.strict_json import strict_json

if TYPE_CHECKING:
    from koda.audit.selection import Selection
    from koda.audit.trends import Trend
    from koda.records import AuditRecord, Changes
    from koda.records.checkpoint import CheckpointEntry


SinceOption = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="An age such as 7d or 12h, or a date such as 2026-11-01.")
]
BaselineOption = Annotated[
    list[str] | None, typer.Option("--baseline", metavar="NAME", help="Only audits against it. Repeatable.")
]
VerdictOption = Annotated[
    list[str] | None, typer.Option("--verdict", metavar="VERDICT", help="Only audits that ended so. Repeatable.")
]
DataOption = Annotated[list[str] | None, typer.Option("--data", metavar="NAME", help="Only audits on it. Repeatable.")]


def history(
    since: SinceOption = None,
    baseline: BaselineOption = None,
    verdict: VerdictOption = None,
    data: DataOption = None,
    figure: Annotated[
        str | None, typer.Option("--figure", metavar="NAME", help="Follow a figure over the audits, the oldest first.")
    ] = None,
    costs: Annotated[bool, typer.Option("--costs", help="Show what the steps took: time, memory and device.")] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="First make the database again from the folders of the audits.")
    ] = False,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="List the checkpoints that were watched instead.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the audits in KODA_HOME, the latest first; or follow a figure, or what the steps took."""
    filtered, unfinished = any((since, baseline, verdict, data)), list[dict[str, Any]]()

    def begin() -> Selection:
        from flows.crashed import show_crashed
        from koda.audit.selection import Selection
        from koda.errors import ConfigError

        if sum((figure is not None, costs, checkpoints)) > 1:
            raise ConfigError("--figure, --costs and --checkpoints are several questions.", "Ask one at a time.")
        if checkpoints and filtered:
            raise ConfigError(
                "--checkpoints lists all checkpoints.", "Leave --since, --baseline, --verdict, --data out."
            )
        selection = Selection.of(since, baseline, verdict, data)
        if rebuild:
            from koda.audit.rebuilding import rebuild as make_again

            show_rebuilt(make_again(home()))
        show_crashed(home())
        return selection

    def listed() -> list[dict[str, Any]]:
        from koda.audit.history import list_audits, unfinished_audits

        found = list_audits(home(), begin())
        if not filtered:
            unfinished.extend(unfinished_audits(home()))
        return found

    def shown(audits: list[dict[str, Any]]) -> None:
        show_history(audits, filtered)
        show_unfinished(unfinished)

    def followed() -> Trend:
        from koda.audit.trends import trend_of

        assert figure is not None
        return trend_of(home(), figure, begin())

    def spent() -> dict[str, Any]:
        from koda.audit.spending import spending_of

        return spending_of(home(), begin())

    def watched() -> list[CheckpointEntry]:
        from koda.storage.checkpoints import list_checkpoints

        begin()
        return list_checkpoints(home())

    if checkpoints:
        answer(watched, as_json, show_checkpoints, checkpoints_as_json)
    elif figure is not None and not costs:
        answer(followed, as_json, show_trend, lambda trend: strict_json(asdict(trend)))
    elif costs:
        answer(spent, as_json, show_spending)
    else:
        answer(listed, as_json, shown)


def show(audit_id: AuditArgument, as_json: JsonOption = False) -> None:
    """Show an audit's verdict and findings."""

    def work() -> AuditRecord:
        from koda.audit.publishing import read_published

        return read_published(home(), audit_id)

    answer(work, as_json, show_record, lambda record: record.to_json().removesuffix("\n"))


def export(
    audit_id: Annotated[str | None, typer.Argument(metavar="[AUDIT]", help=AUDIT_HELP)] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Where; gets a folder for each model.")
    ] = None,
    layout: Annotated[str, typer.Option("--layout", help="koda or clip-retrieval.")] = "koda",
    figures: Annotated[
        Path | None,
        typer.Option("--figures", metavar="FILE", help="Write all figures of all audits: FILE.parquet or FILE.csv."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the embeddings of an audit's models as folders, which `koda compare` and other tools read.

    With --figures, write every figure of every audit as one table instead.
    """

    def work() -> dict[str, Any]:
        from koda.audit.export import export_embeddings
        from koda.errors import ConfigError

        if figures is not None:
            if audit_id is not None or out is not None:
                raise ConfigError(
                    "--figures writes the figures of all audits; an AUDIT and --out are for its embeddings.",
                    "Give either koda export AUDIT --out FOLDER, or koda export --figures FILE.parquet.",
                )
            from koda.audit.trends import write_figures

            with destination("--figures", figures, "file"):
                return write_figures(home(), figures)
        if audit_id is None or out is None:
            raise ConfigError(
                "It is not said what to export, or where to.",
                "Give koda export AUDIT --out FOLDER for embeddings, or koda export --figures FILE.parquet.",
            )
        from koda.audit.publishing import read_published
        from koda.audit.rerun import config_of

        with destination("--out", out):
            record = read_published(home(), audit_id)
            return export_embeddings(config_of(record, {}), home(), out, layout)

    answer(work, as_json, show_export if figures is None else show_exported_figures)


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
