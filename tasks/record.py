"""The record step: the verdict, and everything the report will say."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import task

from koda.audit.making import Made, make_once
from koda.audit.plan import RECORDS
from tasks.plans import planned
from tasks.step import STEP


@task(name="record", **STEP)
def record(key: str, config: dict[str, Any], home: str, started: str) -> Made:
    """Judge the findings by the policy and write the audit record."""
    from koda.audit.recording import write_record

    plan = planned(config, home)
    return make_once(plan, RECORDS, key, lambda: write_record(plan, datetime.fromisoformat(started)))
