"""The step of a calibration: one audit of two equals on one subsample, up to its figures."""

from __future__ import annotations

from typing import Any

from prefect import task

from koda.audit.making import Made, make_once
from koda.audit.plan import EVALUATIONS, SOLUTIONS
from koda.typing import SIDES
from tasks.plans import planned
from tasks.step import STEP, gpu_slot


@task(name="audit-equals", **STEP)
def audit_equals(key: str, config: dict[str, Any], home: str, size: int, subsample: int) -> Made:
    """Search both questions on a subsample and measure what was found; there is neither verdict nor report."""
    from koda.audit.evaluation import evaluate
    from koda.audit.solutions import discover
    from koda.calibration.plan import on_subsample

    plan = on_subsample(planned(config, home), size, subsample)

    def measure() -> str:
        for side in SIDES:
            make_once(plan, SOLUTIONS, plan.solution_key(side), lambda side=side: discover(plan, side))  # type: ignore[misc]
        return evaluate(plan)

    with gpu_slot(plan.config.discrepancy.device, home):
        return make_once(plan, EVALUATIONS, key, measure)
