"""A realistic record of an alignment; every figure in it is made up."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from koda.records import (
    STATES,
    AccuracyDifference,
    AccuracyState,
    AlignmentRecord,
    Estimate,
    GroupRecord,
    GroupScores,
    GroupShares,
    RecallDifference,
    RecallState,
    Retest,
    SplitRecord,
    State,
    ValidationPoint,
)
from tests.report.factory_base import BASELINE, TOPICS, sha


def aligned(n_findings: int = 2, **changes: Any) -> AlignmentRecord:
    """Return the record of an alignment of the candidate with the baseline; `changes` replace whole fields."""
    numbers = range(1, n_findings + 1)
    lobes = [f"lost {number} {sign}" for number in numbers for sign in ("positive", "negative")]
    # on the first lobe R@1 falls from image to text; on the rest it falls by less than its interval
    more = {"all": 0.01, "rest": -0.006, **dict.fromkeys(lobes, 0.18), "lost 1 positive": -0.11}
    half = {"all": 0.02, "rest": 0.015}

    def estimate(value: float, spread: float, n: int = 2941) -> Estimate:
        return Estimate(value=value, low=value - spread, high=value + spread, n=n)

    def figures(name: str, depths: tuple[int, ...], subset: str, state: State, change: float) -> dict[str, Estimate]:
        level = 0.33 if subset in lobes else 0.6
        gain = {"before": 0.0, "after": change, "teacher": 0.2 if subset in lobes else 0.0}[state]
        return {f"{name}{k}": estimate(level + 0.03 * k + gain / k, 0.03) for k in depths}

    def recalls(state: State, subset: str) -> RecallState:
        i2t, t2i = (figures("R@", (1, 5, 10), subset, state, way) for way in (more[subset], abs(more[subset])))
        return RecallState(state=state, subset=subset, n=46, image_to_text=i2t, text_to_image=t2i)

    def changed(subset: str) -> RecallDifference:
        i2t, t2i = (
            {f"R@{k}": estimate(way / k, half.get(subset, 0.08)) for k in (1, 5, 10)}
            for way in (more[subset], abs(more[subset]))
        )
        return RecallDifference(subset=subset, n=46, n_images=46, image_to_text=i2t, text_to_image=t2i)

    made = AlignmentRecord(
        id="alignment-5f1c02",
        audit_id="audit-77b0aa",
        started=datetime(2026, 11, 22, 22, 0, 4, tzinfo=UTC),
        ended=datetime(2026, 11, 22, 22, 30, 37, tzinfo=UTC),
        koda_version="0.1.0",
        student="ViT-B-32 step 8900",
        teacher=BASELINE,
        student_fingerprint=sha("fingerprint 8900"),
        teacher_fingerprint=sha("fingerprint 8000"),
        weights_digest=sha("weights 9000"),
        role="candidate",
        side="lost",
        settings={
            "findings": None, "kernel": "polynomial", "steps": 400, "batch_size": 192, "accumulate": 1,
            "slice_share": 0.5, "rank": None, "max_retrieval_drop": 0.02,
        },
        towers=["image", "text"],
        n_parameters=151_277_312,
        n_parameters_total=151_277_313,
        groups=[
            GroupRecord(
                name=name, words=[TOPICS[int(name[5]) - 1][1 + name.endswith("negative")], "umbrella"],
                n_train=71, n_validation=14, n_held_out=46,
            )
            for name in lobes
        ],
        split=SplitRecord(
            n_train=2354, n_train_slice=140, n_validation=588, n_held_out=2941,
            train_digest=sha("train"), validation_digest=sha("validation"), held_out_digest=sha("held out"),
        ),
        looks=[
            ValidationPoint(step=step, loss=None, agreement=agreement, retrieval=retrieval)
            for step, agreement, retrieval in ((0, 0.0, 0.869), (50, 0.91, 0.913), (100, 0.97, 0.921), (150, 0.96, 0.9))
        ],
        kept_step=100,
        stopped="the agreement on the validation slices had not risen in 4 looks",
        clusters=[
            GroupScores(state=state, sample=sample, n=n, ami=ami, nmi=ami + 0.05, ari=ami - 0.1)
            for sample, n, amis in (("trained on", 248, (0.25, 0.41, 0.42)), ("held out", 291, (0.27, 0.49, 0.52)))
            for state, ami in zip(STATES, amis, strict=True)
        ],
        shares=[
            GroupShares(
                finding=f"lost {number}", state=state, share=estimate(share, 0.0004), coherence=share * 2941,
                quotient=0.0033 / share,
            )
            for number in numbers
            for state, share in zip(STATES, (0.001, 0.0032, 0.0033), strict=True)
        ],
        retests=[
            Retest(
                finding=f"lost {number}", before=estimate(0.0023, 0.0003),
                after=estimate(0.0001, 0.00005) if number == 1 else estimate(0.0017, 0.0003),
                p_before=1e-9, p_after=1.0 if number == 1 else 0.003,
            )
            for number in numbers
        ],
        materiality=0.001,
        alpha=0.05,
        retrieval=[recalls(state, subset) for subset in ("all", *lobes, "rest") for state in STATES],
        retrieval_changes=[changed(subset) for subset in ("all", *lobes, "rest")],
        zero_shot=[
            AccuracyState(state=state, subset=subset, n=46, top=figures("top-", (1, 5), subset, state, 0.1))
            for subset in ("all", *lobes, "rest")
            for state in STATES
        ],
        zero_shot_changes=[
            AccuracyDifference(subset=subset, n=46, top={f"top-{k}": estimate(0.1 / k, 0.05) for k in (1, 5)})
            for subset in ("all", *lobes, "rest")
        ],
        recovery=(0.49 - 0.27) / (0.52 - 0.27),
        device="cpu",
    )  # fmt: skip
    return made.model_copy(update=changes)
