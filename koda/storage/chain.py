"""The chain of audits: each record that is merged adds a row, and each row holds the digest of the one before it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from koda.errors import DataError
from koda.storage.digests import digest_file, digest_json
from koda.storage.reading import read_small
from koda.storage.writing import write_atomically
from koda.wording import counted

CHAIN_HEAD = "chain-head.json"
CHAIN_TABLE = """
    CREATE TABLE chain (
        seq BIGINT PRIMARY KEY, kind TEXT, audit_id TEXT, record_digest TEXT, manifest_digest TEXT, ended TEXT,
        previous TEXT, digest TEXT
    );
    """
_FIELDS = ("seq", "kind", "audit_id", "record_digest", "manifest_digest", "ended", "previous")


@dataclass(frozen=True)
class ChainHead:
    """The last row of a chain; kept elsewhere, it shows whether the rows up to it are still there.

    Args:
        seq: its number, from 1.
        digest: of the row.
        audit_id: whose row it is, "" where it only begins a chain anew.
    """

    seq: int
    digest: str
    audit_id: str

    def to_json(self) -> bytes:
        """Return the head as it is written to a file."""
        return json.dumps(asdict(self), indent=2, sort_keys=True).encode() + b"\n"

    @classmethod
    def read(cls, path: Path) -> ChainHead:
        """Read the head of a chain.

        Raises:
            DataError: no such file, or something else in it; the message says which.
        """
        try:
            return cls._of(read_small(path))
        except ValueError as error:  # also of a file that cannot be read
            raise DataError(
                f"{path} is not the head of a chain: {error}.",
                "koda verify --chain --json prints one; KODA_HOME/chain-head.json is another.",
            ) from error

    @classmethod
    def _of(cls, data: bytes) -> ChainHead:
        """Read a head as it stands in a file.

        Raises:
            ValueError: it is something else; the message says what, as the end of a sentence.
        """
        try:
            raw = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ValueError("it holds no JSON") from error
        if isinstance(raw, dict):
            raw = raw.get("head", raw)  # what `koda verify --chain --json` answers holds it
        if not isinstance(raw, dict):
            raise ValueError("it holds no head, which is an object with seq, digest and audit_id")
        if lacking := [field.name for field in fields(cls) if field.name not in raw]:
            raise ValueError(f"it lacks {', '.join(lacking)}")
        seq, digest, audit = raw["seq"], raw["digest"], raw["audit_id"]
        if (
            not isinstance(seq, int)
            or isinstance(seq, bool)
            or not isinstance(digest, str)
            or not isinstance(audit, str)
        ):
            raise ValueError("its seq is to be a number, its digest and audit_id are to be texts")
        return cls(seq, digest, audit)


def add_to_chain(connection: duckdb.DuckDBPyConnection, audits: Sequence[dict[str, Any]], home: Path) -> None:
    """Add a row for each audit whose record is not the one that its last row names; within the caller's transaction.

    An empty chain begins with the audits that the database holds already. Where a head says that there was a chain
    before, the first row says that the chain was rebuilt, and holds the digest of that head.

    Args:
        connection: of the database.
        audits: their rows, with `id`, `record_digest` and `ended`.
        home: KODA_HOME, whose manifests and head are read.
    """
    last = connection.execute("SELECT digest FROM chain ORDER BY seq DESC LIMIT 1").fetchone()
    if last is None:
        if (home / CHAIN_HEAD).is_file():
            _append(connection, "rebuilt", "", "", "", "", previous=_former(home / CHAIN_HEAD))
        before = connection.execute(
            "SELECT id, record_digest, ended FROM audits WHERE record_digest IS NOT NULL ORDER BY ended, id"
        ).fetchall()
        audits = [dict(zip(("id", "record_digest", "ended"), row, strict=True)) for row in before] + list(audits)
    for audit in audits:
        known = connection.execute(
            "SELECT record_digest FROM chain WHERE audit_id = ? ORDER BY seq DESC LIMIT 1", [audit["id"]]
        ).fetchone()
        digest = audit.get("record_digest")
        if digest is None or (known is not None and known[0] == digest):
            continue
        name = str(audit["id"])
        manifest = _digest_of_file(home / "audits" / name / "manifest.json")
        _append(connection, "audit", name, digest, manifest, _as_text(audit.get("ended")))


def write_head(connection: duckdb.DuckDBPyConnection, home: Path) -> None:
    """Leave the head of the chain in the home, where it is not there yet."""
    row = connection.execute("SELECT seq, digest, audit_id FROM chain ORDER BY seq DESC LIMIT 1").fetchone()
    if row is None:
        return
    data, path = ChainHead(*row).to_json(), home / CHAIN_HEAD
    if not path.is_file() or path.read_bytes() != data:
        write_atomically(path, data)


def first_fault(rows: Sequence[dict[str, Any]]) -> str | None:
    """Compute every row of a chain again; say which is the first that does not hold, and why.

    Args:
        rows: of the table, by `seq`.
    """
    previous = ""
    for number, row in enumerate(rows, 1):
        if row["seq"] != number:
            return f"row {number} is missing"
        if row["digest"] != _digest(row):
            return f"row {number} ({row['audit_id'] or row['kind']}) was changed: its digest is of other content"
        begins = is_rebuilt(rows) and number == 1  # it holds the head of the chain before it
        if not begins and row["previous"] != previous:
            return f"row {number} ({row['audit_id'] or row['kind']}) does not follow the row before it"
        previous = row["digest"]
    return None


def head_fault(rows: Sequence[dict[str, Any]], head: ChainHead) -> str | None:
    """Say why a chain does not hold a head that was taken of it before; None where it does."""
    for row in rows:
        if row["digest"] == head.digest and row["seq"] == head.seq:
            return None
    if is_rebuilt(rows):
        return (
            "the chain was begun anew, and its first row holds another head: this one is older than that, or of "
            "another chain"
        )
    if len(rows) < head.seq:
        return f"the chain has {counted(len(rows), 'row')}, and its head was row {head.seq} before: its tail is cut"
    return f"row {head.seq} is another than the head says: the chain was written anew"


def is_rebuilt(rows: Sequence[dict[str, Any]]) -> bool:
    """Tell whether a chain was begun anew; its first row then holds the head of the chain before."""
    return bool(rows) and rows[0]["kind"] == "rebuilt"


def is_head_before(rows: Sequence[dict[str, Any]], head: ChainHead) -> bool:
    """Tell whether a head is that of the chain before the one that was begun anew."""
    return is_rebuilt(rows) and rows[0]["previous"] == head.digest


def _append(
    connection: duckdb.DuckDBPyConnection,
    kind: str,
    audit: str,
    record: str,
    manifest: str,
    ended: str,
    previous: str | None = None,
) -> None:
    last = connection.execute("SELECT seq, digest FROM chain ORDER BY seq DESC LIMIT 1").fetchone()
    seq, before = (0, "") if last is None else (int(last[0]), str(last[1]))
    row = dict(zip(_FIELDS, (seq + 1, kind, audit, record, manifest, ended, previous or before), strict=True))
    row["digest"] = _digest(row)
    connection.execute("INSERT INTO chain VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [*row.values()])


def _digest(row: dict[str, Any]) -> str:
    return digest_json({name: row[name] for name in _FIELDS})


def _digest_of_file(path: Path) -> str:
    try:
        return digest_file(path)
    except (OSError, ValueError):  # rows of an audit without a folder, or of a name that is no path
        return ""


def _former(path: Path) -> str:
    try:
        return ChainHead.read(path).digest
    except DataError:
        return "unreadable"


def _as_text(moment: Any) -> str:
    return moment.astimezone(UTC).isoformat() if isinstance(moment, datetime) else str(moment or "")
