"""How the file of the database is opened: shared to read, alone to write, and what is wrong with it in words."""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import duckdb

from koda.errors import StoreError
from koda.storage.artifacts import ArtifactStore
from koda.storage.schema import MIGRATIONS, migrate, schema_of
from koda.storage.writing import write_atomically

T = TypeVar("T")

PATIENCE_SECONDS = 5.0  # of waiting for another process's merge, which takes milliseconds
READING_SECONDS = 2.0  # what is only read is not worth more: folders tell of it too
_LITTLE_SECONDS = 0.3  # where this process has just waited in vain
_given_up: set[Path] = set()
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    # extensions beyond the core are downloads, which many of our machines cannot make
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    # so that the duckdb shell people have, which is often older than the library, opens the file
    "storage_compatibility_version": "v1.2.0",
}
_BUSY = re.compile(
    r"(IO Error: )?Could not set lock on file|"
    r"(Connection Error: )?Can't open a connection to same database file with a different configuration"
)
_HOLDER = re.compile(r"held in (?P<program>.+?) \(PID (?P<process>\d+)\)")
_FORBIDDEN = re.compile(r"Permission denied|Read-only file system|read-only mode", re.IGNORECASE)
#: DuckDB takes the one for the beginning of parameters and the other for a separator
_MISREAD = frozenset("?\\")


class DatabaseBusyError(StoreError):
    """Another program has the database open, and goes on doing so."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the database to write, its schema up to date; it is made where there is none.

    Raises:
        duckdb.Error: it is open elsewhere, damaged or forbidden.
        StoreError: a newer schema than ours.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _openable(path, write=True) as place, contextlib.closing(duckdb.connect(str(place), config=_SETTINGS)) as db:
        migrate(db, path)
        yield db


@contextlib.contextmanager
def reading(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open an existing database to read, beside others that read it; nothing is written, not even below its folder.

    Raises:
        duckdb.Error: it is open elsewhere to be written, damaged or forbidden.
        StoreError: a newer schema than ours.
    """
    with _openable(path, write=False) as place:
        # the settings are the same as those of a writer, since DuckDB shares a file within one process only then
        with contextlib.closing(duckdb.connect(str(place), read_only=True, config=_SETTINGS)) as db:
            if schema_of(db, path) == len(MIGRATIONS):
                yield db
                return
        with _copied(place) as copy, writing(copy) as db:  # of an older koda
            yield db


def patiently(path: Path, work: Callable[[], T], *, reads_only: bool = False) -> T:
    """Do work that needs the database, waiting (with jitter) while another process has it.

    Where somebody has kept it, the next one of this process waits only a moment, so that a run that asks for it several
    times does not wait each time.

    Args:
        path: of the database.
        work: what is done.
        reads_only: whether it only reads.

    Raises:
        DatabaseBusyError: the other process keeps it.
        StoreError: the database is damaged, forbidden, or on a full disk.
    """
    patience = min(PATIENCE_SECONDS, READING_SECONDS) if reads_only else PATIENCE_SECONDS
    give_up = time.monotonic() + (min(patience, _LITTLE_SECONDS) if path in _given_up else patience)
    while True:
        try:
            done = work()
            _given_up.discard(path)
            return done
        except duckdb.Error as error:
            if not _BUSY.match(str(error)):
                raise _in_words(path, error) from error
            if time.monotonic() > give_up:
                _given_up.add(path)
                holder = _HOLDER.search(str(error))
                who = f"{holder['program']} (process {holder['process']})" if holder else "another connection"
                raise DatabaseBusyError(
                    f"The database {path} is open in {who}.",
                    "Close it there; nothing is lost, the next run stores what is staged.",
                ) from error
            time.sleep(random.uniform(0.02, 0.3))


def _in_words(path: Path, error: duckdb.Error) -> StoreError:
    """Say what DuckDB objects to, and what to do."""
    what = str(error).splitlines()[0].rstrip(".! ")
    judged = what.replace(str(path.parent), "")  # not by the words of a path
    if "no space" in judged.lower():
        return StoreError(f"The database {path} cannot be used: {what}.", "Free some space and run again.")
    if _FORBIDDEN.search(judged):
        return StoreError(f"The database {path} cannot be opened: {what}.", "Have its owner let you read and write it.")
    return StoreError(
        f"The database {path} cannot be used: {what}.",
        "koda history --rebuild makes it again from the folders of the audits, and keeps this file beside it.",
    )


@contextlib.contextmanager
def _openable(path: Path, *, write: bool) -> Iterator[Path]:
    """Give the path of the database as DuckDB can take it: of a name that it misreads, a copy that is put back."""
    if not _MISREAD & set(str(path)):
        yield path
        return
    # DuckDB's lock is on the copy, so that writers need one of their own
    alone = ArtifactStore(path.parent / "artifacts").lock("database", "copy") if write else contextlib.nullcontext()
    with alone, _copied(path) as copy:
        yield copy
        if write:
            write_atomically(path, copy.read_bytes())


@contextlib.contextmanager
def _copied(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="koda-database-") as folder:
        copy = Path(folder) / path.name
        for name in (path.name, f"{path.name}.wal"):
            if path.with_name(name).exists():
                shutil.copyfile(path.with_name(name), copy.with_name(name))
        yield copy
