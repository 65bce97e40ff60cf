"""A figure over the audits of KODA_HOME, and all figures of all of them as one table.

The database tells; what it does not know, since it cannot be read now or an older koda stored it, is told by the
records in the audits' folders.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from koda.audit.figures_of import figures_of
from koda.audit.folders import AUDITS, RECORD, read_record
from koda.audit.history import unknown_audits
from koda.audit.selection import EVERY_AUDIT, Selection
from koda.errors import ConfigError, KodaError, did_you_mean, nearest
from koda.policy import FIGURES
from koda.records import AuditRecord, Estimate
from koda.slicing.export import table_csv
from koda.storage import digest_json, write_atomically
from koda.storage.connection import DatabaseBusyError
from koda.storage.database import AuditStore
from koda.storage.parquet import write_parquet
from koda.storage.writing import explain_os_errors

Break = Literal["data", "policy"]
_AUDITS = """
    SELECT a.id, a.ended, a.verdict, a.baseline, a.candidate, a.dataset, a.dataset_digest, a.config,
           b.weights_digest AS baseline_weights, c.weights_digest AS candidate_weights
    FROM audits a
    LEFT JOIN models b ON b.fingerprint = a.baseline_fingerprint
    LEFT JOIN models c ON c.fingerprint = a.candidate_fingerprint
"""


@dataclass(frozen=True)
class FiguredAudit:
    """An audit as trends see it.

    Args:
        id, ended, verdict: of the audit.
        baseline, candidate: labels.
        baseline_weights, candidate_weights: digests.
        dataset, dataset_digest: name and digest of the data.
        policy_digest: of the policy as configured; the default is one too.
        figures: that it has, by name.
    """

    id: str
    ended: datetime
    verdict: str
    baseline: str
    candidate: str
    baseline_weights: str
    candidate_weights: str
    dataset: str
    dataset_digest: str
    policy_digest: str
    figures: Mapping[str, Estimate]


@dataclass(frozen=True)
class TrendPoint:
    """A figure in one audit.

    Args:
        id, ended, candidate, verdict: of the audit.
        value, low, high: the figure and its interval; None where the audit has none.
        breaks: what changed since the audit before, so that the two do not mean the same.
        data_digest, policy_digest: of the audit.
    """

    id: str
    ended: datetime
    candidate: str
    verdict: str
    value: float | None
    low: float | None
    high: float | None
    breaks: tuple[Break, ...]
    data_digest: str
    policy_digest: str


@dataclass(frozen=True)
class TrendLine:
    """The audits against one baseline, known by its weights, on data of one name, the oldest first."""

    baseline: str
    baseline_weights: str
    data: str
    points: list[TrendPoint]


@dataclass(frozen=True)
class Trend:
    """A figure over the audits, line by line.

    Args:
        figure: its name.
        words: what it is.
        bad: the side that is bad.
        lines: audits that can be compared, the line of the oldest audit first.
    """

    figure: str
    words: str
    bad: str
    lines: list[TrendLine]


def trend_of(home: Path, figure: str, selection: Selection = EVERY_AUDIT) -> Trend:
    """Follow a figure over the audits.

    Args:
        home: KODA_HOME.
        figure: one that rules of a policy may limit.
        selection: of the audits.

    Raises:
        ConfigError: no figure of that name; the nearest one is named.
        StoreError: the database is damaged.
    """
    if figure not in FIGURES:
        hint = did_you_mean(nearest(figure, FIGURES, alike=0.4))
        raise ConfigError(f"No audit records the figure {figure!r}.", f"{hint} koda figures lists them.".strip())
    lines: dict[tuple[str, str], list[FiguredAudit]] = {}
    for audit in audits_with_figures(home, selection, figure):
        lines.setdefault((audit.baseline_weights, audit.dataset), []).append(audit)
    return Trend(
        figure,
        FIGURES[figure].words,
        FIGURES[figure].bad,
        [TrendLine(line[-1].baseline, weights, data, _points(line, figure)) for (weights, data), line in lines.items()],
    )


def _points(line: list[FiguredAudit], figure: str) -> list[TrendPoint]:
    points = []
    for before, audit in zip([None, *line], line, strict=False):
        breaks: list[Break] = []
        if before is not None and before.dataset_digest != audit.dataset_digest:
            breaks.append("data")
        if before is not None and before.policy_digest != audit.policy_digest:
            breaks.append("policy")
        seen = audit.figures.get(figure)
        points.append(
            TrendPoint(
                id=audit.id,
                ended=audit.ended,
                candidate=audit.candidate,
                verdict=audit.verdict,
                value=None if seen is None else seen.value,
                low=None if seen is None else seen.low,
                high=None if seen is None else seen.high,
                breaks=tuple(breaks),
                data_digest=audit.dataset_digest,
                policy_digest=audit.policy_digest,
            )
        )
    return points


def audits_with_figures(
    home: Path, selection: Selection = EVERY_AUDIT, figure: str | None = None
) -> list[FiguredAudit]:
    """Return the audits with their figures, the oldest first; one whose figures nobody knows any more has none.

    Args:
        home: KODA_HOME.
        selection: of the audits.
        figure: the only one that is asked for; None for all.

    Raises:
        StoreError: the database is damaged.
    """
    store = AuditStore(home)
    try:
        rows = store.query(_AUDITS)
        figures = _stored_figures(store, figure)
        with_figures = {row["audit_id"] for row in store.query("SELECT DISTINCT audit_id FROM figures")}
    except DatabaseBusyError:
        rows, figures, with_figures = [], {}, set()
    audits = []
    for row in rows:
        if selection.holds(row):
            known = figures.get(row["id"], {}) if row["id"] in with_figures else _of_folder(home, row["id"])
            audits.append(_of_row(row, known))
    for _, record in unknown_audits(home, {row["id"] for row in rows}):
        audit = _of_record(record)
        if selection.holds(vars(audit)):
            audits.append(audit)
    return sorted(audits, key=lambda audit: (audit.ended, audit.id))


def _stored_figures(store: AuditStore, figure: str | None) -> dict[str, dict[str, Estimate]]:
    """Return audit -> figure -> estimate."""
    wanted = ("", []) if figure is None else (" WHERE figure = ?", [figure])
    by_audit: dict[str, dict[str, Estimate]] = {}
    for row in store.query(f"SELECT audit_id, figure, value, low, high FROM figures{wanted[0]}", wanted[1]):
        seen = Estimate(value=row["value"], low=row["low"], high=row["high"])
        by_audit.setdefault(row["audit_id"], {})[row["figure"]] = seen
    return by_audit


def _of_folder(home: Path, audit: str) -> dict[str, Estimate]:
    """Return the figures of an audit that an older koda stored, from its record."""
    try:
        return figures_of(read_record(home / AUDITS / audit / RECORD))
    except (OSError, KodaError):
        return {}


def _of_row(row: Mapping[str, Any], figures: Mapping[str, Estimate]) -> FiguredAudit:
    columns = {name: row[name] or "" for name in row if name not in ("config", "ended")}
    policy = json.loads(row["config"] or "{}").get("policy")
    return FiguredAudit(**columns, ended=row["ended"], policy_digest=digest_json(policy), figures=figures)


def _of_record(record: AuditRecord) -> FiguredAudit:
    return FiguredAudit(
        id=record.id,
        ended=record.ended,
        verdict=record.verdict.status,
        baseline=record.baseline.label,
        candidate=record.candidate.label,
        baseline_weights=record.baseline.weights_digest,
        candidate_weights=record.candidate.weights_digest,
        dataset=record.data.name,
        dataset_digest=record.data.digest,
        policy_digest=digest_json(record.config.get("policy")),
        figures=figures_of(record),
    )


def write_figures(home: Path, path: Path, selection: Selection = EVERY_AUDIT) -> dict[str, Any]:
    """Write every figure of every audit, a row each, as Parquet, or as CSV where the name of the file ends so.

    Args:
        home: KODA_HOME.
        path: of the file.
        selection: of the audits.

    Returns:
        The path, and how many audits and rows it holds.

    Raises:
        ConfigError: a name that says neither.
        StoreError: the database is damaged, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in (".parquet", ".csv") or path.is_dir():
        raise ConfigError(f"--figures {path} says no format.", "Give the name of a file that ends in .parquet or .csv.")
    audits = audits_with_figures(home, selection)
    rows = list(_figure_rows(audits))
    columns = [*_OF_AN_AUDIT, "figure", "value", "low", "high"]
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".csv":
            shown = ({**row, "ended": row["ended"].isoformat()} for row in rows)
            write_atomically(path, table_csv(columns, shown))
        else:
            write_parquet(path, {name: [row[name] for row in rows] for name in columns})
    return {"path": str(path.absolute()), "audits": len(audits), "rows": len(rows)}


_OF_AN_AUDIT = tuple(name for name in FiguredAudit.__dataclass_fields__ if name != "figures")


def _figure_rows(audits: Iterable[FiguredAudit]) -> Iterable[dict[str, Any]]:
    for audit in audits:
        own = {name: getattr(audit, name) for name in _OF_AN_AUDIT}
        for name, seen in audit.figures.items():
            yield {**own, "figure": name, "value": seen.value, "low": seen.low, "high": seen.high}
