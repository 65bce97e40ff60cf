"""The embedding step: a data set through a model."""

from __future__ import annotations

from typing import Any

from prefect import task

from koda.audit.making import Made
from koda.extraction import extract
from koda.typing import Role
from tasks.plans import planned
from tasks.progress import report
from tasks.step import STEP, gpu_slot


@task(name="embed", **STEP)
def embed(key: str, config: dict[str, Any], home: str, role: Role) -> Made:
    """Embed the data set with one model, taking up the shards that an interrupted run finished."""
    plan = planned(config, home)
    device = plan.config.discrepancy.device
    executed = False

    def tell(done: int, total: int) -> None:
        nonlocal executed
        executed = True  # of what is there already, or was made while this run waited, there is no progress
        report(f"embed {role}", done, total)

    with gpu_slot(device, home):
        digest = extract(plan.artifacts, plan.embedded, plan.models[role], device=device, progress=tell)
    return {"digest": digest, "executed": executed}
