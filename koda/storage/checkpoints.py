"""The ledger of checkpoints: a file for each, which is the truth, and a row of the database, which follows it.

An entry is changed under one lock, held for milliseconds; whoever audits a checkpoint holds another, the claim, which
the kernel takes back from a process that is killed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koda.errors import StoreError
from koda.records.checkpoint import CheckpointEntry
from koda.storage.artifacts import ArtifactStore
from koda.storage.database import AuditStore
from koda.storage.digests import digest_json
from koda.storage.staging import stage
from koda.storage.writing import write_atomically

CHECKPOINTS = "checkpoints"
_BOOK = ("checkpoints", "book")
_CLAIM = "checkpoint"
_COLUMNS = (
    "id", "digest", "line", "paths", "first_seen", "changed", "state", "attempts", "audit_id", "verdict", "reason",
)  # fmt: skip


@dataclass(frozen=True)
class CheckpointLedger:
    """The ledger of one KODA_HOME."""

    home: Path

    @property
    def folder(self) -> Path:
        """Where the files of the entries lie."""
        return self.home / CHECKPOINTS

    def entries(self) -> list[CheckpointEntry]:
        """Return all entries, the one that changed last first; a damaged file is passed over."""
        found = [self.read(path.stem) for path in self.folder.glob("[!.]*.json") if len(path.stem) == _ID_LENGTH]
        return sorted((entry for entry in found if entry is not None), key=lambda e: (e.changed, e.id), reverse=True)

    def read(self, entry: str) -> CheckpointEntry | None:
        """Return an entry by its id; None where there is none, or its file is damaged.

        Raises:
            DataError: one of a newer koda, which must not be taken for none.
        """
        path = self._path(entry)
        try:
            raw = json.loads(path.read_bytes())
            seal = raw.pop("seal")
            if seal != digest_json(raw):
                return None
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return None
        return CheckpointEntry.from_json(json.dumps(raw), str(path))

    def change(self, entry: str, how: Callable[[CheckpointEntry | None], CheckpointEntry | None]) -> CheckpointEntry:
        """Change an entry, alone: its row is staged first, so that a process killed between leaves no row behind.

        Args:
            entry: id.
            how: is given the entry as it is, None where there is none; None leaves it so.

        Raises:
            StoreError: the disk is full, read-only or forbidden.
        """
        with ArtifactStore(self.home / "artifacts").lock(*_BOOK):
            before = self.read(entry)
            after = how(before)
            if after is None or after == before:
                if before is None:
                    raise StoreError(f"There is no checkpoint {entry} in {self.folder}.")
                return before
            stage(self.home, {"checkpoints": [row_of(after)]})
            content = after.model_dump(mode="json")
            sealed = json.dumps({**content, "seal": digest_json(content)}, indent=1)
            write_atomically(self._path(entry), sealed.encode())
            return after

    @contextlib.contextmanager
    def claim(self, entry: str) -> Iterator[bool]:
        """Hold the right to audit a checkpoint, if nobody has it; tell whether it is held."""
        with ArtifactStore(self.home / "artifacts").lock_if_free(_CLAIM, entry) as free:
            yield free

    def is_claimed(self, entry: str) -> bool:
        """Tell whether somebody audits a checkpoint, without taking the claim from whoever is about to."""
        return ArtifactStore(self.home / "artifacts").is_held(_CLAIM, entry)

    def restage(self) -> int:
        """Stage the rows of all entries, for a database that is made again; return how many."""
        rows = [row_of(entry) for entry in self.entries()]
        if rows:
            stage(self.home, {"checkpoints": rows})
        return len(rows)

    def follow(self) -> None:
        """Bring the database up to date if it can be written now; what is staged waits otherwise."""
        with contextlib.suppress(StoreError):
            AuditStore(self.home).merge()

    def _path(self, entry: str) -> Path:
        return self.folder / f"{entry}.json"


_ID_LENGTH = len(digest_json(None))


def entry_id(digest: str, line: str) -> str:
    """Return the id of the entry of a checkpoint in a line."""
    return digest_json([digest, line])


def row_of(entry: CheckpointEntry) -> dict[str, Any]:
    """Return an entry's row in the database."""
    known = entry.model_dump(include=set(_COLUMNS))
    return {**{name: known[name] for name in _COLUMNS}, "paths": list(entry.paths)}


def list_checkpoints(home: Path) -> list[CheckpointEntry]:
    """Return the checkpoints that koda watched, the one that changed last first, by the files of the ledger alone.

    Raises:
        DataError: an entry of a newer koda.
        StoreError: they cannot be read.
    """
    try:
        return CheckpointLedger(home).entries()
    except PermissionError as error:
        raise StoreError(f"{error.filename} cannot be read: {error.strerror}.") from error
