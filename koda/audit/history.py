"""The audits of KODA_HOME, read back: the one before of the same line, and any two to compare."""

from __future__ import annotations

import contextlib
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Literal

from koda.audit.diff import Members, compare_audits, members_of
from koda.audit.folders import AUDITS, RECORD, checked_bytes, read_record
from koda.audit.publishing import find_published, read_published
from koda.audit.selection import EVERY_AUDIT, Selection
from koda.errors import KodaError
from koda.records import AuditRecord, Changes
from koda.storage.checkpoints import list_checkpoints
from koda.storage.connection import DatabaseBusyError
from koda.storage.database import AuditStore


def unknown_audits(home: Path, known: AbstractSet[str]) -> list[tuple[Path, AuditRecord]]:
    """Return the audits in folders that are none of those known; what cannot be read is passed over."""
    found = []
    for path in sorted((home / AUDITS).glob(f"*/{RECORD}")):
        if path.parent.name in known or path.parent.name.startswith("."):
            continue
        with contextlib.suppress(OSError, KodaError):
            found.append((path, read_record(path)))
    return found


def list_audits(home: Path, selection: Selection = EVERY_AUDIT) -> list[dict[str, Any]]:
    """Return the audits of the database, and those in folders that it does not know, the latest first.

    `files` says whether the folder of an audit is `there`, `gone` or `damaged`, `stored` whether the database has it.

    `stored` is None where another program has the database open to write: then only the folders tell.
    `last_state` is that of the last run: finished, failed, cancelled, timed out or crashed; `last_error` says why.

    Args:
        home: KODA_HOME.
        selection: of the audits.

    Raises:
        StoreError: the database cannot be read.
    """
    stored: bool | None = False
    try:
        audits = AuditStore(home).list_audits()
    except DatabaseBusyError:
        audits, stored = [], None
    known = {audit["id"] for audit in audits}
    audits = [{**audit, "stored": True} for audit in audits]
    audits += [
        {
            "id": record.id,
            "verdict": record.verdict.status,
            "baseline": record.baseline.label,
            "candidate": record.candidate.label,
            "dataset": record.data.name,
            "n_compared": record.data.n_compared,
            "ended": record.ended,
            "runs": 0,
            "last_run": None,
            "last_state": None,
            "last_error": None,
            "aligned_after": None if record.alignment is None else record.alignment.audit_id,
            "stored": stored,
        }
        for _, record in unknown_audits(home, known)
    ]
    shown = [{**audit, "files": _files(home / AUDITS / audit["id"])} for audit in audits if selection.holds(audit)]
    return sorted(shown, key=lambda audit: audit["last_run"] or audit["ended"], reverse=True)


def unfinished_audits(home: Path) -> list[dict[str, Any]]:
    """Return the audits of which no run has finished, each with the state of its last run, the latest first.

    One of a watched checkpoint that has gone since is left out: there is nothing to finish, and its entry says so.

    Raises:
        StoreError: the database is damaged.
    """
    try:
        rows = AuditStore(home).query(
            """
            SELECT audit_id AS id, count(*) AS runs, max(ended) AS last_run, arg_max(state, ended) AS last_state,
                   arg_max_null(error, ended) AS last_error
            FROM runs WHERE audit_id NOT IN (SELECT id FROM audits) GROUP BY audit_id ORDER BY last_run DESC, id
            """
        )
    except DatabaseBusyError:
        return []
    open_ = [
        row for row in rows if row["last_state"] != "finished" and not (home / AUDITS / row["id"] / RECORD).exists()
    ]
    if not open_:
        return []
    gone = {entry.left_off for entry in list_checkpoints(home) if entry.state == "gone"}
    return [row for row in open_ if row["id"] not in gone]


def _files(folder: Path) -> Literal["there", "gone", "damaged"]:
    if not (folder / RECORD).is_file():
        return "gone"
    try:
        checked_bytes(folder / RECORD)
    except (OSError, KodaError):
        return "damaged"
    return "there"


def diff_audits(home: Path, a: str, b: str) -> Changes:
    """Compare two audits, the first as the earlier one.

    Args:
        home: KODA_HOME.
        a, b: ids of audits in it, beginnings of ids, or paths of `audit.json` or the folder that it is in.

    Raises:
        ConfigError: no such audit, or several.
        DataError: a file that is no audit record.
        StoreError: a file of an audit that is damaged.
    """
    (before, was), (after, now) = (_read(home, name) for name in (a, b))
    return compare_audits(before, after, members_of_both(before, after, was, now))


def _read(home: Path, name: str) -> tuple[AuditRecord, Members | None]:
    record = read_published(home, name)
    return record, listed_members(record, find_published(home, name))


def listed_members(record: AuditRecord, folder: Path) -> Members | None:
    """The slices of an audit by the file beside its record; None where it is not there."""
    try:
        return members_of(record, checked_bytes(folder / "slices.csv"))
    except (OSError, ValueError, KeyError):
        return None


def members_of_both(
    before: AuditRecord, after: AuditRecord, was: Members | None, now: Members | None
) -> tuple[Members, Members]:
    """The slices of two audits; where those of one are not there, the samples in the records stand for both."""
    return (members_of(before), members_of(after)) if was is None or now is None else (was, now)
