"""What koda's own Prefect keeps of runs that are long over: it is no evidence, and would grow for ever."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from datetime import timedelta
from pathlib import Path

from koda.wording import counted

_AT_LEAST = timedelta(hours=2)  # Prefect deletes nothing that is younger than an hour
_RESULT = "koda-made-"


def forget(home: Path, keep: timedelta | None) -> list[str]:
    """Remove from koda's own Prefect the records of artifacts that are gone, and runs that are older than is kept.

    Nothing is done to a Prefect that is not koda's own: one whose home or database is set, in the environment or in a
    profile of Prefect's, to another place.

    Args:
        home: KODA_HOME.
        keep: how long runs are kept; None: all of them.

    Returns:
        What people are to know.
    """
    own = home / "prefect"
    if not own.is_dir() or not _is_used(own):
        return []
    forgotten = _forget_results(own / "storage", home / "artifacts")
    notes = [f"{counted(forgotten, 'record')} of pruned artifacts removed from Prefect's results."] if forgotten else []
    database = own / "prefect.db"
    if keep is None or not database.is_file():
        return notes
    try:
        return [*notes, *_forget_runs(database, max(keep, _AT_LEAST))]
    except Exception as error:  # of which nothing depends
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return [*notes, f"Prefect's old runs stay in {database}: {first}"]


def _is_used(own: Path) -> bool:
    """Tell whether Prefect's settings, wherever they are from, name a home and the database in it."""
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    url = settings.server.database.connection_url
    database = f"sqlite+aiosqlite:///{settings.home}/prefect.db"
    return settings.home.expanduser().absolute() == own and (url is None or url.get_secret_value() == database)


def _forget_results(storage: Path, artifacts: Path) -> int:
    """Remove the results of tasks whose artifact is not there any more; the next run would only find them stale."""
    there = {path.name for path in artifacts.glob("*/*") if path.is_dir()}
    forgotten = 0
    for path in storage.glob(f"{_RESULT}*"):
        if path.name.rsplit("-", 1)[-1] not in there:
            with contextlib.suppress(OSError):
                path.unlink()
                forgotten += 1
    return forgotten


def _forget_runs(database: Path, keep: timedelta) -> list[str]:
    """Delete runs by the code with which Prefect's server does it, and give the room back to the disk."""
    from flows.prefect_database import fault_of, is_up_to_date

    if fault_of(database) is not None or not is_up_to_date(database):
        return []  # the next run sets it aside, or brings it up to date
    from prefect.server.database import provide_database_interface
    from prefect.server.services.db_vacuum import vacuum_old_events, vacuum_old_flow_runs
    from prefect.settings import (
        PREFECT_SERVER_EVENTS_RETENTION_PERIOD,
        PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD,
        temporary_settings,
    )

    before, runs = _size(database), _runs(database)

    async def vacuum() -> None:
        interface = provide_database_interface()
        await vacuum_old_flow_runs(db=interface)
        await vacuum_old_events(db=interface)
        await (await interface.engine()).dispose()

    settings = {PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD: keep, PREFECT_SERVER_EVENTS_RETENTION_PERIOD: keep}
    with temporary_settings(settings):
        asyncio.run(vacuum())
    deleted = runs - _runs(database)
    if not deleted:
        return []
    with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(sqlite3.connect(database, timeout=2)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.execute("VACUUM")  # not where a run is using it
    freed = (before - _size(database)) / 1e6
    return [f"{counted(deleted, 'run')} older than --keep removed from Prefect's database, {max(freed, 0):.1f} MB."]


def _runs(database: Path) -> int:
    with contextlib.closing(sqlite3.connect(database, timeout=5)) as connection:
        (n,) = connection.execute("SELECT count(*) FROM flow_run").fetchone()
        return int(n)


def _size(database: Path) -> int:
    files = (database.with_name(database.name + end) for end in ("", "-wal", "-shm"))
    return sum(path.stat().st_size for path in files if path.is_file())
