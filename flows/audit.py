"""The audit flow: one pair of models, one data set, both questions."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow

from koda.audit.plan import EVALUATIONS, RECORDS, REPORTS, SOLUTIONS, AuditPlan
from koda.audit.publishing import publish
from koda.extraction import KIND as EMBEDDINGS
from koda.typing import Role, Side
from tasks.discover import discover
from tasks.embed import embed
from tasks.evaluate import evaluate
from tasks.plans import planned
from tasks.progress import report
from tasks.record import record
from tasks.render import render
from tasks.step import StepResult, run_step


@flow(name="koda-audit", flow_run_name="{home}", validate_parameters=False, persist_result=False)
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
    plan = planned(config, Path(home))
    seconds: dict[str, float] = {}
    results: list[StepResult] = []

    def step(name: str, call: Callable[[], StepResult]) -> None:
        report(name, 0, 1)
        begun = time.monotonic()
        result = call()
        seconds[name] = round(time.monotonic() - begun, 3)
        results.append(result)
        report(name if result.executed else f"{name} (cached)", 1, 1)

    for role in _distinct_roles(plan):
        key = plan.embedding_key(role)
        step(
            f"embed {role}",
            lambda r=role, k=key: run_step(embed, f"embed {r}", EMBEDDINGS, k, plan, fresh=fresh, role=r),
        )  # type: ignore[misc]
    sides: tuple[Side, ...] = ("lost", "gained")
    for side in sides:
        key = plan.solution_key(side)
        step(
            f"discover {side}",
            lambda s=side, k=key: run_step(discover, f"discover {s}", SOLUTIONS, k, plan, fresh=fresh, side=s),  # type: ignore[misc]
        )
    step("evaluate", lambda: run_step(evaluate, "evaluate", EVALUATIONS, plan.evaluation_key, plan, fresh=fresh))
    step(
        "record",
        lambda: run_step(record, "record", RECORDS, plan.record_key, plan, fresh=fresh, started=started.isoformat()),
    )
    step("render", lambda: run_step(render, "render", REPORTS, plan.report_key, plan, fresh=fresh))
    executed = [result.name for result in results if result.executed]
    published = publish(plan, replace=bool(executed), started=started, executed=len(executed), steps=len(results))
    return {
        **published,
        "steps_executed": len(executed),
        "steps_cached": len(results) - len(executed),
        "steps": [
            {"name": result.name, "executed": result.executed, "seconds": seconds[result.name]} for result in results
        ],
        "seconds": round(time.monotonic() - clock, 3),
    }


def _distinct_roles(plan: AuditPlan) -> list[Role]:
    """The roles whose embeddings have to be made: a model audited against itself is embedded once."""
    return list({plan.embedding_key(role): role for role in reversed(plan.models)}.values())[::-1]
