"""What the steps of the stored runs took: seconds, memory and device, step by step and in all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from koda.audit.selection import EVERY_AUDIT, Selection
from koda.storage.database import AuditStore

_COLUMNS = """
    count(*) FILTER (executed) AS executed,
    count(*) FILTER (NOT executed) AS cached,
    sum(s.seconds) AS seconds,
    max(peak_bytes) AS peak_bytes,
    max(peak_device_bytes) AS peak_device_bytes,
    list_sort(list(DISTINCT device) FILTER (device IS NOT NULL)) AS devices
"""
_OF_A_STEP = """
    median(s.seconds) FILTER (executed) AS median_seconds,
    max(s.seconds) FILTER (executed) AS longest_seconds
"""
# of each run what its steps leave: reading the configuration and the data, loading, starting. NULL stays NULL, which
# greatest(NULL, 0) does not
_BETWEEN = """
    SELECT run_id, any_value(r.seconds) - sum(s.seconds) AS seconds_left,
        CASE WHEN seconds_left < 0 THEN 0 ELSE seconds_left END AS between_seconds
"""
_FROM = "FROM steps s JOIN runs r USING (run_id) WHERE list_contains(?, s.audit_id) AND r.ended >= ?"
_EVER = "1970-01-01T00:00:00Z"


def spending_of(home: Path, selection: Selection = EVERY_AUDIT) -> dict[str, Any]:
    """Return what each step took over the runs that were asked for, in the order of the steps, and the total.

    A cached step has its seconds, and no part in the median. The total is that of the steps, and beside it stands what
    the runs took between them. An older koda stored no steps.

    Raises:
        StoreError: the database is damaged, or another program has it open.
    """
    store = AuditStore(home)
    audits = [audit["id"] for audit in store.list_audits() if selection.holds(audit)]
    parameters = [audits, selection.since or _EVER]
    steps = store.query(
        f"SELECT step, {_COLUMNS}, {_OF_A_STEP} {_FROM} GROUP BY step ORDER BY min(place), step",
        parameters,
    )
    total = store.query(f"SELECT count(DISTINCT run_id) AS runs, {_COLUMNS} {_FROM}", parameters)
    if not total:
        return {"steps": steps, "total": None}
    between = store.query(
        f"SELECT sum(between_seconds) AS between_seconds FROM ({_BETWEEN} {_FROM} GROUP BY run_id)", parameters
    )
    return {"steps": steps, "total": total[0] | between[0]}
