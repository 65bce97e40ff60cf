"""How an artifact of an audit is made: once, whoever else may be at it; and all that is measured, without Prefect."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict, cast

from koda.audit.costs import measured
from koda.audit.plan import CONTROLS, EVALUATIONS, SOLUTIONS, AuditPlan, Step, prepare
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
    device = str(device_of(plan.config.discrepancy.device))
    for step in plan.steps():
        if (make := _maker(plan, step)) is None:
            continue
        begun = time.monotonic()
        with measured() as peaks:
            made = make_once(plan, step.kind, step.key, make)
        if made["executed"]:
            seconds, on_device = round(time.monotonic() - begun, 3), None if device == "cpu" else peaks.device_memory
            costs[step.kind, step.key] = StepCost(step.name, True, seconds, peaks.memory, on_device, device)
    return costs


def _maker(plan: AuditPlan, step: Step) -> Callable[[], str] | None:
    """Return what makes the artifact of a step that measures; None for one that does not."""
    from koda.audit.controls import control
    from koda.audit.evaluation import evaluate
    from koda.audit.solutions import discover

    if step.kind == SOLUTIONS:
        return lambda: discover(plan, cast(Side, step.arguments["side"]))
    return {CONTROLS: lambda: control(plan), EVALUATIONS: lambda: evaluate(plan)}.get(step.kind)
