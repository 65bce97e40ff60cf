"""Policy: each outcome of a rule, and the verdict that follows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from koda.config import PolicyRule
from koda.errors import ConfigError
from koda.policy import AuditFacts, check_policy, judge
from koda.records import (
    AccuracyDifference,
    AccuracyRecord,
    Estimate,
    Finding,
    Metrics,
    RecallDifference,
    RecallRecord,
    RuleResult,
    Stability,
    WholeSimilarity,
    ZeroShotRecord,
)
from tests.policy.facts import LOST, facts, finding


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
    assert "is 0.40 % (95 % interval 0.38 to 0.42 %), over the fail limit of 0.20 %" in reason


def test_a_figure_and_its_limit_do_not_read_alike_and_the_limit_has_all_its_decimals() -> None:
    rule = PolicyRule(figure="lost.max_share", fail=0.10125)
    (reason,) = judge([rule], facts(finding(0.10131, reach=0.00005))).reasons
    assert "is 10.131 % (95 % interval 10.126 to 10.136 %), over the fail limit of 10.125 %" in reason


def test_counts_are_whole_in_reasons() -> None:
    (reason,) = judge([PolicyRule(figure="rejections.count", fail=12344)], facts(rejected=12345)).reasons
    assert "is 12345, over the fail limit of 12344" in reason


def test_the_reference_limit_can_be_stated() -> None:
    rule = PolicyRule(figure="lost.max_share", fail=0.002, max_reference_share=0.0035)
    assert judge([rule], facts(finding(0.004, reference=0.003))).status == "fail"


def test_untested_directions_make_a_pass_inconclusive() -> None:
    assert judge(None, facts(finding(0.0001, confirmed=None))).status == "inconclusive"


def test_the_worst_rule_decides() -> None:
    assert judge(None, facts(rejected=2)).status == "warn"
    assert judge(None, facts(finding(0.008), rejected=2)).status == "fail"
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


def fell(subset: str, images: Estimate, captions: Estimate | None = None, n: int = 50) -> RecallDifference:
    """What the record holds where the candidate retrieves less: negative differences."""
    return RecallDifference(
        subset=subset,
        n=n,
        n_images=n,
        image_to_text={"R@1": images},
        text_to_image={"R@1": captions or Estimate(value=0.0, low=-0.01, high=0.01)},
    )


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


def result_of(given: AuditFacts, **rule: Any) -> RuleResult:
    return judge([PolicyRule.model_validate(rule)], given).rules[0]


def test_the_retrieval_drop_of_a_slice_is_the_worse_direction_and_of_confirmed_slices_only() -> None:
    all_, slice_ = fell("all", Estimate(value=0.0, low=-0.1, high=0.1)), Estimate(value=-0.2, low=-0.25, high=-0.15)
    metrics = Metrics(retrieval_differences=[all_, fell("lost 1 positive", slice_)])
    drop = observed("slice.retrieval_drop", measured(metrics, finding(0.004)))
    assert drop is not None and drop.low is not None and drop.high is not None
    assert drop.value == pytest.approx(0.2)  # a fall is positive
    assert drop.low == pytest.approx(0.2 - 0.05 * 2.2414 / 1.95996, abs=1e-4)  # of two, each at 97.5 %
    assert drop.level == 0.975
    assert observed("slice.retrieval_drop", measured(metrics, finding(0.004, confirmed=False))) == Estimate(value=0.0)
    assert observed("slice.retrieval_drop", measured(Metrics(), finding(0.004))) is None


def test_retrieval_of_one_model_alone_is_no_fall_of_zero() -> None:
    recall = RecallRecord.model_validate(
        {"model": "a", "role": "baseline", "subset": "all", "n": 50, "n_gallery": 100}
        | {"image_to_text": {"R@1": Estimate(value=0.6)}, "text_to_image": {"R@1": Estimate(value=0.5)}}
    )
    for figure in ("slice.retrieval_drop", "retrieval.drop", "retrieval.image_to_text.drop", "retrieval.recall"):
        rule = result_of(measured(Metrics(retrieval=[recall]), finding(0.004)), figure=figure, fail=0.5)
        assert (rule.result, rule.observed) == ("inconclusive", None)
        assert "both models" in str(rule.note)


def test_falls_on_the_whole_set_have_their_paired_intervals() -> None:
    paired = fell("all", Estimate(value=-0.1, low=-0.15, high=-0.06), Estimate(value=0.02, low=0.0, high=0.03))
    given = measured(Metrics(retrieval_differences=[paired]))
    assert observed("retrieval.image_to_text.drop", given) == Estimate(value=0.1, low=0.06, high=0.15)
    assert observed("retrieval.text_to_image.drop", given) == Estimate(value=-0.02, low=-0.03, high=0.0)
    worse = observed("retrieval.drop", given)
    assert worse is not None and worse.low is not None and worse.high is not None
    assert (worse.value, worse.level) == (0.1, 0.975)
    assert 0.05 < worse.low < 0.06 and 0.15 < worse.high < 0.16


def test_a_slice_that_is_clearly_over_the_limit_does_not_hide_behind_a_small_one_that_is_unclear() -> None:
    small, large = Estimate(value=-0.5, low=-0.9, high=0.1), Estimate(value=-0.3, low=-0.32, high=-0.28)
    metrics = Metrics(
        retrieval_differences=[
            fell("all", Estimate(value=0.0, low=-0.1, high=0.1)),
            fell("lost 1 positive", small),
            fell("lost 2 positive", large),
        ]
    )
    second = finding(0.003).model_copy(update={"direction": 2})
    rule = result_of(measured(metrics, finding(0.004), second), figure="slice.retrieval_drop", fail=0.2)
    assert (rule.result, str(rule.finding)) == ("fail", "lost 2")
    rule = result_of(measured(metrics, finding(0.004), second), figure="slice.retrieval_drop", fail=0.4)
    assert (rule.result, str(rule.finding)) == ("inconclusive", "lost 1")


def test_a_fall_that_is_the_same_for_all_of_a_few_queries_is_not_certain() -> None:
    given = measured(Metrics(retrieval_differences=[fell("all", Estimate(value=-1.0, n=2), n=2)]))
    assert result_of(given, figure="retrieval.image_to_text.drop", fail=0.1).result == "inconclusive"
    given = measured(Metrics(retrieval_differences=[fell("all", Estimate(value=-1.0, n=50), n=50)]))
    assert result_of(given, figure="retrieval.image_to_text.drop", fail=0.1).result == "fail"
    given = measured(Metrics(retrieval_differences=[fell("all", Estimate(value=0.0, n=400), n=400)]))
    same = observed("retrieval.image_to_text.drop", given)
    assert same is not None and same.high == pytest.approx(1 - 0.025 ** (1 / 400))


def test_the_worst_of_many_slices_without_a_fall_is_over_no_limit_by_chance() -> None:
    rng = np.random.default_rng(0)
    spread = 0.05
    failed = 0
    for _ in range(400):
        drops = rng.normal(0, spread, size=20)
        metrics = Metrics(
            retrieval_differences=[fell("all", Estimate(value=0.0, low=-0.01, high=0.01))]
            + [
                fell(f"lost {k} positive", Estimate(value=d, low=d - 1.96 * spread, high=d + 1.96 * spread))
                for k, d in enumerate(drops, start=1)
            ]
        )
        found = [finding(0.004).model_copy(update={"direction": k}) for k in range(1, 21)]
        failed += result_of(measured(metrics, *found), figure="slice.retrieval_drop", fail=0.0).result == "fail"
    assert failed <= 0.05 * 400


def zero_shot(**more: Any) -> ZeroShotRecord:
    return ZeroShotRecord(label_column="colour", classes=["a", "b"], templates=["{}"], n_labelled=50, **more)


def test_zero_shot_figures() -> None:
    def top(value: float) -> dict[str, Estimate]:
        return {"top-1": Estimate(value=value, low=value - 0.05, high=value + 0.05)}

    record = zero_shot(
        accuracies=[AccuracyRecord(model="b", role="candidate", subset="all", n=50, top=top(0.6))],
        differences=[
            AccuracyDifference(subset="all", n=50, top=top(-0.1)),
            AccuracyDifference(subset="lost 1 negative", n=9, top=top(-0.4)),
        ],
    )
    given = measured(Metrics(zero_shot=record), finding(0.004))
    for figure, value in (("zero_shot.drop", 0.1), ("zero_shot.accuracy", 0.6), ("slice.zero_shot_drop", 0.4)):
        seen = observed(figure, given)
        assert seen is not None and seen.value == pytest.approx(value) and seen.level == 0.95
    assert result_of(given, figure="zero_shot.accuracy", fail=0.7).result == "fail"  # low is bad
    assert result_of(given, figure="zero_shot.accuracy", fail=0.7).direction == "below"


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (None, "no zero_shot section"),
        (zero_shot(unavailable={"b": "it has no text embeddings"}), "b: it has no text embeddings"),
        (zero_shot(), "no sample has one of the classes in colour"),
    ],
)
def test_why_there_is_no_zero_shot_accuracy(record: ZeroShotRecord | None, words: str) -> None:
    verdict = judge([PolicyRule(figure="zero_shot.drop", fail=0.1)], measured(Metrics(zero_shot=record)))
    assert verdict.status == "inconclusive"
    assert words in verdict.reasons[0]


def test_what_the_audit_has_not_recorded_is_inconclusive() -> None:
    whole = {"image": WholeSimilarity(cka=0.9, neighbours=0.5, by_chance=0.01, k=10, n=100)}
    assert observed("similarity.cka.image", measured(Metrics(whole=whole))) == Estimate(value=0.9, n=100)
    verdict = judge([PolicyRule(figure="similarity.cka.text", fail=0.5)], facts())
    assert verdict.status == "inconclusive"
    assert verdict.reasons == [
        "similarity.cka.text could not be observed: the audit compares no text embeddings (discrepancy.modality)."
    ]
    whole = {"image": WholeSimilarity(cka=float("nan"), neighbours=0.5, by_chance=0.01, k=10, n=100)}
    assert result_of(measured(Metrics(whole=whole)), figure="similarity.cka.image", fail=0.5).result == "inconclusive"


def test_low_is_bad_where_it_is_for_the_figure_unless_the_rule_says_otherwise() -> None:
    whole = {"image": WholeSimilarity(cka=0.9, neighbours=0.5, by_chance=0.01, k=10, n=100)}
    given = measured(Metrics(whole=whole))
    assert result_of(given, figure="similarity.cka.image", fail=0.95).result == "fail"
    assert result_of(given, figure="similarity.cka.image", fail=0.95, direction="above").result == "pass"
    assert result_of(given, figure="similarity.neighbours.image", fail=0.4).result == "pass"


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


def test_below_the_limit_is_judged_by_the_figure_and_not_by_its_lesser_ones() -> None:
    rule = PolicyRule(figure="lost.max_share", fail=0.002, direction="below", min_stability=0.6)
    verdict = judge([rule], facts(stable(finding(0.004), 0.8), stable(finding(0.001), 0.8)))
    assert (verdict.status, verdict.rules[0].observed) == ("pass", finding(0.004).target_share)


def test_a_finding_that_could_not_be_tested_fails_nothing() -> None:
    untested = finding(0.004, confirmed=None).model_copy(update={"note": "there are 12 confirmation samples"})
    verdict = judge([LOST], facts(untested))
    assert verdict.status == "inconclusive"
    assert "lost 1, could not be tested: there are 12 confirmation samples" in verdict.reasons[0]


def test_the_worst_reasons_come_first_and_a_policy_without_rules_says_so() -> None:
    rejections = PolicyRule(figure="rejections.share", warn=0.01)
    reasons = judge([rejections, LOST], facts(finding(0.004), rejected=2)).reasons
    assert [reason.split()[0] for reason in reasons] == ["lost.max_share", "rejections.share"]
    assert judge([], facts()).reasons == ["The policy has no rules."]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"figure": "rejections.share", "fail": 1, "max_reference_share": 0.5}, "max_reference_share has no meaning"),
        ({"figure": "lost.max_share", "warn": 0.01, "fail": 0.002}, "could never warn: what is above the warn limit"),
        ({"figure": "retrieval.recall", "warn": 0.5, "fail": 0.6}, "could never warn: what is below the warn limit"),
    ],
)
def test_rules_that_cannot_mean_what_they_say_are_refused(rule: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_policy([PolicyRule.model_validate(rule)])


def test_min_stability_needs_searches_to_compare_with() -> None:
    rule = LOST.model_copy(update={"min_stability": 0.6})
    check_policy([rule], searches=2)
    with pytest.raises(ConfigError, match=r"significance\.stability: 0 says that no stability is measured"):
        check_policy([rule], searches=0)


def test_min_stability_needs_a_finding() -> None:
    with pytest.raises(ConfigError, match=r"min_stability has no meaning for rejections\.share"):
        check_policy([PolicyRule(figure="rejections.share", fail=1, min_stability=0.5)])


def test_a_rule_says_how_stable_the_finding_is_that_decides() -> None:
    shaky = finding(0.004).model_copy(update={"stability": Stability(jaccard=0.25, subspace=0.5, n_runs=3)})
    for rule in ({"fail": 0.002}, {"fail": 0.002, "min_stability": 0.5}, {"fail": 0.1}):
        assert result_of(facts(shaky), figure="lost.max_share", **rule).stability == 0.25
    assert result_of(facts(finding(0.004)), figure="lost.max_share", fail=0.002).stability is None
    assert result_of(facts(shaky), figure="rejections.count", fail=1).stability is None
