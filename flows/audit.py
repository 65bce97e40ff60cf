"""The audit flow: one pair of models, one data set, both questions."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flows.engine import koda_flow
from koda.audit.plan import CONTROLS, EVALUATIONS, RECORDS, REPORTS, SOLUTIONS
from koda.audit.publishing import publish, report_is_stale
from koda.extraction import KIND as EMBEDDINGS
from tasks.control import control
from tasks.discover import discover
from tasks.embed import embed
from tasks.evaluate import evaluate
from tasks.plans import take_over
from tasks.record import record
from tasks.render import render
from tasks.step import Made, StepResult, run_step

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
def audit(config: dict[str, Any], home: str, fresh: bool = False) -> dict[str, Any]:
    """Audit a candidate against a baseline.

    Args:
        config: an :class:`koda.AuditConfig` as JSON.
        home: KODA_HOME, an absolute path.
        fresh: execute every step again.

    Returns:
        What `koda audit --json` prints: id, verdict, paths, steps executed and cached, timings.
    """
    started = datetime.now(UTC)
    clock = time.monotonic()
    plan = take_over(config, home)
    results: list[StepResult] = []
    for step in plan.steps():
        when: dict[str, Any] = {"started": started.isoformat()} if step.kind == RECORDS else {}
        anew = fresh or (step.kind == REPORTS and report_is_stale(plan))
        results.append(run_step(_TASKS[step.kind], step, plan, fresh=anew, **when))
    executed = [result.name for result in results if result.executed]
    published = publish(plan, started=started, executed=len(executed), steps=len(results))
    return {
        **published,
        "notes": [*published["notes"], *(result.note for result in results if result.note)],
        "steps_executed": len(executed),
        "steps_cached": len(results) - len(executed),
        "steps": [result.summary for result in results],
        "seconds": round(time.monotonic() - clock, 3),
    }
