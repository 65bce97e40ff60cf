"""Made-up findings and facts that rules are judged on."""

from __future__ import annotations

from koda.config import PolicyRule
from koda.policy import AuditFacts
from koda.records import (
    DataRecord,
    Estimate,
    Finding,
    LobeRecord,
)


def finding(
    share: float, reference: float = 0.0005, *, side: str = "lost", confirmed: bool | None = True, reach: float = 0.0002
) -> Finding:
    def estimate(value: float) -> Estimate:
        return Estimate(value=value, low=value - reach, high=value + reach)

    return Finding.model_validate(
        {
            "side": side,
            "direction": 1,
            "target": "a",
            "reference": "b",
            "target_energy": 0.01,
            "reference_energy": 0.001,
            "quotient": 10.0,
            "multiplier": 1.0,
            "gap": 0.0,
            "status": "optimal",
            "target_share_in_sample": share,
            "reference_share_in_sample": reference,
            "target_share": estimate(share),
            "reference_share": estimate(reference),
            "difference": estimate(share - reference),
            "confirmed": confirmed,
            "similarity": {},
            "positive": LobeRecord(sign="positive", size=0, samples=[]),
            "negative": LobeRecord(sign="negative", size=0, samples=[]),
        }
    )


def facts(*findings: Finding, rejected: int = 0) -> AuditFacts:
    data = DataRecord(
        name="d", path="p", digest="0", n_source=100, n_compared=100 - rejected, n_discovery=50, n_confirmation=50,
        n_rejected=rejected, n_duplicate_images=0,
    )  # fmt: skip
    return AuditFacts(findings, data)


LOST = PolicyRule(figure="lost.max_share", warn=0.001, fail=0.002)
