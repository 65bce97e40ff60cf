"""The calibration flow: equals are embedded once, audited against each other on subsamples, and set the limits."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.engine import koda_flow
from flows.runs import marked
from flows.terminal import follow, notes, say
from koda.audit.plan import EVALUATIONS, Step
from koda.audit.samples import all_rejections
from koda.calibration import CalibrationPlan, EqualsPlan, needs_of, prepare_calibration, publish_calibration
from koda.config import AuditConfig, ModelSpec
from koda.storage import digest_json
from koda.wording import counted
from tasks.calibrate import audit_equals
from tasks.embed import embed
from tasks.step import StepResult, run_step


@koda_flow("koda-calibrate")
def calibrate(
    config: dict[str, Any], home: str, equals: list[dict[str, Any]], subsamples: int = 5, size: int | None = None
) -> dict[str, Any]:
    """Audit models that are held for equal against each other, and write a policy with limits beyond what they show.

    Args:
        config: an :class:`koda.AuditConfig` as JSON; its policy is calibrated.
        home: KODA_HOME, an absolute path.
        equals: the models, each a :class:`koda.config.ModelSpec` as JSON.
        subsamples: how many subsamples of the data each ordered pair is audited on, after the whole.
        size: rows of each; default: half of the data.

    Returns:
        What `koda calibrate --json` prints.
    """
    started, clock = datetime.now(UTC), time.monotonic()
    checked = AuditConfig.model_validate(config)
    specs = [ModelSpec.model_validate(spec) for spec in equals]
    plan = prepare_calibration(checked, specs, subsamples, size, Path(home))
    audits = plan.audits()
    say(
        f"[bold]{counted(len(plan.models), 'model')} held for equal[/]: {counted(len(audits), 'audit')} on "
        f"{counted(plan.dataset.n_source, 'row')} and on {counted(subsamples, 'subsample')} of {plan.size} of them",
        0,
        notes,
    )
    needed = needs_of(audits)
    with marked(plan.home, f"calibrate-{digest_json(needed)[:12]}", needed), follow():
        results = _embed(plan)
        results += [_audit(equal, plan) for equal in audits]
        record, paths = publish_calibration(plan, audits, started)
    executed = sum(result.executed for result in results)
    return {
        **record.model_dump(mode="json", exclude={"config"}),
        "paths": paths,
        "steps_executed": executed,
        "steps_cached": len(results) - executed,
        "steps": [result.summary for result in results],
        "seconds": round(time.monotonic() - clock, 3),
    }


def _embed(plan: CalibrationPlan) -> list[StepResult]:
    """Embed the whole data set with every model, and refuse it where too much of it was left out."""
    results = []
    for place, label in enumerate(plan.labels):
        whole = plan.whole(place, (place + 1) % len(plan.models))
        step = whole.embed_step("baseline")
        results.append(run_step(embed, Step(f"embed {label}", step.kind, step.key, step.arguments), whole, fresh=False))
    for place in range(1, len(plan.models)):
        all_rejections(plan.whole(0, place))
    return results


def _audit(equals: EqualsPlan, plan: CalibrationPlan) -> StepResult:
    labels = plan.labels
    where = f"subsample {equals.subsample}" if equals.subsample else "all rows"
    name = f"audit {labels[equals.candidate]} against {labels[equals.baseline]}, {where}"
    step = Step(name, EVALUATIONS, equals.audit.evaluation_key)
    return run_step(audit_equals, step, equals.whole, fresh=False, size=plan.size, subsample=equals.subsample)
