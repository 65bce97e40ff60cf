"""What `koda doctor --store` looks at: the store of koda, and Prefect's database beside it."""

from __future__ import annotations

from pathlib import Path

from flows.prefect_database import fault_of
from koda.audit.consistency import check_store
from koda.checks import Check
from koda.errors import StoreError


def look_at_store(home: Path) -> list[Check]:
    """Look at everything that a home holds; nothing is written.

    Args:
        home: KODA_HOME.

    Raises:
        StoreError: there is no such folder.
    """
    if not home.is_dir():
        raise StoreError(f"There is no {home}.", "The first audit makes it; KODA_HOME says where.")
    checks = check_store(home)
    database = home / "prefect" / "prefect.db"
    if database.is_file():
        fault = fault_of(database)
        if fault is None:
            checks.append(Check("prefect", "ok", f"{database} can be used"))
        else:
            checks.append(
                Check("prefect", "note", f"{database}: {fault}", "The next run sets it aside; it proves nothing.")
            )
    return checks
