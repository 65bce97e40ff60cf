"""Policy: each outcome of a rule, and the verdict that follows."""

from __future__ import annotations

import pytest

from koda.config import DEFAULT_POLICY, PolicyRule
from koda.errors import ConfigError
from koda.policy import AuditFacts, judge
from koda.record import DataRecord, Estimate, Finding, LobeRecord


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


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ([], "pass"),
        ([finding(0.0005, 0.0001)], "pass"),
        ([finding(0.0015)], "warn"),
        ([finding(0.004)], "fail"),
        ([finding(0.0021)], "inconclusive"),
        ([finding(0.0019)], "inconclusive"),
        ([finding(0.004, confirmed=False)], "pass"),
        ([finding(0.004, reference=0.003)], "pass"),
        ([finding(0.004, side="gained")], "pass"),
    ],
)
def test_a_rule_on_shares(found: list[Finding], status: str) -> None:
    verdict = judge([LOST], facts(*found))
    assert verdict.status == status
    assert verdict.reasons


def test_reasons_name_value_interval_and_limit() -> None:
    (reason,) = judge([LOST], facts(finding(0.004))).reasons
    assert "0.004" in reason
    assert "0.0038 to 0.0042" in reason
    assert "0.002" in reason


def test_the_reference_limit_can_be_stated() -> None:
    rule = PolicyRule(figure="lost.max_share", fail=0.002, max_reference_share=0.0035)
    assert judge([rule], facts(finding(0.004, reference=0.003))).status == "fail"


def test_untested_directions_make_a_pass_inconclusive() -> None:
    assert judge(DEFAULT_POLICY, facts(finding(0.0001, confirmed=None))).status == "inconclusive"


def test_the_worst_rule_decides() -> None:
    assert judge(DEFAULT_POLICY, facts(rejected=2)).status == "warn"
    assert judge(DEFAULT_POLICY, facts(finding(0.004), rejected=2)).status == "fail"
    assert judge([], facts(finding(0.004))).status == "pass"


def test_below_is_the_bad_side_where_the_rule_says_so() -> None:
    rule = PolicyRule(figure="lost.confirmed", fail=1, direction="below")
    assert judge([rule], facts()).status == "fail"
    assert judge([rule], facts(finding(0.004))).status == "pass"


def test_an_unknown_figure_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"(?s)lost\.max_shar.*Did you mean 'lost\.max_share'"):
        judge([PolicyRule(figure="lost.max_shar", fail=1)], facts())
