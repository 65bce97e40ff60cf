"""The embedding step: a data set through a model."""

from __future__ import annotations

from typing import Any

from prefect import task

from koda.extraction import extract
from koda.typing import Role
from tasks.plans import planned
from tasks.progress import report
from tasks.step import STEP, gpu_slot


@task(name="embed", **STEP)
def embed(key: str, config: dict[str, Any], home: str, role: Role) -> str:
    """Embed the data set with one model, taking up the shards that an interrupted run finished."""
    plan = planned(config, home)
    device = plan.config.discrepancy.device
    with gpu_slot(device):
        return extract(
            plan.artifacts,
            plan.embedded,
            plan.models[role],
            device=device,
            progress=lambda done, total: report(f"embed {role}", done, total),
        )
