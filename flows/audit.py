"""The audit flow: one pair of models, one data set, both questions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from flows import logs
from flows.engine import koda_flow
from flows.observation import observed
from flows.runs import marked
from koda.audit.making import Made
from koda.audit.plan import CONTROLS, EVALUATIONS, RECORDS, REPORTS, SOLUTIONS, AuditPlan
from koda.audit.publishing import publish, report_is_stale
from koda.extraction import KIND as EMBEDDINGS
from tasks.control import control
from tasks.discover import discover
from tasks.embed import embed
from tasks.evaluate import evaluate
from tasks.plans import take_over
from tasks.record import record
from tasks.render import render
from tasks.step import StepResult, run_step

if TYPE_CHECKING:
    from prefect import Task

_TASKS: dict[str, Task[..., Made]] = {
    EMBEDDINGS: embed,
    SOLUTIONS: discover,
    CONTROLS: control,
    EVALUATIONS: evaluate,
    RECORDS: record,
    REPORTS: render,
}


@koda_flow("koda-audit")
def audit(config: dict[str, Any], home: str, fresh: bool = False, trigger: str = "library") -> dict[str, Any]:
    """Audit a candidate against a baseline.

    Args:
        config: an :class:`koda.AuditConfig` as JSON.
        home: KODA_HOME, an absolute path.
        fresh: execute every step again.
        trigger: what began it: command, schedule, checkpoint, api, sweep, alignment, or library.

    Returns:
        What `koda audit --json` prints: id, verdict, paths, steps executed and cached, timings.
    """
    return run_audit(take_over(config, home), fresh, trigger)


def run_audit(plan: AuditPlan, fresh: bool = False, trigger: str = "library") -> dict[str, Any]:
    """Run the steps of an audit, within whichever flow calls it, and publish what came of them.

    Args:
        plan: the audit.
        fresh: execute every step again.
        trigger: what began it: command, schedule, checkpoint, api, sweep, alignment, or library.

    Returns:
        What `koda audit --json` prints.
    """
    clock = time.monotonic()
    with (
        marked(plan.home, plan.audit_id, plan.needs(), trigger) as run,
        observed(plan) as prefect,
        logs.fields(audit=plan.audit_id, run=run.id),
    ):
        results: list[StepResult] = []
        for step in plan.steps():
            when: dict[str, Any] = {"started": run.started.isoformat()} if step.kind == RECORDS else {}
            anew = fresh or (step.kind == REPORTS and report_is_stale(plan))
            results.append(run_step(_TASKS[step.kind], step, plan, fresh=anew, **when))
            prefect.step(len(results))
        published = publish(plan, run, [result.cost for result in results])
        prefect.finish(published)
        verdict, seconds = published["verdict"], round(time.monotonic() - clock, 3)
        logs.log("audit finished", f"{verdict}: {plan.audit_id}", verdict=verdict, seconds=seconds)
    executed = sum(result.cost.executed for result in results)
    return {
        **published,
        "notes": [*published["notes"], *(result.note for result in results if result.note)],
        "steps_executed": executed,
        "steps_cached": len(results) - executed,
        "steps": [result.summary for result in results],
        "seconds": round(time.monotonic() - clock, 3),
    }
