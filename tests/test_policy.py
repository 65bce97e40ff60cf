"""Policy: each outcome of a rule, and the verdict that follows."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from koda.config import DEFAULT_POLICY, PolicyRule, Waiver
from koda.errors import ConfigError
from koda.policy import AuditFacts, check_policy, judge
from koda.record import (
    DataRecord,
    Estimate,
    Finding,
    LobeRecord,
    Metrics,
    RecallDifference,
    RecallRecord,
    Stability,
    Verdict,
    WholeSimilarity,
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


def stable(found: Finding, jaccard: float) -> Finding:
    return found.model_copy(update={"stability": Stability(jaccard=jaccard, subspace=1.0, n_runs=2)})


def recalls(subset: str, baseline: float, candidate: float) -> list[RecallRecord]:
    def at(value: float) -> dict[str, Estimate]:
        return {"R@1": Estimate(value=value, low=value - 0.03, high=value + 0.04, n=50)}

    return [
        RecallRecord.model_validate(
            {"model": role, "role": role, "subset": subset, "n": 50, "n_gallery": 100}
            | {"image_to_text": at(value), "text_to_image": at(0.5)}
        )
        for role, value in (("baseline", baseline), ("candidate", candidate))
    ]


def measured(metrics: Metrics, *findings: Finding) -> AuditFacts:
    return AuditFacts(findings, facts().data, metrics)


def observed(figure: str, given: AuditFacts, **rule: Any) -> Estimate | None:
    (result,) = judge([PolicyRule.model_validate({"figure": figure, "fail": 1000, **rule})], given).rules
    return result.observed


def test_counts_and_differences_are_figures() -> None:
    given = facts(finding(0.004), finding(0.003, side="gained"), finding(0.002, confirmed=False))
    assert observed("confirmed.count", given) == Estimate(value=2)
    assert observed("lost.max_difference", given) == finding(0.004).difference
    assert observed("gained.max_difference", facts()) == Estimate(value=0.0)


def test_the_retrieval_drop_of_a_slice_is_the_worse_direction_and_of_confirmed_slices_only() -> None:
    metrics = Metrics(retrieval=[*recalls("all", 0.6, 0.6), *recalls("lost 1 positive", 0.6, 0.4)])
    drop = observed("slice.retrieval_drop", measured(metrics, finding(0.004)))
    assert drop is not None and drop.low is not None and drop.high is not None
    assert drop.value == pytest.approx(0.2)
    assert drop.value - drop.low == pytest.approx(0.05)  # 0.03 and 0.04 in squares
    assert drop.high - drop.value == pytest.approx(0.05)
    assert observed("slice.retrieval_drop", measured(metrics, finding(0.004, confirmed=False))) == Estimate(value=0.0)
    assert observed("slice.retrieval_drop", measured(Metrics(), finding(0.004))) is None


def test_paired_differences_go_before_those_of_two_recalls() -> None:
    paired = RecallDifference(
        subset="all", n=50, n_images=50,
        image_to_text={"R@1": Estimate(value=-0.1, low=-0.15, high=-0.06)},
        text_to_image={"R@1": Estimate(value=0.02, low=0.0, high=0.03)},
    )  # fmt: skip
    metrics = Metrics(retrieval=recalls("all", 0.6, 0.2), retrieval_differences=[paired])
    assert observed("retrieval.drop", measured(metrics)) == Estimate(value=0.1, low=0.06, high=0.15)


def test_what_the_audit_has_not_recorded_is_inconclusive() -> None:
    whole = {"image": WholeSimilarity(cka=0.9, neighbours=0.5, by_chance=0.01, k=10, n=100)}
    assert observed("similarity.cka.image", measured(Metrics(whole=whole))) == Estimate(value=0.9, n=100)
    verdict = judge([PolicyRule(figure="similarity.cka.text", fail=0.5, direction="below")], facts())
    assert verdict.status == "inconclusive"
    assert "could not be observed" in verdict.reasons[0]


def test_long_captions_are_a_share_of_what_was_compared() -> None:
    data = facts().data.model_copy(update={"n_long_captions": {"a": 5, "b": 20}})
    assert observed("captions.long_share", AuditFacts([], data)) == Estimate(value=0.2, n=100)


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ([stable(finding(0.004), 0.4)], "inconclusive"),
        ([stable(finding(0.004), 0.8)], "fail"),
        ([finding(0.004)], "fail"),  # nobody looked
        ([stable(finding(0.0005, 0.0001), 0.4)], "pass"),  # a pass rests on no finding
        ([stable(finding(0.004), 0.4), stable(finding(0.003), 0.8)], "fail"),  # another one says the same
        ([stable(finding(0.004), 0.4), stable(finding(0.0015), 0.8)], "inconclusive"),
    ],
)
def test_a_finding_that_is_not_found_again_decides_nothing(found: list[Finding], status: str) -> None:
    rule = LOST.model_copy(update={"min_stability": 0.6})
    verdict = judge([rule], facts(*found))
    assert verdict.status == status
    if status == "inconclusive":
        assert "lost 1, has a stability of 0.4, under the min_stability of 0.6" in verdict.reasons[0]


def test_min_stability_needs_a_finding() -> None:
    with pytest.raises(ConfigError, match=r"min_stability has no meaning for rejections\.share"):
        check_policy([PolicyRule(figure="rejections.share", fail=1, min_stability=0.5)])


WAIVER = Waiver(figure="lost.max_share", person="Ada", reason="known, fixed in the next one", expires=date(2026, 6, 30))


def waived(share: float, day: date, rules: Any = (LOST,), **more: Any) -> Verdict:
    return judge(rules, facts(finding(share), **more), [WAIVER], day)


def test_a_waived_rule_does_not_count_and_says_who_why_and_until_when() -> None:
    verdict = waived(0.004, date(2026, 6, 30))
    (rule,) = verdict.rules
    assert (verdict.status, rule.result, rule.waived) == ("pass", "waived", "fail")
    assert "Waived by Ada until 2026-06-30: known, fixed in the next one." in verdict.reasons[0]
    assert waived(0.0015, date(2026, 6, 30)).rules[0].waived == "warn"
    assert waived(0.004, date(2026, 6, 30), DEFAULT_POLICY, rejected=2).status == "warn"


def test_an_expired_waiver_counts_for_nothing_and_is_named() -> None:
    verdict = waived(0.004, date(2026, 7, 1))
    assert (verdict.status, verdict.rules[0].result) == ("fail", "fail")
    assert "The waiver of Ada expired on 2026-06-30." in verdict.reasons[0]


def test_an_inconclusive_rule_is_not_waived_and_one_that_is_met_needs_no_waiver() -> None:
    assert waived(0.0021, date(2026, 6, 1)).status == "inconclusive"
    (rule,) = waived(0.0005, date(2026, 6, 1)).rules
    assert rule.result == "pass" and rule.waiver is not None


def test_of_two_waivers_the_longer_one_counts() -> None:
    later = WAIVER.model_copy(update={"person": "Grace", "expires": date(2026, 12, 31)})
    verdict = judge([LOST], facts(finding(0.004)), [WAIVER, later], date(2026, 7, 1))
    assert "Waived by Grace" in verdict.reasons[0]


def test_a_waiver_without_a_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"(?s)waivers\.0.*'lost\.max_share'.*The rules are on: rejections\.share"):
        check_policy([PolicyRule(figure="rejections.share", fail=1)], [WAIVER])
