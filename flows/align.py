"""The alignment flow: audit, fine-tune on the confirmed slices, and audit what came out."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from flows.audit import audit
from flows.engine import koda_flow
from flows.runs import marked
from koda.alignment import KIND, plan_alignment, read_alignment, recoveries, score_table
from koda.alignment.publishing import publish_alignment
from koda.audit.plan import Step, prepare
from koda.audit.runs import needs_also
from koda.records import RECORD_FILE, mending_of
from tasks.align import align as align_step
from tasks.plans import hand_over, take_over
from tasks.step import run_step


@koda_flow("koda-align")
def align(config: dict[str, Any], home: str, seeds: int = 1, fresh: bool = False) -> dict[str, Any]:
    """Fine-tune one model on what an audit confirmed, and audit it again.

    Args:
        config: an :class:`koda.AuditConfig` as JSON.
        home: KODA_HOME, an absolute path.
        seeds: alignments that differ in their seed only; the first one's model is audited.
        fresh: execute every step of all three again.

    Returns:
        What `koda align --json` prints.
    """
    clock = time.monotonic()
    plan = hand_over(take_over(config, home))
    with marked(plan.home, plan.audit_id.replace("audit-", "align-"), plan.needs()) as run:
        before = audit(config, home, fresh)
        trainings, records = [], []
        for number in range(seeds):
            settings = plan.config.alignment.model_copy(update={"seed": plan.config.alignment.seed + number})
            alignment = plan_alignment(plan, settings)
            step = Step(f"align, seed {settings.seed}", KIND, alignment.key)
            run = needs_also(plan.home, run, [(KIND, alignment.key)])
            training = run_step(
                align_step, step, plan, fresh=fresh, alignment=alignment, settings=settings.model_dump(mode="json")
            )
            trainings.append(training)
            records.append(read_alignment(alignment.folder / RECORD_FILE))
            if number == 0:
                folder, second = alignment.folder, alignment.follow_up
        follow_up = hand_over(prepare(second, plan.home))
        run = needs_also(plan.home, run, follow_up.needs())
        after = audit(follow_up.settings, home, fresh)
        paths = publish_alignment(plan.home, records[0], folder, after["id"])
    mending = mending_of(records[0], plan.config.significance.alpha)
    executed = sum(training.executed for training in trainings)
    steps = [training.summary for training in trainings]
    return {
        "id": records[0].id,
        "verdict": after["verdict"],
        "verdict_before": before["verdict"],
        "verdict_after": after["verdict"],
        "reasons": after["reasons"],
        "outcome": mending.sentence,
        "mended": [str(retest.finding) for retest in mending.mended],
        "still_confirmed": [str(retest.finding) for retest in mending.still_confirmed],
        "untested": [str(retest.finding) for retest in mending.untested],
        "audit_before": before["id"],
        "audit_after": after["id"],
        "student": records[0].student,
        "teacher": records[0].teacher,
        "recovery": records[0].recovery,
        "recoveries": {sample: asdict(spread) for sample, spread in recoveries(records).items()},
        "scores": [asdict(row) for row in score_table(records)],
        "retests": [retest.model_dump() for retest in records[0].retests],
        "findings": after["findings"],
        "stopped": records[0].stopped,
        "kept_step": records[0].kept_step,
        "paths": {**paths, "report_before": before["paths"]["html"], "report_after": after["paths"]["html"]},
        "notes": after["notes"],
        "steps_executed": before["steps_executed"] + executed + after["steps_executed"],
        "steps_cached": before["steps_cached"] + len(trainings) - executed + after["steps_cached"],
        "steps": [*before["steps"], *steps, *after["steps"]],
        "seconds": round(time.monotonic() - clock, 3),
    }
