"""Prefect's database in KODA_HOME: whether its server can use it. It is no evidence, and can be replaced."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from pathlib import Path

_REVISION = re.compile(r"\d{4}_\d\d_\d\d_\d{6}_([0-9a-z]+)_")
_LARGEST_TO_CHECK_BYTES = 2**28  # of a larger one only the first pages are looked at


def fault_of(database: Path) -> str | None:
    """Say why Prefect's server cannot use a database: it is damaged, or of a newer Prefect; None where it can."""
    if not database.is_file():
        return None
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=5)) as connection:
            if database.stat().st_size <= _LARGEST_TO_CHECK_BYTES:
                (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                if found != "ok":
                    return f"it is damaged ({' '.join(str(found).split())})"
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not tables:
                return None
            if "alembic_version" not in tables:
                return "it is not Prefect's"
            versions = {version for (version,) in connection.execute("SELECT version_num FROM alembic_version")}
    except sqlite3.OperationalError:
        return None  # it is locked or may not be read, and so not damaged
    except sqlite3.DatabaseError as error:
        return f"it is damaged ({error})"
    return "it was written by a newer Prefect" if versions - _known_revisions() else None


def set_aside(database: Path) -> Path:
    """Rename a database and what SQLite keeps beside it; return its new name."""
    aside = database.with_name(f"{database.name}.unusable-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    for end in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            database.with_name(database.name + end).rename(aside.with_name(aside.name + end))
    return aside


def _known_revisions() -> set[str]:
    from prefect.server import database

    folder = Path(next(iter(database.__path__))) / "_migrations" / "versions" / "sqlite"
    return {found[1] for path in folder.glob("*.py") if (found := _REVISION.match(path.name))}
