"""How an artifact of an audit is made: once, whoever else may be at it; and all that is measured, without Prefect."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict, cast

from koda.audit.costs import Peaks, measured
from koda.audit.plan import CONTROLS, EVALUATIONS, RECORDS, REPORTS, SOLUTIONS, AuditPlan, Step, prepare
from koda.audit.references import Key
from koda.audit.runs import StepCost
from koda.config import AuditConfig
from koda.devices import device_of
from koda.typing import Side


class Made(TypedDict):
    """What a step leaves: the digest of its artifact, and whether this call made it."""

    digest: str
    executed: bool


def make_once(plan: AuditPlan, kind: str, key: str, make: Callable[[], str]) -> Made:
    """Make an artifact unless it is there; two processes never make one at the same time."""
    store = plan.artifacts
    with store.lock(kind, key):
        if store.has(kind, key):
            return {"digest": store.digest(kind, key), "executed": False}
        store.discard(kind, key)
        try:
            return {"digest": make(), "executed": True}
        except BaseException:
            store.discard(kind, key)
            raise


def measure(config: dict[str, Any], home: str) -> dict[Key, StepCost]:
    """Search, control and evaluate an audit whose embeddings are there; the work of one part, for one of a sweep.

    Args:
        config: an :class:`koda.AuditConfig` as JSON.
        home: KODA_HOME, which this process sees under the same path as the run.

    Returns:
        What each step took that was made here, by kind and key of its artifact.

    Raises:
        KodaError: as the steps raise it.
    """
    plan, costs = prepare(AuditConfig.model_validate(config), Path(home)), {}
    for step in plan.steps():
        if (make := _maker(plan, step)) is None:
            continue
        begun = time.monotonic()
        with measured() as peaks:
            made = make_once(plan, step.kind, step.key, make)
        if made["executed"]:
            costs[step.kind, step.key] = cost_of(step, plan, True, time.monotonic() - begun, peaks)
    return costs


def _maker(plan: AuditPlan, step: Step) -> Callable[[], str] | None:
    """Return what makes the artifact of a step that measures; None for one that does not."""
    from koda.audit.controls import control
    from koda.audit.evaluation import evaluate
    from koda.audit.solutions import discover

    if step.kind == SOLUTIONS:
        return lambda: discover(plan, cast(Side, step.arguments["side"]))
    return {CONTROLS: lambda: control(plan), EVALUATIONS: lambda: evaluate(plan)}.get(step.kind)


def cost_of(step: Step, plan: AuditPlan, executed: bool, seconds: float, peaks: Peaks) -> StepCost:
    """Put together what a step took; one that was not executed ran on no device."""
    device = None
    if executed:
        on_cpu = step.kind in (RECORDS, REPORTS) or _is_read(step, plan)
        device = "cpu" if on_cpu else str(device_of(plan.config.discrepancy.device))
    on_gpu = device not in (None, "cpu")
    return StepCost(
        step.name, executed, round(seconds, 3), peaks.memory, peaks.device_memory if on_gpu else None, device
    )


def _is_read(step: Step, plan: AuditPlan) -> bool:
    """Tell whether a step takes embeddings from a folder, without a model."""
    return any(model.stored and step == plan.embed_step(role) for role, model in plan.models.items())
