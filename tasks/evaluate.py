"""The evaluation step: held-out tests, slices and retrieval for the directions of both sides."""

from __future__ import annotations

from typing import Any

from prefect import task

from koda.audit.making import Made, make_once
from koda.audit.plan import EVALUATIONS
from tasks.plans import planned
from tasks.step import STEP, gpu_slot


@task(name="evaluate", **STEP)
def evaluate(key: str, config: dict[str, Any], home: str) -> Made:
    """Measure what was found on samples that the search did not see."""
    from koda.audit.evaluation import evaluate as measure

    plan = planned(config, home)
    with gpu_slot(plan.config.discrepancy.device, home):
        return make_once(plan, EVALUATIONS, key, lambda: measure(plan))
