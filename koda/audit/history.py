"""The audits of KODA_HOME, read back: the one before of the same line, and any two to compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from koda.audit.diff import Members, compare_audits, members_of, members_of_rows, nearest
from koda.audit.publishing import find_published, read_published
from koda.errors import KodaError
from koda.records import AuditRecord, Changes
from koda.storage.database import AuditStore


def with_changes(home: Path, record: AuditRecord, slices: Sequence[dict[str, Any]]) -> AuditRecord:
    """Say in a new record what changed since the last audit of its line: the same baseline, and data of one name.

    The audit before is no input of the record: it is no part of the record's key, and an audit that is asked for
    again keeps the record, and so the comparison, that was made of it the first time. Executing every step again
    (`--fresh`) compares again.

    Args:
        home: KODA_HOME.
        record: the new record.
        slices: the rows of its slices.
    """
    before = previous_audit(home, record)
    if before is None:
        return record
    was, now = _both(
        before,
        record,
        _listed(before, home / "audits" / before.id),
        members_of_rows(row for row in slices if row["in_slice"]),
    )
    findings = record.findings
    if before.data.digest == record.data.digest:
        findings = [
            finding.model_copy(update={"nearest_previous": nearest(before.id, was, place, now.get(place, frozenset()))})
            for finding in findings
            for place in [(finding.side, finding.direction)]
        ]
    changes = compare_audits(before, record, (was, now))
    return record.model_copy(update={"findings": findings, "changes": changes})


def previous_audit(home: Path, record: AuditRecord) -> AuditRecord | None:
    """Return the latest audit of the same line that ended before this one, if its folder can still be read."""
    store = AuditStore(home)
    if not store.path.is_file():
        return None
    for audit in store.audits_of_line(record.baseline.fingerprint, record.data.name):
        if audit["id"] == record.id or audit["ended"] > record.ended:
            continue
        try:
            return AuditRecord.from_json((home / "audits" / audit["id"] / "audit.json").read_bytes())
        except (OSError, KodaError):
            continue  # removed by hand, or of a newer koda
    return None


def diff_audits(home: Path, a: str, b: str) -> Changes:
    """Compare two audits, the first as the earlier one.

    Args:
        home: KODA_HOME.
        a, b: ids of audits in it, beginnings of ids, or paths of `audit.json` or the folder that it is in.

    Raises:
        ConfigError: no such audit, or several.
        DataError: a file that is no audit record.
    """
    (before, was), (after, now) = (_read(home, name) for name in (a, b))
    return compare_audits(before, after, _both(before, after, was, now))


def _read(home: Path, name: str) -> tuple[AuditRecord, Members | None]:
    record = read_published(home, name)
    return record, _listed(record, find_published(home, name))


def _listed(record: AuditRecord, folder: Path) -> Members | None:
    """The slices of an audit by the file beside its record; None where it is not there."""
    try:
        return members_of(record, (folder / "slices.csv").read_bytes())
    except (OSError, ValueError, KeyError):
        return None


def _both(before: AuditRecord, after: AuditRecord, was: Members | None, now: Members | None) -> tuple[Members, Members]:
    """The slices of two audits; where those of one are not there, the samples in the records stand for both."""
    return (members_of(before), members_of(after)) if was is None or now is None else (was, now)
