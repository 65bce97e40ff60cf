"""The chain of audits, checked: every row against its digest and the row before, and against a head kept elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb

from koda.audit.folders import ARTIFACTS, AUDITS, MANIFEST, RECORD, is_manifest_of
from koda.errors import DataError, KodaError, StoreError
from koda.evidence.result import Evidence
from koda.records import AuditRecord
from koda.storage import ArtifactStore, digest_file
from koda.storage.chain import CHAIN_HEAD, ChainHead, first_fault, head_fault, is_head_before, is_rebuilt
from koda.storage.database import AuditStore
from koda.storage.rows import digest_of_record
from koda.storage.staging import staged
from koda.wording import agreeing, counted, printable

CHAIN = "chain"
_MOST_NAMED = 5
_IN_HOME = "the chain's head in the home"
AGAINST_ROW = f"{RECORD} against its row"
LIMIT = (
    "A chain shows that rows were changed or taken out after they were written. Whoever keeps the home can write "
    "all of it anew: against its own author it shows nothing, unless its head was kept elsewhere."
)


@dataclass(frozen=True)
class StoredChain:
    """The rows of a home's chain, read once.

    Args:
        home: KODA_HOME.
        rows: in order; None where the database cannot be read.
        problem: why it cannot.
        is_lost: whether that is because there is no chain in it, or no database in the file.
        stored: ids of the audits that the database holds, and a chain with them.
        remedy: what to do where it cannot be read.
    """

    home: Path
    rows: list[dict[str, Any]] | None
    problem: str = ""
    is_lost: bool = False
    stored: tuple[str, ...] = ()
    remedy: str | None = None

    @classmethod
    def read(cls, home: Path) -> StoredChain:
        """Read the chain of a home."""
        store = AuditStore(home)
        try:
            # audits first: one that is stored between the two questions has its row in the chain then
            stored = store.query("SELECT id FROM audits WHERE record_digest IS NOT NULL")
            rows = store.query("SELECT * FROM chain ORDER BY seq")
            return cls(home, rows, stored=tuple(row["id"] for row in stored))
        except StoreError as error:
            return cls(home, None, error.message, is_lost=_is_lost(error), remedy=error.remedy)

    @property
    def head(self) -> dict[str, Any] | None:
        """The head of the chain as JSON; None where there is no chain."""
        if not self.rows:
            return None
        last = self.rows[-1]
        return asdict(ChainHead(last["seq"], last["digest"], last["audit_id"]))


def check_chain(chain: StoredChain, head: ChainHead | None = None) -> list[Evidence]:
    """Check the chain of a home.

    Args:
        chain: as it is stored.
        head: one that was taken of it before.
    """
    rows, path = chain.rows, chain.home / CHAIN_HEAD
    if rows is None and chain.is_lost and path.is_file():
        why = f"{CHAIN_HEAD} is the head of one, and none can be read any more: {chain.problem}"
        return [Evidence(CHAIN, "its rows", "FAILED", why)]
    if rows is None:
        return [Evidence(CHAIN, "its rows", "not verified", chain.problem)]
    if not rows and head is None and not path.is_file():
        return [Evidence(CHAIN, "its rows", "not verified", "it has none yet; the next audit that is stored begins it")]
    fault = first_fault(rows)
    checks = [Evidence(CHAIN, "its rows", "verified" if fault is None else "FAILED", fault or _length(rows))]
    if path.is_file():
        checks.append(_against(rows, path))
    elif rows:
        why = "it is not there, and koda leaves one with every row: somebody took it away"
        checks.append(Evidence(CHAIN_HEAD, _IN_HOME, "not verified", why))
    return [*checks, _against_kept(rows, head)]


def check_audits(chain: StoredChain) -> list[Evidence]:
    """Look for the record of each audit that the chain names, and for the row of each audit of the home.

    Args:
        chain: as it is stored.
    """
    what = "the audits of the home against it"
    if not chain.rows:
        return []  # of which its own check speaks
    found, artifacts = _Compared.of(chain), ArtifactStore(chain.home / ARTIFACTS)
    if found.faulty:  # a run that ended meanwhile left what is newer than the rows that were read
        found = _Compared.of(StoredChain.read(chain.home))
    busy = sorted(name for name in found.faulty if artifacts.is_held(AUDITS, name))
    checks = []
    if faults := "; ".join(found.faults(busy)):
        waits = bool(staged(chain.home)) and set(found.gone) <= set(busy)
        why = f"rows wait to be stored, which the next run does, and until then: {faults}" if waits else faults
        checks.append(Evidence(CHAIN, what, "not verified" if waits else "FAILED", why))
    elif not busy:
        why = f"{counted(found.n_chained, 'audit')}, each with the record that it names"
        checks.append(Evidence(CHAIN, what, "verified", why))
    if busy:
        why = f"{_listed(busy)} {agreeing(len(busy), 'is', 'are')} being stored or drawn again now"
        checks.append(Evidence(CHAIN, what, "not verified", why))
    if found.unknown:
        why = (
            f"{found.folders} has {_listed(found.unknown)}, of which it has no row: stored without one, or copied there"
        )
        checks.append(Evidence(CHAIN, what, "not verified", why))
    return checks


@dataclass(frozen=True)
class _Compared:
    """The audits of a chain, of its database and of its home, against each other.

    Args:
        folders: of all audits.
        n_chained: audits that the chain names.
        gone, other, unchained: those without a record, with another one, and without a row.
        unknown: those of the home that the chain does not name.
    """

    folders: Path
    n_chained: int
    gone: tuple[str, ...]
    other: tuple[str, ...]
    unchained: tuple[str, ...]
    unknown: tuple[str, ...]

    @classmethod
    def of(cls, chain: StoredChain) -> _Compared:
        """Compare them."""
        folders = chain.home / AUDITS
        last = {row["audit_id"]: row["record_digest"] for row in chain.rows or () if row["audit_id"]}
        there = {path.parent.name for path in folders.glob(f"[!.]*/{RECORD}")}
        other = (name for name in last.keys() & there if not _is_of(folders / name / RECORD, last[name]))
        sets = (last.keys() - there, other, set(chain.stored) - last.keys(), there - last.keys())
        return cls(folders, len(last), *(tuple(sorted(names)) for names in sets))

    @property
    def faulty(self) -> set[str]:
        """Return the audits that do not agree."""
        return {*self.gone, *self.other, *self.unchained}

    def faults(self, busy: Sequence[str]) -> list[str]:
        """Say which audits do not agree, but for those of which it cannot be said now."""
        said = (
            (self.gone, f"it names {{}}, of which {self.folders} has no {RECORD}: what lay there was taken away"),
            (self.other, f"of {{}} it names another record than lies in {self.folders}"),
            (self.unchained, "the database holds {}, of which the chain has no row: it was taken out"),
        )
        named = [([name for name in names if name not in busy], words) for names, words in said]
        return [words.replace("{}", _listed(names), 1) for names, words in named if names]


def check_entry(chain: StoredChain, folder: Path, data: bytes, record: AuditRecord) -> Evidence:
    """Compare the last row of an audit in the chain with its record.

    Args:
        chain: as it is stored.
        folder: of the audit.
        data: bytes of its `audit.json`.
        record: what they hold.
    """
    what = AGAINST_ROW
    if chain.rows is None:
        return Evidence(CHAIN, what, "not verified", chain.problem)
    rows = [row for row in chain.rows if row["audit_id"] == record.id]
    place = folder.resolve().name
    if place != record.id and any(row["audit_id"] == place for row in chain.rows):
        why = f"the folder is that of {place}, and the record in it that of {record.id}: it was put there"
        return Evidence(CHAIN, what, "FAILED", why)
    if not rows:
        return Evidence(CHAIN, what, "not verified", "it has no row of this audit, which was stored without one")
    row = rows[-1]
    if row["record_digest"] not in (hashlib.sha256(data).hexdigest(), digest_of_record(record)):
        why = f"row {row['seq']} is of another record: {RECORD} or the row was changed"
        return Evidence(CHAIN, what, "FAILED", why)
    as_then = is_manifest_of(folder, row["manifest_digest"]) if row["manifest_digest"] else True
    if as_then is None:
        why = (
            f"{RECORD} is that of row {row['seq']}, but {MANIFEST} is not, nor is it by what it says of then: "
            "the audit was annotated and run again, or the manifest was changed"
        )
        return Evidence(CHAIN, what, "not verified", why)
    since = "" if as_then else f"; since then {MANIFEST} has what was drawn again or said"
    return Evidence(CHAIN, what, "verified", f"row {row['seq']}{since}")


def _is_lost(error: StoreError) -> bool:
    """Tell whether a database could not be read because what it held is gone, and not because somebody keeps it."""
    cause = error.__cause__
    return isinstance(cause, duckdb.CatalogException) or "not a valid DuckDB database" in str(cause)


def _is_of(path: Path, digest: str) -> bool:
    """Tell whether a record is the one of a digest, as it lies there or as koda writes it."""
    try:
        return digest_file(path) == digest or digest_of_record(AuditRecord.from_json(path.read_bytes())) == digest
    except (OSError, KodaError):
        return False


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return printable(", ".join(names[:_MOST_NAMED])) + more


def _against_kept(rows: list[dict[str, Any]], head: ChainHead | None) -> Evidence:
    what = "its head, as kept elsewhere"
    if head is None:
        return Evidence(CHAIN, what, "not verified", "no head was given (--head FILE)")
    if not is_head_before(rows, head):
        fault = head_fault(rows, head)
        return Evidence(CHAIN, what, "verified" if fault is None else "FAILED", fault or f"row {head.seq}")
    if head.audit_id and all(row["audit_id"] != head.audit_id for row in rows):
        why = f"the chain was begun anew after this head, and lacks the head's own audit, {head.audit_id}"
        return Evidence(CHAIN, what, "FAILED", why)
    why = (
        "the chain was begun anew after this head, which its first row holds; the rows up to the head are no longer "
        "there. Keep the head of now in its place"
    )
    return Evidence(CHAIN, what, "not verified", why)


def _against(rows: list[dict[str, Any]], path: Path) -> Evidence:
    what = _IN_HOME
    try:
        fault = head_fault(rows, ChainHead.read(path))
    except DataError as error:
        return Evidence(CHAIN_HEAD, what, "FAILED", error.message)
    return Evidence(CHAIN_HEAD, what, "verified" if fault is None else "FAILED", fault or "")


def _length(rows: list[dict[str, Any]]) -> str:
    if is_rebuilt(rows):
        return f"{counted(len(rows), 'row')}; it was begun anew, and its first row holds the head of the chain before"
    return counted(len(rows), "row")
