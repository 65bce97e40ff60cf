"""The line of an audit: the audits before it against the same baseline on data of one name, and what came of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from koda.audit.diff import compare_audits, members_of_rows, nearest
from koda.audit.folders import AUDITS, RECORD, read_record
from koda.audit.history import listed_members, members_of_both, unknown_audits
from koda.errors import KodaError, StoreError
from koda.records import AuditRecord, Trend, TrendPoint
from koda.storage.database import AuditStore

MAX_POINTS = 50
_ON_WHICH_MACHINE = ("device",)  # settings that leave what is measured alone


def with_line(home: Path, record: AuditRecord, slices: Sequence[dict[str, Any]]) -> AuditRecord:
    """Say in a new record what changed since the audit before, and how the figures of its policy went over the line.

    The audit before is the latest of the line over the same data and by the same policy; without such a one the latest.

    What went before is no input of the record: it is no part of the record's key, and an audit that is asked for
    again keeps the record, and so the comparison, that was made of it the first time. Executing every step again
    (`--fresh`) compares again.

    Args:
        home: KODA_HOME.
        record: the new record.
        slices: the rows of its slices.
    """
    line = _earlier(home, record)
    latest: AuditRecord | None = None
    alike: AuditRecord | None = None
    previous: AuditRecord | None = None  # in the order of reading, which is from the latest to the oldest
    points = [_point(record)]
    left_out = 0
    for n_read, other in _readable(line):
        latest = latest or other
        if alike is None and _alike(other, record):
            alike = other
        points[-1] = points[-1].model_copy(update={"breaks": _breaks(other, previous or record)})
        points.append(_point(other))
        previous = other
        if len(points) == MAX_POINTS:
            left_out = len(line) - n_read
            break
    before = alike or latest
    if before is None:
        return record
    trend = Trend(points=points[::-1], left_out=left_out)
    return _compared(home, record, before, slices).model_copy(update={"trend": trend})


def _compared(home: Path, record: AuditRecord, before: AuditRecord, slices: Sequence[dict[str, Any]]) -> AuditRecord:
    """Say in a record what changed since another audit."""
    try:
        listed = listed_members(before, home / AUDITS / before.id)
    except KodaError:  # damaged since, which is no reason to stop this audit: the samples in its record will do
        listed = None
    was, now = members_of_both(before, record, listed, members_of_rows(row for row in slices if row["in_slice"]))
    findings = record.findings
    if before.data.digest == record.data.digest:
        findings = [
            finding.model_copy(update={"nearest_previous": nearest(before.id, was, place, now.get(place, frozenset()))})
            for finding in findings
            for place in [(finding.side, finding.direction)]
        ]
    changes = compare_audits(before, record, (was, now))
    return record.model_copy(update={"findings": findings, "changes": changes})


def _earlier(home: Path, record: AuditRecord) -> list[Path]:
    """Return the records of the audits of the line that ended before this one, the latest first.

    A baseline that was audited against itself is of a line of its own. Audits that the database does not know yet,
    since it could not be written or read, are read from their folders.
    """
    itself = _is_self(record.baseline.fingerprint, record.candidate.fingerprint)
    try:
        store = AuditStore(home)
        known = {audit["id"] for audit in store.list_audits()}
        stored = store.audits_of_line(record.baseline.weights_digest, record.data.name)
    except StoreError:
        known, stored = set(), []
    line = [
        (audit["ended"], home / AUDITS / audit["id"] / RECORD)
        for audit in stored
        if _is_self(audit["baseline_fingerprint"], audit["candidate_fingerprint"]) == itself
    ]
    line += [
        (other.ended, path)
        for path, other in unknown_audits(home, known)
        if (other.baseline.weights_digest, other.data.name) == (record.baseline.weights_digest, record.data.name)
        and _is_self(other.baseline.fingerprint, other.candidate.fingerprint) == itself
    ]
    before = [(ended, path) for ended, path in line if path.parent.name != record.id and ended <= record.ended]
    return [path for _, path in sorted(before, reverse=True)]


def _is_self(baseline: str | None, candidate: str | None) -> bool:
    return baseline == candidate


def _readable(paths: Sequence[Path]) -> Iterator[tuple[int, AuditRecord]]:
    """Yield the number of paths that were tried, and the record of the last.

    One record at a time is held; what was removed or damaged, or is of a newer koda, is passed over.
    """
    for number, path in enumerate(paths, start=1):
        try:
            yield number, read_record(path)
        except (OSError, KodaError):
            continue


def _alike(other: AuditRecord, record: AuditRecord) -> bool:
    """Return whether two audits are over the same data and by the same policy."""
    return not {"data", "policy"} & set(_breaks(other, record))


def _point(record: AuditRecord) -> TrendPoint:
    figures = {rule.figure: rule.observed for rule in reversed(record.verdict.rules) if rule.observed is not None}
    return TrendPoint(
        audit=record.id,
        candidate=record.candidate.label,
        ended=record.ended,
        verdict=record.verdict.status,
        figures=dict(reversed(figures.items())),
    )


def _breaks(before: AuditRecord, record: AuditRecord) -> list[str]:
    """Return why an audit cannot be compared with the one before."""
    differ = {
        "data": before.data.digest != record.data.digest,
        "policy": before.verdict.policy_digest != record.verdict.policy_digest,
        "settings": any(_settings_differ(before, record, name) for name in ("discrepancy", "significance")),
        "koda": before.provenance.koda_version != record.provenance.koda_version,
    }
    return [name for name, differs in differ.items() if differs]


def _settings_differ(before: AuditRecord, record: AuditRecord, name: str) -> bool:
    """Return whether settings that both audits know have other values."""
    was, now = (_section(audit.config, name) for audit in (before, record))
    return any(was[key] != now[key] for key in was.keys() & now.keys() if key not in _ON_WHICH_MACHINE)


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    return section if isinstance(section, Mapping) else {}
