"""The report step: HTML and PDF out of the record."""

from __future__ import annotations

from typing import Any

from prefect import task

from koda.audit.making import Made, make_once
from koda.audit.plan import REPORTS
from tasks.plans import planned
from tasks.step import STEP


@task(name="render", **STEP)
def render(key: str, config: dict[str, Any], home: str) -> Made:
    """Draw the report of a stored record."""
    from koda.audit.publishing import write_report

    plan = planned(config, home)
    return make_once(plan, REPORTS, key, lambda: write_report(plan))
