"""Rows on their way into the database: Parquet files that a rename makes visible, merged by whoever comes next."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from koda.storage.artifacts import ArtifactStore
from koda.storage.chain import write_head
from koda.storage.marks import MARK, Mark
from koda.storage.parquet import write_parquet
from koda.storage.schema import merge_folder, migrate
from koda.storage.writing import explain_os_errors, new_folder, write_atomically

STAGING, ASIDE = "staging", "staging-aside"
_UNFINISHED, _MERGED = ".new-", ".merged-"


def stage(home: Path, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Leave rows for the next merge: all of them or none.

    Raises:
        StoreError: the disk is full, read-only or forbidden.
    """
    staging = home / STAGING
    with explain_os_errors(staging), ArtifactStore(home / "artifacts").lock("database", STAGING):
        staging.mkdir(parents=True, exist_ok=True)
        for leftover in staging.glob(f"{_UNFINISHED}*"):  # of a process that was killed: the lock is ours
            shutil.rmtree(leftover, ignore_errors=True)
        temporary = new_folder(staging, _UNFINISHED)
        try:
            for name, rows in tables.items():
                if rows:
                    columns = {column: [row.get(column) for row in rows] for column in rows[0]}
                    write_parquet(temporary / f"{name}.parquet", columns)
            write_atomically(temporary / MARK, Mark.of(temporary, {}).to_json())
            stamp = f"{time.time_ns()}-{os.getpid()}-{random.randrange(10**6):06d}"
            temporary.rename(staging / stamp)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def staged(home: Path) -> list[Path]:
    """Return the folders that wait to be merged, in the order in which they were staged."""
    staging = home / STAGING
    if not staging.is_dir():
        return []
    return sorted(path for path in staging.iterdir() if path.is_dir() and not path.name.startswith("."))


def merge_all(home: Path, connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Merge what is staged, and set aside what cannot be merged; return what people are to know.

    Folders are listed and removed while the connection is open: nobody else merges then.

    Raises:
        duckdb.Error: the database is at fault.
    """
    notes = []
    for merged in (home / STAGING).glob(f"{_MERGED}*"):  # whose removal was killed
        shutil.rmtree(merged, ignore_errors=True)
    for folder in staged(home):
        try:
            _check(folder)
            merge_folder(connection, folder, home)
        except (duckdb.Error, OSError, ValueError, pa.ArrowException) as error:
            if _fits(folder):
                raise
            place = home / ASIDE / folder.name
            place.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(place)
            notes.append(
                f"{folder} could not be stored ({str(error).splitlines()[0]}); it was set aside in {place}, and "
                "koda history --rebuild stores its audit again from the audit's folder"
            )
        else:
            # half removed it would look damaged to the next merge: one rename takes all of it out of sight
            merged = folder.rename(folder.with_name(f"{_MERGED}{folder.name}"))
            shutil.rmtree(merged, ignore_errors=True)
    write_head(connection, home)
    return notes


def _check(folder: Path) -> None:
    """Refuse rows that are not those that were staged; an older koda staged them without a mark.

    Raises:
        ValueError: they are damaged.
    """
    if not (folder / MARK).is_file():
        return
    if (fault := Mark.read(folder).fault(folder)) is not None:
        raise ValueError(fault)


def _fits(folder: Path) -> bool:
    """Tell whether the rows of a folder can be merged into an empty database, so that they are not at fault."""
    with duckdb.connect(":memory:") as empty:
        migrate(empty, folder)
        try:
            _check(folder)
            merge_folder(empty, folder, folder.parent.parent)
        except (duckdb.Error, OSError, ValueError, pa.ArrowException):
            return False
    return True
