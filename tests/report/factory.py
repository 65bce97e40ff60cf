"""A realistic audit record with drawn pictures; every figure in it is made up."""

from __future__ import annotations

import colorsys
import hashlib
import io
import random
from datetime import UTC, datetime
from typing import Any

from PIL import Image, ImageDraw

from koda.records import (
    STATES,
    AccuracyDifference,
    AccuracyRecord,
    AccuracyState,
    AlignmentRecord,
    AuditRecord,
    ClusterScores,
    DataRecord,
    Estimate,
    Finding,
    GroupRecord,
    GroupScores,
    GroupShares,
    LobeRecord,
    MapRecord,
    MethodRecord,
    Metrics,
    ModelRecord,
    OverRepresented,
    Provenance,
    QuotientCurve,
    QuotientPoint,
    RecallDifference,
    RecallRecord,
    RecallState,
    RejectionRecord,
    Retest,
    RuleResult,
    SampleRecord,
    SideMethod,
    Similarity,
    SplitRecord,
    State,
    ValidationPoint,
    Verdict,
    WholeSimilarity,
    Word,
    ZeroShotRecord,
)

BASELINE, CANDIDATE = "ViT-B-32 step 8000", "ViT-B-32 step 9000"
TOPICS = [
    ("lost", "purple", "blue", "umbrella"),
    ("lost", "night", "day", "street sign"),
    ("lost", "two", "three", "cup"),
    ("lost", "striped", "dotted", "shirt"),
    ("gained", "left of", "right of", "bench"),
    ("gained", "drawing", "photo", "dog"),
]


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def picture(seed: int, size: tuple[int, int] = (160, 120), noise: float = 0.0) -> bytes:
    """Draw a soft background with shapes on it; about what a thumbnail of a photograph weighs."""
    rng = random.Random(seed)
    hue = rng.random()
    image = Image.linear_gradient("L").resize(size)
    tint = tuple(int(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.45, 0.9))
    canvas = Image.composite(Image.new("RGB", size, tint), Image.new("RGB", size, (245, 243, 238)), image)
    draw = ImageDraw.Draw(canvas)
    for _ in range(9):
        x, y, r = rng.randrange(size[0]), rng.randrange(size[1]), rng.randrange(6, 30)
        colour = tuple(
            int(255 * c) for c in colorsys.hsv_to_rgb((hue + rng.random() * 0.3) % 1, 0.7, 0.4 + 0.6 * rng.random())
        )
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)((x - r, y - r, x + r, y + r), fill=colour)
    if noise:
        grain = Image.frombytes("L", size, rng.randbytes(size[0] * size[1]))
        canvas = Image.blend(canvas, grain.convert("RGB"), noise)
    out = io.BytesIO()
    canvas.save(out, "JPEG", quality=82)
    return out.getvalue()


def model(label: str, step: int) -> ModelRecord:
    return ModelRecord(
        label=label,
        name=f"local-dir:checkpoints/step_{step}",
        pretrained=None,
        architecture="ViT-B-32",
        weights_digest=sha(f"weights {step}"),
        config_digest=sha("config"),
        fingerprint=sha(f"fingerprint {step}"),
        activation="GELU",
        image_size=(224, 224),
        preprocessing={
            "resize": 224 if step == 8000 else 256,
            "interpolation": "bicubic",
            "mean": [0.4815, 0.4578, 0.4082],
            "std": [0.2686, 0.2613, 0.2758],
        },
        tokenizer="SimpleTokenizer (49408)",
        context_length=77,
        embedding_dim=512,
        parameters=151_277_313,
        precision="fp32",
        licence="Apache-2.0",
    )


def lobe(topic: tuple[str, str, str, str], sign: str, number: int, count: int) -> LobeRecord:
    word = topic[1] if sign == "positive" else topic[2]
    rng = random.Random(f"{topic} {sign}")
    places = ["on a beach", "beside a road", "in a kitchen", "under a tree", "in front of an old brick house"]
    samples = [
        SampleRecord(
            key=f"{number:03d}{'p' if sign == 'positive' else 'n'}{i:05d}.jpg",
            caption=f"A {word} {topic[3]} {rng.choice(places)}",
            score=(0.16 - 0.006 * i) * (1 if sign == "positive" else -0.9),
            split="confirmation" if rng.random() < 0.4 else "discovery",
            metadata={"colour": word, "camera": rng.choice(["A", "B"])},
        )
        for i in range(count)
    ]
    return LobeRecord(
        sign=sign,  # type: ignore[arg-type]
        size=46 if sign == "positive" else 39,
        samples=samples,
        words=[
            Word(text=word, z=14.2, share_in=0.93, share_out=0.04),
            Word(text=f"{word} {topic[3]}", z=9.1, share_in=0.61, share_out=0.01),
            Word(text=topic[3], z=4.4, share_in=0.66, share_out=0.12),
        ],
        metadata=[
            OverRepresented(column="colour", value=word, share_in=0.91, share_out=0.05, lift=18.2, low=13.1, high=25.3)
        ],
        near_duplicates=0.61 if sign == "positive" and topic[1] == "purple" else 0.04,
    )


def finding(index: int, gallery: int = 12) -> Finding:
    topic = TOPICS[index % len(TOPICS)]
    side = topic[0]
    direction = 1 + sum(1 for t in (TOPICS[i % len(TOPICS)] for i in range(index)) if t[0] == side)
    target, reference = (BASELINE, CANDIDATE) if side == "lost" else (CANDIDATE, BASELINE)
    value = 0.0081 / (1 + 0.55 * (direction - 1)) * (1 if side == "lost" else 0.4)
    weak = 0.00052
    return Finding(
        side=side,  # type: ignore[arg-type]
        direction=direction,
        target=target,
        reference=reference,
        target_energy=value * 1.1,
        reference_energy=0.000731,
        quotient=value * 1.1 / 0.000731,
        multiplier=3.71 + index,
        gap=4.2e-7,
        status="optimal within the tolerance",
        target_share_in_sample=value * 1.08,
        reference_share_in_sample=0.0005,
        target_share=Estimate(value=value, low=value - 0.0008, high=value + 0.0009, n=2941),
        reference_share=Estimate(value=weak, low=0.00031, high=0.00074, n=2941),
        difference=Estimate(value=value - weak, low=value - weak - 0.0008, high=value - weak + 0.0009, n=2941),
        p_value=1e-9 if value > 0.002 else 0.31,
        confirmed=value > 0.002,
        words=[topic[1], topic[2]],
        similarity={
            "target": Similarity(
                inside_positive=0.301,
                inside_negative=0.204,
                across=0.021,
                positive_to_rest=0.012,
                negative_to_rest=0.010,
            ),
            "reference": Similarity(
                inside_positive=0.142,
                inside_negative=0.133,
                across=0.138,
                positive_to_rest=0.013,
                negative_to_rest=None,
            ),
        },
        positive=lobe(topic, "positive", index, gallery),
        negative=lobe(topic, "negative", index, gallery),
    )


def side_method(target: str, reference: str) -> SideMethod:
    return SideMethod(
        target=target,
        reference=reference,
        eps=8.399e-4,
        n=2942,
        sigmas={"target": {"image": 0.301, "text": 0.288}, "reference": {"image": 0.312, "text": 0.294}},
        median_distances={"target": {"image": 0.771, "text": 0.702}, "reference": {"image": 0.780, "text": 0.735}},
        leading_eigenvalues={"target": 0.0412, "reference": 0.0405},
        features="exact",
        status="all directions are optimal within the tolerance",
        n_directions=4,
        stats={"iterations": 31, "seconds": 4.2},
    )


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


def quotients(side: str) -> QuotientCurve:
    tops = [(9 / (1 + 4 * q), 8 / (1 + 4 * q), 7 / (1 + 4 * q)) for q in (0.1, 0.3, 0.5, 0.7, 0.9)]
    points = [
        QuotientPoint(quantile=round(0.1 + 0.2 * i, 1), eps=1e-4 * (i + 1), top_1=a, top_3=b, top_5=c)
        for i, (a, b, c) in enumerate(tops)
    ]
    return QuotientCurve(side=side, n=1000, points=points)  # type: ignore[arg-type]


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


def record(n_findings: int = 6, gallery: int = 12, map_points: int = 1500, **changes: Any) -> AuditRecord:
    """Return a record with the given number of findings; `changes` replace whole fields."""
    findings = [finding(i, gallery) for i in range(n_findings)]
    top = max((f for f in findings if f.side == "lost"), key=lambda f: f.target_share.value, default=None)
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
            differences += [difference(name, 46, -0.19), difference(f"rest of {name}", 2895, 0.0)]
    made = AuditRecord(
        id="2026-11-23-vit-b-32-step-9000-3f9c1a",
        title="Nightly audit of the ViT-B-32 fine-tune",
        started=datetime(2026, 11, 23, 2, 0, 4, tzinfo=UTC),
        ended=datetime(2026, 11, 23, 2, 11, 37, tzinfo=UTC),
        verdict=Verdict(
            status="fail" if top else "pass",
            reasons=["lost.max_share is over its fail limit."] if top else ["Every rule passed."],
            rules=[
                RuleResult(
                    figure="lost.max_share",
                    observed=top.target_share if top else Estimate(value=0.0),
                    warn=0.001,
                    fail=0.002,
                    direction="above",
                    result="fail" if top else "pass",
                    owner="vision-team",
                    reason="structure that the candidate no longer has",
                ),
                RuleResult(
                    figure="gained.max_share",
                    observed=Estimate(value=0.0019, low=0.0012, high=0.0026, n=2941),
                    warn=0.002,
                    fail=None,
                    direction="above",
                    result="inconclusive" if top else "pass",
                    reason="structure that the baseline does not have",
                ),
                RuleResult(
                    figure="data.rejected",
                    observed=Estimate(value=17),
                    warn=30,
                    fail=60,
                    direction="above",
                    result="pass",
                ),
            ],
            policy_digest=sha("policy"),
        ),
        baseline=model(BASELINE, 8000),
        candidate=model(CANDIDATE, 9000),
        data=DataRecord(
            name="street-pairs-2026",
            path="data/pairs.tsv",
            digest=sha("data"),
            n_source=5900,
            n_compared=5883,
            n_discovery=2942,
            n_confirmation=2941,
            n_rejected=17,
            n_duplicate_images=12,
            n_long_captions={BASELINE: 31, CANDIDATE: 31},
            rejections=[
                RejectionRecord(key=f"bad/{i:04d}.jpg", reason="the image cannot be read: truncated") for i in range(17)
            ],
            rejection_reasons={"the image cannot be read": 14, "the caption is empty": 3},
            metadata_columns=["colour", "camera"],
            licence="CC-BY-4.0",
            source="in-house photographs",
        ),
        method=MethodRecord(
            modality="joint",
            kernel="gaussian",
            sigma_rule="0.4 times the median distance of the reference; the target's matched by leading eigenvalue",
            eps_rule="the reference share is at most 0.05 %",
            seed=0,
            split_seed=0,
            materiality=0.001,
            alpha=0.05,
            lost=side_method(BASELINE, CANDIDATE),
            gained=side_method(CANDIDATE, BASELINE),
            deviations=["ε is set by a share of the reference, not by a quantile of its eigenvalues."],
        ),
        findings=findings,
        metrics=Metrics(
            retrieval=retrieval,
            retrieval_differences=differences,
            zero_shot=zero_shot(findings),
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
        ),
        provenance=Provenance(
            koda_version="0.1.0",
            code_digest=sha("code"),
            python="3.11.7",
            platform="Linux-6.8-x86_64",
            packages={"torch": "2.15.0", "numpy": "2.4.6", "open_clip_torch": "3.2.0", "prefect": "3.8.8"},
            device="cpu",
            cpu="x86_64, 8 cores",
            threads=8,
            commit="0f3c9a1be77d",
            dirty=False,
            config_digest=sha("config.yaml"),
            artifacts={
                "embeddings of the baseline": sha("e0"),
                "embeddings of the candidate": sha("e1"),
                "directions lost": sha("d0"),
                "directions gained": sha("d1"),
            },
            determinism={"deterministic_algorithms": True, "threads": 8},
        ),
        config={
            "baseline": {"name": "local-dir:checkpoints/step_8000"},
            "candidate": {"name": "local-dir:checkpoints/step_9000"},
            "data": {"path": "data/pairs.tsv", "images": "data/photos"},
            "discrepancy": {"n_directions": 4, "max_reference_share": 0.0005, "seed": 0},
            "policy": [{"figure": "lost.max_share", "warn": 0.001, "fail": 0.002, "owner": "vision-team"}],
        },
    )
    return made.model_copy(update=changes)


def thumbnails(made: AuditRecord) -> dict[str, bytes]:
    """Draw a picture for every sample of the record's galleries."""
    keys = [s.key for f in made.findings for lobe_record in (f.positive, f.negative) for s in lobe_record.samples]
    sizes = [(160, 120), (120, 160), (160, 160), (160, 90)]
    return {key: picture(number, sizes[number % 4]) for number, key in enumerate(dict.fromkeys(keys))}
