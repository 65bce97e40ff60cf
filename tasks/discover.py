"""The discovery step: one question, what was lost or what was gained."""

from __future__ import annotations

from typing import Any

from prefect import task

from koda.audit.making import Made, make_once
from koda.audit.plan import SOLUTIONS
from koda.typing import Side
from tasks.plans import planned
from tasks.step import STEP, gpu_slot


@task(name="discover", **STEP)
def discover(key: str, config: dict[str, Any], home: str, side: Side) -> Made:
    """Solve the constrained problem of one side on the discovery samples."""
    from koda.audit.solutions import discover as solve

    plan = planned(config, home)
    with gpu_slot(plan.config.discrepancy.device, home):
        return make_once(plan, SOLUTIONS, key, lambda: solve(plan, side))
