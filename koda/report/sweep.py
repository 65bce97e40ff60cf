"""The summary of a sweep: one self-contained HTML file in the style of the reports it links to."""

from __future__ import annotations

from koda.records import SweepRecord
from koda.records.changes import Status
from koda.report import environment, text


def render_sweep(record: SweepRecord) -> bytes:
    """Draw `sweep.html` from the record of a sweep and nothing else.

    Raises:
        PrerequisiteError: the templates are not installed.
    """
    folder = environment.template_folder()
    style = environment.style(folder, "html")
    drawn = (
        environment.environment(folder)
        .get_template("sweep.html.j2")
        .render(
            sweep=record,
            matrices=record.matrices(),
            counts=_counts(record),
            ids={cell.place: f"audit-{number}" for number, cell in enumerate(record.cells, start=1)},
            style=style,
            csp=environment.policy(style, ""),
            created=text.as_utc(record.ended).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
    )
    return drawn.encode("utf-8")


def _counts(record: SweepRecord) -> str:
    """Say how many audits were asked for, how many ran, and how those came out, the worst first."""
    kinds: dict[Status, str] = {"fail": "failed", "inconclusive": "inconclusive", "warn": "warned", "pass": "passed"}
    verdicts = [cell.verdict for cell in record.cells]
    ran = len(verdicts) - verdicts.count(None)
    outcomes = ", ".join(f"{n} {word}" for kind, word in kinds.items() if (n := verdicts.count(kind)))
    asked = (
        f"{text.plural(len(verdicts), 'audit')} asked for, {'all' if ran == len(verdicts) > 1 else ran or 'none'} ran"
    )
    return f"{asked}: {outcomes}" if outcomes else asked
