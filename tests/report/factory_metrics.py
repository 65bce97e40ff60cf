"""The figures beside the findings: recall, zero-shot, clusters, curves and the map."""

from __future__ import annotations

import random

from koda.records import (
    AccuracyDifference,
    AccuracyRecord,
    ClusterScores,
    Estimate,
    Finding,
    MapRecord,
    Metrics,
    PairedShares,
    QuotientCurve,
    QuotientPoint,
    RecallDifference,
    RecallRecord,
    ValueDifference,
    WholeSimilarity,
    ZeroShotRecord,
)
from tests.report.factory_base import BASELINE, CANDIDATE


def maps(findings: list[Finding], n: int) -> MapRecord:
    rng = random.Random(4)
    centres = [(rng.gauss(0, 6), rng.gauss(0, 6)) for _ in range(9)]
    base, cand, keys, group = [], [], [], []
    for i in range(n):
        cx, cy = rng.choice(centres)
        base.append((cx + rng.gauss(0, 1.3), cy + rng.gauss(0, 1.3)))
        cand.append((cx + rng.gauss(0, 1.5), cy + rng.gauss(0, 1.5)))
        keys.append(f"s{i}")
        group.append(0)
    for index, found in enumerate(findings, 1):
        for sign, lobe_record in ((1, found.positive), (-1, found.negative)):
            cx, cy = rng.gauss(0, 7), rng.gauss(0, 7)
            for sample in lobe_record.samples:
                tight = (cx + rng.gauss(0, 0.5), cy + rng.gauss(0, 0.5))
                loose = (rng.gauss(0, 6), rng.gauss(0, 6))
                base.append(tight if found.side == "lost" else loose)
                cand.append(loose if found.side == "lost" else tight)
                keys.append(sample.key)
                group.append(sign * index)
    return MapRecord(method="t-SNE, perplexity 30", seed=0, keys=keys, baseline=base, candidate=cand, group=group)


def recall(model_label: str, subset: str, n: int, level: float) -> RecallRecord:
    role = "baseline" if model_label == BASELINE else "candidate"

    def at(add: float) -> dict[str, Estimate]:
        return {
            f"R@{k}": Estimate(
                value=min(level + add + 0.05 * k / 2.5, 0.99),
                low=level + add + 0.02 * k - 0.03,
                high=min(level + add + 0.02 * k + 0.03, 1),
                n=n,
            )
            for k in (1, 5, 10)
        }

    return RecallRecord(
        model=model_label,
        role=role,
        subset=subset,
        n=n,
        n_gallery=2941,
        image_to_text=at(0.0),
        text_to_image=at(-0.02),
    )


def difference(subset: str, n: int, level: float) -> RecallDifference:
    at = {f"R@{k}": Estimate(value=level / k, low=level / k - 0.03, high=level / k + 0.03, n=n) for k in (1, 5, 10)}
    return RecallDifference(subset=subset, n=n, n_images=n, image_to_text=at, text_to_image=at)


def zero_shot(findings: list[Finding]) -> ZeroShotRecord:
    def top(level: float, spread: float) -> dict[str, Estimate]:
        return {
            f"top-{k}": Estimate(value=level + 0.02 * k, low=level + 0.02 * k - spread, high=level + 0.02 * k + spread)
            for k in (1, 5)
        }

    subsets = [("all", 2941, 0.71, 0.70)]
    subsets += [(f"{f.side} {f.direction} positive", 46, 0.68, 0.31) for f in findings[:3]]
    roles = (("baseline", BASELINE), ("candidate", CANDIDATE))
    return ZeroShotRecord(
        label_column="colour",
        classes=["blue", "green", "orange", "purple", "red", "yellow"],
        templates=["a photo of a {}"],
        n_labelled=2941,
        accuracies=[
            AccuracyRecord(model=m, role=role, subset=s, n=n, top=top(level, 0.03))  # type: ignore[arg-type]
            for s, n, *levels in subsets
            for (role, m), level in zip(roles, levels, strict=True)
        ],
        differences=[AccuracyDifference(subset=s, n=n, top=top(b - a - 0.06, 0.05)) for s, n, a, b in subsets],
    )


def by_value() -> list[ValueDifference]:
    def shares(fall: float, p: float) -> PairedShares:
        difference = Estimate(value=-fall, low=-fall - 0.05, high=-fall + 0.05, n=480)
        return PairedShares(baseline=0.62, candidate=0.62 - fall, difference=difference, p_value=p)

    values = [("colour", "purple", 0.31, 3e-9), ("colour", "red", 0.0, 1.0), ("camera", "A", -0.08, 0.012)]
    return [
        ValueDifference(
            column=column,
            value=value,
            n=480,
            n_images=472,
            image_to_text={"R@1": shares(fall, p), "R@10": shares(fall / 2, min(1.0, 20 * p))},
            text_to_image={"R@1": shares(0.01, 1.0), "R@10": shares(0.0, 1.0)},
            zero_shot=shares(0.02, 1.0) if column == "colour" else None,
        )
        for column, value, fall, p in values
    ]


def quotients(side: str) -> QuotientCurve:
    tops = [(9 / (1 + 4 * q), 8 / (1 + 4 * q), 7 / (1 + 4 * q)) for q in (0.1, 0.3, 0.5, 0.7, 0.9)]
    points = [
        QuotientPoint(quantile=round(0.1 + 0.2 * i, 1), eps=1e-4 * (i + 1), top_1=a, top_3=b, top_5=c)
        for i, (a, b, c) in enumerate(tops)
    ]
    return QuotientCurve(side=side, n=1000, points=points)  # type: ignore[arg-type]


def metrics(findings: list[Finding], map_points: int) -> Metrics:
    retrieval = [recall(m, "all", 2941, v) for m, v in ((BASELINE, 0.61), (CANDIDATE, 0.60))]
    for side, falls in (("lost", (0.04, 0.19)), ("gained", (0.12, 0.03))) if findings else ():
        models = ((BASELINE, 0.61 - falls[0]), (CANDIDATE, 0.60 - falls[1]))
        retrieval += [recall(m, f"found {side}", 150, v) for m, v in models]
    for f in findings[:3]:
        for sign in ("positive", "negative"):
            retrieval += [
                recall(m, f"{f.side} {f.direction} {sign}", 46, v) for m, v in ((BASELINE, 0.52), (CANDIDATE, 0.33))
            ]
    differences = [difference("all", 2941, -0.01)]
    for side, gap in (("lost", -0.16), ("gained", 0.08)) if findings else ():
        differences += [difference(f"found {side}", 150, gap), difference(f"rest of found {side}", 2791, 0.0)]
    for f in findings[:3]:
        for sign in ("positive", "negative"):
            name = f"{f.side} {f.direction} {sign}"
            gap = 0.0 if name == "lost 2 negative" else -0.19  # one slice on which the models are alike
            differences += [difference(name, 46, gap), difference(f"rest of {name}", 2895, 0.0)]
    return Metrics(
        retrieval=retrieval,
        retrieval_differences=differences,
        zero_shot=zero_shot(findings),
        by_value=by_value(),
        by_value_unmeasured={"taken": "it has 5883 values, and a category has 2 to 50"},
        clusters=[
            ClusterScores(side=s, role=r, model=m, n=150, n_directions=4, ami=v, nmi=v + 0.01, ari=v - 0.1)  # type: ignore[arg-type]
            for s, models in (("lost", (BASELINE, CANDIDATE)), ("gained", (CANDIDATE, BASELINE)))
            for r, m, v in (("target", models[0], 0.83), ("reference", models[1], 0.37))
        ],
        quotients=[quotients("lost"), quotients("gained")],
        whole={
            name: WholeSimilarity(cka=0.91, neighbours=0.67, by_chance=0.0034, k=10, n=5883)
            for name in ("image", "text")
        },
        spectra={
            "baseline": [0.0412 * 0.86**i for i in range(40)],
            "candidate": [0.0405 * 0.88**i for i in range(40)],
        },
        map=maps(findings, map_points) if map_points else None,
    )
