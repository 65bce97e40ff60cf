"""The control step: what the audit could have seen, and that it sees nothing where there is nothing."""

from __future__ import annotations

from typing import Any

from prefect import task

from koda.audit.making import Made, make_once
from koda.audit.plan import CONTROLS
from tasks.plans import planned
from tasks.step import STEP, gpu_slot


@task(name="control", **STEP)
def control(key: str, config: dict[str, Any], home: str) -> Made:
    """Put groups into the data that only one model knows, and see which of them are found."""
    from koda.audit.controls import control as run_controls

    plan = planned(config, home)
    with gpu_slot(plan.config.discrepancy.device, home):
        return make_once(plan, CONTROLS, key, lambda: run_controls(plan))
