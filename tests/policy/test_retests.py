"""Findings that an alignment was to mend: what is still confirmed on held-out samples stays a finding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from koda.config import PolicyRule
from koda.policy import AuditFacts, judge, retested
from koda.policy.export import junit_xml
from koda.records import (
    AccuracyDifference,
    AlignmentRecord,
    Estimate,
    Metrics,
    RecallDifference,
    RecallRecord,
    Retest,
)
from tests.policy.facts import facts, finding
from tests.report import factory
from tests.report.factory_alignment import aligned

RULE = PolicyRule(figure="lost.max_share", warn=0.0005, fail=0.001)
TEACHER = aligned().teacher_fingerprint


def run(*p_after: float | None, teacher: float = 0.0033, after: float = 0.001, **changes: Any) -> AlignmentRecord:
    """Return an alignment of which the retests have these p-values, and each finding these shares."""
    made = aligned(len(p_after))
    shares = {"teacher": teacher, "after": after, "before": 0.0008}
    return made.model_copy(
        update={
            "shares": [
                share.model_copy(update={"share": estimate(shares[share.state], 0.0002)}) for share in made.shares
            ],
            "retests": [
                Retest(
                    finding=old.finding,
                    before=old.before,
                    after=estimate(teacher - after, 0.0002),
                    p_before=1e-9,
                    p_after=p,
                )
                for old, p in zip(made.retests, p_after, strict=True)
            ],
            **changes,
        }
    )


def estimate(value: float, reach: float) -> Estimate:
    return Estimate(value=value, low=value - reach, high=value + reach)


def after(made: AlignmentRecord, *own: Any) -> AuditFacts:
    """Return the facts of an audit of the aligned model that found what is given."""
    now = facts(*own)
    return replace(now, retested=retested(made, "candidate", TEACHER, now.data, 0.05))


def test_a_finding_that_is_still_confirmed_fails_an_audit_that_found_nothing() -> None:
    assert judge([RULE], facts()).status == "pass"
    verdict = judge([RULE], after(run(0.0017)))
    (rule,) = verdict.rules
    assert (verdict.status, rule.result) == ("fail", "fail")
    assert rule.observed is not None and rule.observed.value == 0.0033
    assert rule.finding is None, "which would be one of this audit"
    assert [(str(each.finding), each.p_value) for each in rule.retests] == [("lost 1", 0.0017)]
    (reason,) = verdict.reasons
    assert reason.endswith("A finding of the audit before the alignment, lost 1, is still confirmed: p = 0.0017.")


def test_what_is_mended_counts_no_more() -> None:
    verdict = judge([RULE], after(run(0.6, 1.0)))
    assert (verdict.status, verdict.reasons) == ("pass", ["Every rule of the policy is met."])
    assert not verdict.rules[0].retests
    verdict = judge([RULE], after(run(0.6, 0.001)))
    assert [str(each.finding) for each in verdict.rules[0].retests] == ["lost 2"]


def test_it_does_not_pass_where_no_rule_sees_it() -> None:
    """The student came half the way, so that the rule on shares lost does not count it, and the test still does."""
    verdict = judge([RULE], after(run(0.0017, 0.02, after=0.002)))
    assert (verdict.status, verdict.rules[0].result) == ("warn", "pass")
    assert verdict.reasons == [
        "2 findings of the audit before the alignment are still confirmed: lost 1 (p = 0.0017), lost 2 (p = 0.02)."
    ]
    assert judge([], after(run(0.0017))).status == "warn"


def test_what_cannot_be_tested_again_is_inconclusive_at_best() -> None:
    verdict = judge([RULE], after(run(None, None)))
    assert verdict.status == "inconclusive" and "could not be tested" in verdict.reasons[0]
    verdict = judge([], after(run(None, 0.8)))
    assert verdict.status == "inconclusive"
    assert verdict.reasons == [
        "Of the audit before the alignment could not be tested again: lost 1; too few samples were held out."
    ]


def test_raw_shares_of_an_older_alignment_are_not_compared_with_limits_in_ties() -> None:
    given = after(run(0.001, share_unit="raw"))
    verdict = judge([RULE], given)
    assert verdict.status == "inconclusive"
    assert any("other units" in reason for reason in verdict.reasons)


def test_this_audits_own_findings_decide_where_they_are_worse() -> None:
    (rule,) = judge([RULE], after(run(0.0017), finding(0.009))).rules
    assert str(rule.finding) == "lost 1" and not rule.retests
    (rule,) = judge([RULE], after(run(0.0017), finding(0.002))).rules
    assert rule.finding is None and len(rule.retests) == 1


@pytest.mark.parametrize(("own", "n"), [(0, 2), (1, 2), (3, 3)])
def test_counts_are_the_larger_one_since_a_difference_may_be_in_both(own: int, n: int) -> None:
    rule = PolicyRule(figure="lost.confirmed", fail=1)
    (result,) = judge([rule], after(run(0.001, 0.001), *[finding(0.004)] * own)).rules
    assert result.observed is not None and result.observed.value == n
    assert len(result.retests) == (2 if own < 2 else 0)


def test_together_they_are_one_theme_at_the_least() -> None:
    rule = PolicyRule(figure="lost.themes", fail=0)
    (result,) = judge([rule], after(run(0.001, 0.001))).rules
    assert (result.result, result.observed and result.observed.value, len(result.retests)) == ("fail", 1, 2)
    (result,) = judge([rule], after(run(0.6, 0.6))).rules
    assert (result.result, result.retests) == ("pass", [])


def gaps(value: float) -> dict[str, Any]:
    """Return falls of the student to its teacher, all and on the first lobe."""
    at_one = {"R@1": estimate(value, 0.01)}
    return {
        "retrieval_gaps": [
            RecallDifference(subset=subset, n=46, n_images=46, image_to_text=at_one, text_to_image=at_one)
            for subset in ("all", "lost 1 positive")
        ],
        "zero_shot_gaps": [
            AccuracyDifference(subset=subset, n=46, top={"top-1": estimate(value, 0.01)})
            for subset in ("all", "lost 1 positive")
        ],
    }


@pytest.mark.parametrize("figure", ["slice.retrieval_drop", "slice.zero_shot_drop"])
def test_falls_on_its_slices_count_too(figure: str) -> None:
    rule = PolicyRule(figure=figure, fail=0.1)
    seen = after(run(0.0017, **gaps(-0.3)))
    own = RecallDifference(subset="all", n=9, n_images=9, image_to_text={}, text_to_image={})
    seen = replace(seen, metrics=Metrics(retrieval_differences=[own]))
    (result,) = judge([rule], seen).rules
    assert (result.result, [str(each.finding) for each in result.retests]) == ("fail", ["lost 1"])
    assert result.observed is not None and result.observed.value == pytest.approx(0.3)


def test_the_default_policy_fails_where_it_also_got_worse_on_its_samples() -> None:
    """Of this audit everything is as it was; the finding that is still confirmed has a slice that is retrieved less."""
    same = RecallDifference(
        subset="all",
        n=900,
        n_images=900,
        image_to_text={"R@1": Estimate(value=0)},
        text_to_image={"R@1": Estimate(value=0)},
    )
    whole = [
        RecallRecord(
            model=role, role=role, subset="all", n=900, n_gallery=900,
            image_to_text={"R@1": estimate(0.6, 0.01)}, text_to_image={"R@1": estimate(0.6, 0.01)},
        )
        for role in ("baseline", "candidate")
    ]  # fmt: skip
    metrics = Metrics(retrieval=whole, retrieval_differences=[same])

    def status(value: float) -> tuple[str, str]:
        seen = after(run(0.0017, teacher=0.02, **gaps(value)))
        verdict = judge(None, replace(seen, metrics=metrics))
        rule = next(rule for rule in verdict.rules if rule.figure == "lost.max_harmful_share")
        assert [str(each.finding) for each in rule.retests] == ["lost 1"] * (rule.result == "fail")
        return verdict.status, rule.result

    assert status(-0.3) == ("fail", "fail")
    assert status(0.0) == ("warn", "pass")


def test_the_whole_is_judged_by_this_audits_own_figures() -> None:
    rule = PolicyRule(figure="retrieval.drop", fail=0.1)
    (result,) = judge([rule], after(run(0.0017, **gaps(-0.3)))).rules
    assert result.result == "inconclusive" and result.observed is None


def test_a_student_that_is_the_baseline_is_compared_the_other_way_round() -> None:
    made = run(0.0017, **gaps(-0.3))
    seen = retested(made.model_copy(update={"role": "baseline"}), "baseline", TEACHER, facts().data, 0.05)
    assert seen is not None
    difference = next(item for item in seen.metrics.retrieval_differences if str(item.subset) == "lost 1 positive")
    figure = difference.image_to_text["R@1"]
    assert (figure.value, figure.low, figure.high) == pytest.approx((0.3, 0.29, 0.31))


@pytest.mark.parametrize("change", ["role", "teacher", "data"])
def test_an_audit_of_another_question_does_not_count_them(change: str) -> None:
    now = facts().data
    made = run(0.0017, data_digest=factory.sha("other data") if change == "data" else now.digest)
    role = "baseline" if change == "role" else "candidate"
    teacher = factory.sha("another") if change == "teacher" else TEACHER
    assert retested(made, role, teacher, now, 0.05) is None
    assert retested(made.model_copy(update={"data_digest": now.digest}), "candidate", TEACHER, now, 0.05) is not None


def test_where_it_is_not_known_what_was_trained_on_nothing_passes() -> None:
    now = facts()
    seen = replace(now, data=now.data.model_copy(update={"unseen": False}))
    verdict = judge([RULE], seen)
    assert verdict.status == "inconclusive" and "not known which samples" in verdict.reasons[0]
    assert judge([RULE], replace(now, data=now.data.model_copy(update={"unseen": True}))).status == "pass"


def test_the_machines_are_told_what_decided() -> None:
    verdict = judge([RULE], after(run(0.0017)))
    record = factory.record().model_copy(update={"verdict": verdict})
    assert b"decided by the retest of lost 1" in junit_xml([record])
