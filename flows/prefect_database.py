"""Prefect's database in KODA_HOME: whether its server can use it. It is no evidence, and can be replaced."""

from __future__ import annotations

import contextlib
import functools
import re
import sqlite3
import time
from importlib.util import find_spec
from pathlib import Path

_REVISION = re.compile(r"""^(down_)?revision\s*=\s*["'](\w+)["']""", re.M)
# of a larger one only the first pages are looked at; this much takes 0.3 s, and is worth it: Prefect's server starts
# with most damaged pages all the same, and then no run does
_LARGEST_TO_CHECK_BYTES = 2**28


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
            if tables and "alembic_version" not in tables:
                return "it is not Prefect's"
    except sqlite3.OperationalError:
        return None  # it is locked or may not be read, and so not damaged
    except sqlite3.DatabaseError as error:
        return f"it is damaged ({error})"
    return "it was written by a newer Prefect" if _revisions_in(database) - _revisions()[0] else None


def is_up_to_date(database: Path) -> bool:
    """Tell whether Prefect's server will use a database as it is, and neither make it nor change its tables."""
    return _revisions_in(database) == _revisions()[1]


def set_aside(database: Path) -> Path:
    """Rename a database and what SQLite keeps beside it; return its new name."""
    aside = database.with_name(f"{database.name}.unusable-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    for end in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            database.with_name(database.name + end).rename(aside.with_name(aside.name + end))
    return aside


def _revisions_in(database: Path) -> set[str]:
    """Return the revisions of the tables in a database; none where there are no tables, or they cannot be read."""
    if not database.is_file():
        return set()
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=5)) as connection:
            return {version for (version,) in connection.execute("SELECT version_num FROM alembic_version")}
    except sqlite3.DatabaseError:
        return set()


@functools.cache
def _revisions() -> tuple[set[str], set[str]]:
    """Return the revisions that the installed Prefect knows, and of these the latest."""
    found_at = find_spec("prefect")  # which is not imported for its files
    assert found_at is not None and found_at.submodule_search_locations is not None
    package = Path(next(iter(found_at.submodule_search_locations)))
    folder = package / "server" / "database" / "_migrations" / "versions" / "sqlite"
    found = [match for path in folder.glob("*.py") for match in _REVISION.findall(path.read_text(encoding="utf-8"))]
    known, followed = ({name for down, name in found if bool(down) == later} for later in (False, True))
    return known, known - followed
