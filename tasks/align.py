"""The alignment step: a model is fine-tuned on the slices of an audit."""

from __future__ import annotations

from typing import Any

from prefect import task

from koda.audit.making import Made
from tasks.plans import planned_alignment
from tasks.progress import report
from tasks.step import STEP, gpu_slot


@task(name="align", **STEP)
def align(key: str, config: dict[str, Any], home: str, settings: dict[str, Any]) -> Made:
    """Fine-tune the student of an audit whose steps are done, taking up what an interrupted run left."""
    from koda.alignment import align as train

    plan = planned_alignment(config, home, settings)
    name = f"align {plan.student}, seed {plan.config.seed}"
    executed = False

    def tell(done: int, total: int, look: Any) -> None:
        nonlocal executed
        executed = True
        if look is None:
            report(name, done, total)
            return
        retrieval = "" if look.retrieval is None else f", R@1 {look.retrieval:.3f}"
        report(f"{name}: step {look.step}, agreement {look.agreement:.3f}{retrieval}", 1, 1)

    with gpu_slot(plan.audit.config.discrepancy.device, home):
        digest = train(plan, tell)
    return {"digest": digest, "executed": executed}
