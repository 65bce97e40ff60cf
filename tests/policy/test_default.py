"""The default policy: a verdict about harm, as far as harm was measured, and what the controls leave of it."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest

from koda.config import PolicyRule, Waiver
from koda.errors import ConfigError
from koda.policy import AuditFacts, check_policy, judge
from koda.policy.default import default_policy
from koda.policy.facts import telling_depth
from koda.records import (
    AccuracyDifference,
    Controls,
    Estimate,
    Finding,
    Metrics,
    RecallDifference,
    RecallRecord,
    SelfControlRecord,
    SpikeInRecord,
    ZeroShotRecord,
)
from tests.policy.facts import facts, finding

SAME = Estimate(value=0.0, low=-0.01, high=0.01)


def at(level: float, reach: float = 0.01) -> Estimate:
    return Estimate(value=level, low=level - reach, high=level + reach, n=500)


def baseline(one: float, ten: float, n_gallery: int = 2000) -> RecallRecord:
    recalls = {"R@1": at(one), "R@5": at((one + ten) / 2), "R@10": at(ten)}
    return RecallRecord(
        model="b", role="baseline", subset="all", n=500, n_gallery=n_gallery, image_to_text=recalls,
        text_to_image=recalls,
    )  # fmt: skip


def fell(subset: str, **depths: Estimate) -> RecallDifference:
    recalls = {"R@1": SAME, "R@5": SAME, "R@10": SAME} | {f"R@{name[1:]}": value for name, value in depths.items()}
    return RecallDifference(subset=subset, n=500, n_images=500, image_to_text=recalls, text_to_image=recalls)


def asked(*findings: Finding, recall: RecallRecord, falls: list[RecallDifference]) -> AuditFacts:
    return replace(facts(*findings), metrics=Metrics(retrieval=[recall], retrieval_differences=falls))


STRONG = baseline(0.6, 0.9)
WEAK = baseline(0.057, 0.317)


def test_lost_structure_that_harms_nothing_warns() -> None:
    given = asked(finding(0.02), recall=STRONG, falls=[fell("all"), fell("lost 1 positive")])
    verdict = judge(None, given)
    assert verdict.status == "warn"
    assert [rule.figure for rule in verdict.rules if rule.result == "warn"] == ["lost.max_share"]


def test_lost_structure_whose_held_out_members_also_got_worse_fails() -> None:
    worse = fell("lost 1 positive", k1=Estimate(value=-0.3, low=-0.4, high=-0.2))
    verdict = judge(None, asked(finding(0.02), recall=STRONG, falls=[fell("all"), worse]))
    assert verdict.status == "fail"
    rule = next(rule for rule in verdict.rules if rule.figure == "lost.max_harmful_share")
    assert (rule.result, str(rule.finding)) == ("fail", "lost 1")
    assert rule.detail == "R@1, image to caption, of the first lobe of lost 1 fell by 30 points"
    assert rule.detail in verdict.reasons[0]
    searched = fell("lost 1 positive, searched", k1=Estimate(value=-0.3, low=-0.4, high=-0.2))
    assert judge(None, asked(finding(0.02), recall=STRONG, falls=[fell("all"), searched])).status == "warn"


@pytest.mark.parametrize(
    ("found", "low", "high", "status"),
    [
        (finding(0.02), -0.399, -0.001, "warn"),  # not beyond noise, once widened for all that was looked at
        (finding(0.02, confirmed=False), -0.3, -0.1, "pass"),
        (finding(0.02, side="gained"), -0.3, -0.1, "warn"),
        (finding(0.02, 0.015), -0.3, -0.1, "pass"),  # the candidate knows most of it
        (finding(0.004), -0.3, -0.1, "warn"),
        (finding(0.006), -0.3, -0.1, "inconclusive"),
    ],
)
def test_harm_needs_a_confirmed_lost_finding_and_a_fall_beyond_noise(
    found: Finding, low: float, high: float, status: str
) -> None:
    place = "gained 1 positive" if found.side == "gained" else "lost 1 positive"
    worse = fell(place, k1=Estimate(value=-0.2, low=low, high=high))
    assert judge(None, asked(found, recall=STRONG, falls=[fell("all"), worse])).status == status


def test_a_weak_model_is_judged_at_a_depth_at_which_it_has_something_to_lose() -> None:
    assert telling_depth(Metrics(retrieval=[STRONG]), "image_to_text") == "R@1"
    assert telling_depth(Metrics(retrieval=[WEAK]), "image_to_text") == "R@10"
    gone = fell(
        "all", k1=Estimate(value=-0.057, low=-0.066, high=-0.048), k10=Estimate(value=-0.31, low=-0.33, high=-0.29)
    )
    verdict = judge(None, asked(recall=WEAK, falls=[gone]))
    assert verdict.status == "fail"
    assert "retrieval.drop (R@10, image to caption) is 31.0 points (97.5 % interval 28.7 to 33.3)" in verdict.reasons[0]


@pytest.mark.parametrize(
    "given",
    [
        facts(finding(0.02)),  # no shared space, no classes
        asked(finding(0.02), recall=baseline(0.0, 0.004), falls=[fell("all")]),  # a baseline at chance can lose nothing
    ],
)
def test_where_harm_cannot_be_measured_lost_structure_fails_and_the_reason_says_why(given: AuditFacts) -> None:
    verdict = judge(None, given)
    assert verdict.status == "fail"
    assert "could not be measured" in verdict.reasons[0]
    assert "retrieval.drop" not in [rule.figure for rule in verdict.rules]


def test_zero_shot_accuracy_alone_can_show_harm() -> None:
    difference = AccuracyDifference(subset="all", n=900, top={"top-1": Estimate(value=-0.2, low=-0.25, high=-0.15)})
    zero_shot = ZeroShotRecord(
        label_column="c", classes=["a", "b"], templates=["{}"], n_labelled=9, differences=[difference]
    )
    given = replace(facts(finding(0.002)), metrics=Metrics(zero_shot=zero_shot))
    assert [rule.figure for rule in default_policy(given)] == [
        "lost.max_harmful_share", "zero_shot.drop", "lost.max_share", "gained.max_share", "rejections.share",
    ]  # fmt: skip
    assert judge(None, given).status == "fail"


def test_waivers_of_the_default_policy_are_known_before_anything_is_measured() -> None:
    waiver = Waiver(figure="retrieval.drop", person="Ada", reason="known", expires="2099-01-01")
    check_policy(None, [waiver])
    with pytest.raises(ConfigError, match="no rule of the policy is on the figure"):
        check_policy(None, [waiver.model_copy(update={"figure": "lost.confirmed"})])


def controls(*confirmed: int, of_itself: int = 0) -> Controls:
    shares = (0.04, 0.02, 0.01)
    return Controls(
        n_discovery=1000,
        n_confirmation=1000,
        spike_ins=[
            SpikeInRecord(share=share, size=round(2000 * share), trials=3, confirmed=count)
            for share, count in zip(shares, confirmed, strict=False)
        ],
        self_controls=[
            SelfControlRecord(
                role="candidate", model="c", precision="fp32", noise=6e-8, n_directions=5, confirmed=of_itself
            )
        ],
    )


def test_a_pass_of_an_audit_that_could_not_have_seen_a_loss_is_inconclusive() -> None:
    blind = replace(facts(), controls=controls(0, 0, 0))
    verdict = judge(None, blind)
    assert verdict.status == "inconclusive"
    assert "a lost group of 4 % (80 of 2000 samples)" in verdict.reasons[0]
    assert "Use more data" not in verdict.reasons[0]  # the trials are of a part of them
    assert judge(None, replace(facts(), controls=controls(1, 0, 0))).status == "pass"
    assert judge(None, replace(facts(), controls=controls())).status == "pass"  # turned off
    assert judge(None, replace(facts(finding(0.02)), controls=controls(0, 0, 0))).status == "fail"


def test_what_differs_from_its_own_copy_confirms_nothing() -> None:
    for found in ([], [finding(0.02)]):
        verdict = judge(None, replace(facts(*found), controls=controls(3, 3, 3, of_itself=2)))
        assert verdict.status == "inconclusive"
        assert "its own copy" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("confirmed", "share"), [((3, 3, 3), 0.01), ((3, 3, 2), 0.02), ((3, 2, 3), 0.04), ((2, 3, 3), None), ((), None)]
)
def test_what_is_detectable_is_the_smallest_share_down_to_which_all_were_found(
    confirmed: tuple[int, ...], share: float | None
) -> None:
    given = replace(facts(), controls=controls(*confirmed))
    assert given.controls is not None
    assert given.controls.detectable_lost_share == share
    verdict = judge([PolicyRule(figure="detectable.lost_share", fail=0.02)], given)
    expected = "inconclusive" if share is None else "fail" if share > 0.02 else "pass"
    assert verdict.status == expected


def test_controls_in_words() -> None:
    words = controls(3, 3, 1).in_words()
    assert words == (
        "A lost group of 4 % of the data (80 of the 2000 samples of a trial) would have been found and confirmed in "
        "3 of 3 trials, one of 2 % (40) in 3 of 3, one of 1 % (20) in 1 of 3."
    )
    unknown = "What loss this audit could have seen is not known: "
    assert controls().in_words() == unknown + "significance.spike_ins: 0 turned the trials off."
    few = Controls(n_discovery=8, n_confirmation=5, note="there are 5 confirmation samples")
    assert few.in_words() == unknown + "there are 5 confirmation samples."


@pytest.mark.parametrize(("limit", "refused"), [(0.004, True), (0.005, False)])
def test_a_detectable_share_under_the_smallest_that_is_tried_is_refused(limit: float, refused: bool) -> None:
    rule = PolicyRule(figure="detectable.lost_share", warn=limit, fail=0.02)
    with pytest.raises(ConfigError, match=r"smallest groups .* 0.005") if refused else contextlib.nullcontext():
        check_policy([rule])


def test_what_the_default_policy_had_nothing_to_look_at_is_said() -> None:
    bare = judge(None, replace(facts(), metrics=Metrics()))
    said = dict(line.split(": ", 1) for line in bare.left_out)
    assert list(said) == ["retrieval.drop, by.retrieval_drop", "zero_shot.drop, by.zero_shot_drop"]
    assert "one space" in said["retrieval.drop, by.retrieval_drop"]
    assert "zero_shot section" in said["zero_shot.drop, by.zero_shot_drop"]
    assert judge([PolicyRule(figure="rejections.share", warn=0.1)], facts()).left_out == []
