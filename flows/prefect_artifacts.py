"""What an audit leaves in Prefect for people: a table, the verdict in Markdown, and the way to the report."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from koda.audit.comparison import compared_figures
from koda.records import AuditRecord, Estimate
from koda.secrets import redact
from koda.units import Unit, bracketed, interval
from koda.wording import one_line

COMPARISON, VERDICT, REPORT, PROGRESS = "model-comparison", "verdict", "report-html", "koda-progress"
_MARKS = {"pass": "✓", "warn": "!", "fail": "✕", "inconclusive": "?"}
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|#~&])")
_LONGEST_NAME = 80


@dataclass(frozen=True)
class PrefectArtifact:
    """One artifact; those of one key are the history of it.

    Args:
        key: that it has in every run.
        type: as Prefect knows it.
        data: what is shown.
        description: in Markdown.
    """

    key: str
    type: Literal["table", "markdown", "progress"]
    data: Any
    description: str


def artifacts_of(record: AuditRecord, report: Path) -> list[PrefectArtifact]:
    """Return what is to be seen of a finished audit.

    Args:
        record: of the audit.
        report: its `report.html`.
    """
    of = _in_markdown(f"{record.candidate.label} against {record.baseline.label} on {record.data.name}, {record.id}")
    link = f"[{_in_markdown(record.title)}]({report.as_uri()})"
    return [
        PrefectArtifact(COMPARISON, "table", json.dumps(_table(record)), of),
        PrefectArtifact(VERDICT, "markdown", _verdict(record), of),
        PrefectArtifact(REPORT, "markdown", link, of),
    ]


def safe_name(text: str) -> str:
    """Return a name from outside as one line without credentials, and not too long for a list."""
    line = one_line(redact(text))
    return line if len(line) <= _LONGEST_NAME else f"{line[: _LONGEST_NAME - 1]}…"


def _table(record: AuditRecord) -> list[dict[str, str]]:
    return [
        {
            "figure": safe_name(figure.name),
            "baseline": _value(figure.baseline),
            "candidate": _value(figure.candidate),
            "difference": _value(figure.difference, figure.unit, "+"),
            "interval of the difference": _interval(figure.difference, figure.unit),
        }
        for figure in compared_figures(record)
    ]


def _verdict(record: AuditRecord) -> str:
    """Say the verdict, why, what was confirmed, and what the audit could have seen."""
    names = _in_markdown(f"{record.candidate.label} against {record.baseline.label} on {record.data.name}")
    status = record.verdict.status
    lines = [f"# {_MARKS[status]} {status.upper()}", "", f"{names} (`{record.id}`)", ""]
    lines += [f"- {_in_markdown(reason)}" for reason in record.verdict.reasons]
    confirmed = [finding for finding in record.findings if finding.confirmed]
    lines += ["", "## Confirmed findings", ""]
    lines += [
        f"- {finding.side} {finding.direction}: {_in_markdown(finding.title or 'no common words')}; share "
        f"{_value(finding.target_share)}, {_interval(finding.target_share)}, against {_value(finding.reference_share)}"
        for finding in confirmed
    ] or ["None is confirmed."]
    if record.controls is not None:
        lines += ["", "## What this audit could have seen", "", _in_markdown(record.controls.in_words())]
    return "\n".join(lines)


def _value(estimate: Estimate | None, unit: Unit = "percent", sign: Literal["", "+"] = "") -> str:
    return "" if estimate is None else bracketed(estimate.value, None, None, unit, sign)


def _interval(estimate: Estimate | None, unit: Unit = "percent") -> str:
    return "" if estimate is None else interval(estimate.low, estimate.high, unit)


def _in_markdown(text: str) -> str:
    """Show a text as it is: nothing of it is markup, a link, or a picture that a browser would fetch."""
    return _MARKDOWN.sub(r"\\\1", one_line(redact(text)))
