"""The chain of audits, checked: every row against its digest and the row before, and against a head kept elsewhere."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from koda.audit.folders import MANIFEST, RECORD
from koda.errors import StoreError
from koda.evidence.result import Evidence
from koda.records import AuditRecord
from koda.storage import digest_file
from koda.storage.chain import CHAIN_HEAD, ChainHead, first_fault, head_fault
from koda.storage.database import AuditStore
from koda.storage.rows import digest_of_record
from koda.wording import counted

CHAIN = "chain"
LIMIT = (
    "A chain shows that rows were changed or taken out after they were written. Whoever keeps the home can write "
    "all of it anew: against its own author it shows nothing, unless its head was kept elsewhere."
)


def chain_rows(home: Path) -> list[dict[str, Any]]:
    """Return the rows of a home's chain, in order.

    Raises:
        StoreError: the database cannot be read.
    """
    return AuditStore(home).query("SELECT * FROM chain ORDER BY seq")


def check_chain(home: Path, head: ChainHead | None = None) -> list[Evidence]:
    """Check the chain of a home.

    Args:
        home: KODA_HOME.
        head: one that was taken of it before.
    """
    try:
        rows = chain_rows(home)
    except StoreError as error:
        return [Evidence(CHAIN, "its rows", "not verified", error.message)]
    checks = []
    if not rows and head is None and not (home / CHAIN_HEAD).is_file():
        return [Evidence(CHAIN, "its rows", "not verified", "it has none yet; the next audit that is stored begins it")]
    fault = first_fault(rows)
    checks.append(Evidence(CHAIN, "its rows", "verified" if fault is None else "FAILED", fault or _length(rows)))
    if (home / CHAIN_HEAD).is_file():
        checks.append(_against(rows, home / CHAIN_HEAD))
    if head is None:
        checks.append(Evidence(CHAIN, "its head, as kept elsewhere", "not verified", "no head was given (--head FILE)"))
    elif (cut := head_fault(rows, head)) is None:
        checks.append(Evidence(CHAIN, "its head, as kept elsewhere", "verified", f"row {head.seq}"))
    else:
        checks.append(Evidence(CHAIN, "its head, as kept elsewhere", "FAILED", cut))
    return checks


def check_entry(home: Path, folder: Path, data: bytes, record: AuditRecord) -> Evidence:
    """Compare the last row of an audit in the chain with its record.

    Args:
        home: KODA_HOME.
        folder: of the audit.
        data: bytes of its `audit.json`.
        record: what they hold.
    """
    what = f"{RECORD} against its row"
    try:
        rows = [row for row in chain_rows(home) if row["audit_id"] == record.id]
    except StoreError as error:
        return Evidence(CHAIN, what, "not verified", error.message)
    if not rows:
        return Evidence(CHAIN, what, "not verified", "it has no row of this audit, which was stored without one")
    row = rows[-1]
    if row["record_digest"] not in (hashlib.sha256(data).hexdigest(), digest_of_record(record)):
        why = f"row {row['seq']} is of another record: {RECORD} or the row was changed"
        return Evidence(CHAIN, what, "FAILED", why)
    if row["manifest_digest"] and row["manifest_digest"] != digest_file(folder / MANIFEST):
        return Evidence(CHAIN, what, "verified", f"row {row['seq']}; {MANIFEST} is another: the report was drawn again")
    return Evidence(CHAIN, what, "verified", f"row {row['seq']}")


def head_of(home: Path) -> dict[str, Any] | None:
    """Return the head of a home's chain as JSON; None where there is no chain.

    Raises:
        StoreError: the database cannot be read.
    """
    rows = chain_rows(home)
    if not rows:
        return None
    return asdict(ChainHead(rows[-1]["seq"], rows[-1]["digest"], rows[-1]["audit_id"]))


def _against(rows: list[dict[str, Any]], path: Path) -> Evidence:
    what = "the chain's head in the home"
    try:
        fault = head_fault(rows, ChainHead.read(path))
    except Exception as error:
        return Evidence(CHAIN_HEAD, what, "FAILED", str(error).splitlines()[0])
    return Evidence(CHAIN_HEAD, what, "verified" if fault is None else "FAILED", fault or "")


def _length(rows: list[dict[str, Any]]) -> str:
    if rows and rows[0]["kind"] == "rebuilt":
        return f"{counted(len(rows), 'row')}; it was begun anew, and its first row holds the head of the chain before"
    return counted(len(rows), "row")
