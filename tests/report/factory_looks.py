"""A made-up record with everything that there is to look at: neighbours, confusions, themes, picks."""

from __future__ import annotations

import random
from typing import Any

from koda.records import (
    AuditRecord,
    ConfusionRecord,
    Finding,
    LobeRecord,
    Looks,
    Neighbour,
    SampleNeighbours,
    ShownSample,
    Theme,
)
from tests.report import factory
from tests.report.factory_base import picture

PICKS = ("top", "top", "member", "near miss")


def record(n_findings: int = 3, gallery: int = 4, map_points: int = 60, **changes: Any) -> AuditRecord:
    """Return a record whose last finding is not confirmed and whose first has neighbours and confusions."""
    made = factory.record(n_findings, gallery, map_points)
    findings = [_picked(f) for f in made.findings]
    weak = findings[-1].difference.model_copy(update={"value": 0.0004, "low": -0.0002, "high": 0.0011})
    findings[-1] = findings[-1].model_copy(update={"confirmed": False, "p_value": 0.31, "difference": weak})
    themes = [Theme(side="lost", number=1, findings=[findings[0].subset], name="purple", size=85, confirmed=True)]
    return made.model_copy(update={"findings": findings, "themes": themes, "looks": looks(findings), **changes})


def looks(findings: list[Finding]) -> Looks:
    rng = random.Random(7)
    strangers = {f"near{i}": ShownSample(caption=f"Neighbour number {i}", metadata={"colour": "red"}) for i in range(8)}
    keys = [s.key for lobe in (findings[0].positive, findings[0].negative) for s in lobe.samples]
    near = []
    for key in keys:
        two = [rng.sample(sorted(strangers), 5) for _ in range(2)]
        lists = [[Neighbour(key=k, similarity=0.9 - 0.05 * i) for i, k in enumerate(five)] for five in two]
        near.append(
            SampleNeighbours(key=key, baseline=lists[0], candidate=lists[1], shared=len(set(two[0]) & set(two[1])))
        )
    confusions = [
        ConfusionRecord(
            subset=findings[0].subset.of_lobe("positive"),
            role=role,  # type: ignore[arg-type]
            n=50,
            right=["purple", "blue"],
            chosen=["purple", "blue", "other classes"],
            counts=counts,
            n_left_out=3,
            places={key: (0, place) for key, place in zip(keys, places, strict=False)},
        )
        for role, counts, places in (
            ("candidate", [[12, 30, 3], [0, 2, 0]], (0, 1, 1)),
            ("baseline", [[45, 0, 0], [0, 2, 0]], (0, 0, 0)),
        )
    ]
    samples = strangers | {f"s{i}": ShownSample(caption=f"Place {i} of the map") for i in range(60)}
    return Looks(samples=samples, neighbours=near, confusions=confusions)


def thumbnails(made: AuditRecord) -> dict[str, bytes]:
    """Draw a picture for every sample that the record names."""
    small = {key: picture(1000 + i, (40, 30)) for i, key in enumerate(made.looks.samples)}
    return factory.thumbnails(made) | small


def _picked(found: Finding) -> Finding:
    return found.model_copy(update={s: _lobe(getattr(found, s)) for s in ("positive", "negative")})


def _lobe(lobe: LobeRecord) -> LobeRecord:
    samples = [
        s.model_copy(update={"pick": PICKS[i % len(PICKS)], "split": "discovery" if i == 0 else "confirmation"})
        for i, s in enumerate(lobe.samples)
    ]
    return lobe.model_copy(update={"samples": samples, "n_held_out": 20})
