"""A realistic audit record with drawn pictures; every figure in it is made up."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

from koda.records import (
    AuditRecord,
    DataRecord,
    Estimate,
    Finding,
    Ledger,
    LobeRecord,
    MethodRecord,
    ModelRecord,
    OverRepresented,
    Provenance,
    RejectedKind,
    RejectionRecord,
    RuleResult,
    SampleRecord,
    SideMethod,
    Similarity,
    Verdict,
    Word,
)
from tests.report.factory_alignment import aligned
from tests.report.factory_base import BASELINE, CANDIDATE, TOPICS, picture, sha
from tests.report.factory_metrics import metrics

__all__ = ["BASELINE", "CANDIDATE", "aligned", "finding", "picture", "record", "sha", "thumbnails"]


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
        ties={"target": 0.3, "reference": 0.3},
        modality_ties={"target": {"image": 0.52, "text": 0.57}, "reference": {"image": 0.54, "text": 0.56}},
        median_distances={"target": {"image": 0.771, "text": 0.702}, "reference": {"image": 0.780, "text": 0.735}},
        leading_eigenvalues={"target": 0.0412, "reference": 0.0405},
        features="exact",
        status="all directions are optimal within the tolerance",
        n_directions=4,
        stats={"iterations": 31, "seconds": 4.2},
    )


def record(n_findings: int = 6, gallery: int = 12, map_points: int = 1500, **changes: Any) -> AuditRecord:
    """Return a record with the given number of findings; `changes` replace whole fields."""
    findings = [finding(i, gallery) for i in range(n_findings)]
    top = max((f for f in findings if f.side == "lost"), key=lambda f: f.target_share.value, default=None)
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
            n_source=7000,
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
            ledger=Ledger(
                n_source=7000,
                merged={"another caption of the same image": 100},
                n_outside_where=496,
                n_outside_limit=504,
                rejected=[
                    RejectedKind(
                        kind="the image cannot be read",
                        count=14,
                        key="bad/0000.jpg",
                        reason="the image cannot be read: no such file or directory: data/bad/0000.jpg",
                    ),
                    RejectedKind(kind="the caption is missing", count=3, key="7.jpg", reason="the caption is missing"),
                ],
                n_compared=5883,
                altered={"16 bit scaled": 21},
                notes=["its fields are separated by semicolons"],
            ),
            metadata_columns=["colour", "camera"],
            licence="CC-BY-4.0",
            source="in-house photographs",
        ),
        method=MethodRecord(
            modality="joint",
            kernel="gaussian",
            sigma_rule="target 0.39 x its median distance, reference 0.4 x its median distance: a typical tie of 0.3",
            eps_rule="a reference share of at most 0.003",
            seed=0,
            split_seed=0,
            materiality=0.001,
            alpha=0.05,
            lost=side_method(BASELINE, CANDIDATE),
            gained=side_method(CANDIDATE, BASELINE),
            deviations=["ε is set by a share of the reference, not by a quantile of its eigenvalues."],
        ),
        findings=findings,
        metrics=metrics(findings, map_points),
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
