"""Limits from what equals show: beyond it, never nearer than before, and an account of where they come from."""

from __future__ import annotations

import pytest

from koda.calibration.limits import calibrated, seen_figure
from koda.config import PolicyRule
from koda.policy import AuditFacts, judge
from koda.records import SeenFigure
from tests.policy.facts import LOST, facts, finding

SHARES = (0.004, 0.006, 0.005, 0.0, 0.007, 0.004)


def of(*shares: float) -> list[AuditFacts]:
    """Facts of audits with one finding lost each, of none where the share is 0."""
    return [facts(finding(share, reach=0.001)) if share else facts() for share in shares]


def calibrate(rule: PolicyRule, audits: list[AuditFacts], n_models: int = 3):  # type: ignore[no-untyped-def]
    seen = [[seen_figure(rule, one)] for one in audits]
    (made,), (account,) = calibrated([rule], seen, audits[0], n_models)
    return made, account


def test_the_equals_themselves_pass_the_policy_that_they_set() -> None:
    audits = of(*SHARES)
    assert {judge([LOST], one).status for one in audits} == {"fail", "pass"}
    rule, account = calibrate(LOST, audits)
    assert {judge([rule], one).status for one in audits} == {"pass"}
    assert account.values.most == 0.007 and account.ends.most == pytest.approx(0.008)
    assert rule.warn == account.values.bound > 0.007
    assert rule.fail == account.ends.bound > 0.008
    assert rule.fail >= rule.warn
    assert account.n == 6 and account.moved
    assert (account.warn_before, account.fail_before) == (0.001, 0.002)


def test_a_regression_far_beyond_them_still_fails() -> None:
    rule, _ = calibrate(LOST, of(*SHARES))
    assert judge([rule], facts(finding(0.08))).status == "fail"


def test_a_limit_beyond_the_bound_stays_where_it_is() -> None:
    nothing, account = calibrate(LOST, of(0, 0, 0, 0))
    assert (nothing.warn, nothing.fail) == (LOST.warn, LOST.fail) and not account.moved
    assert account.values.bound == account.ends.bound == 0
    wide = PolicyRule(figure="lost.max_share", warn=0.2, fail=0.3)
    assert (calibrate(wide, of(*SHARES))[0].warn, calibrate(wide, of(*SHARES))[0].fail) == (0.2, 0.3)
    half = PolicyRule(figure="lost.max_share", warn=0.001, fail=0.3)
    assert calibrate(half, of(*SHARES))[0].warn > 0.007 and calibrate(half, of(*SHARES))[0].fail == 0.3


def test_of_a_rule_without_a_limit_none_is_made() -> None:
    rule, _ = calibrate(PolicyRule(figure="lost.max_share", warn=0.001), of(*SHARES))
    assert rule.fail is None and "intervals" not in (rule.reason or "")
    assert calibrate(PolicyRule(figure="lost.max_share", fail=0.001), of(*SHARES))[0].warn is None


def test_the_reason_says_where_the_limits_come_from_once() -> None:
    rule = PolicyRule(figure="lost.max_share", warn=0.001, fail=0.002, reason="gone", owner="us", min_stability=0.3)
    made, _ = calibrate(rule, of(*SHARES))
    assert made.reason is not None
    assert made.reason.startswith("gone; 6 audits of 3 equal models: largest 0.007, 95 % bound 0.0")
    assert "intervals to 0.008, bound 0.0" in made.reason
    assert (made.owner, made.min_stability) == ("us", 0.3)
    again, _ = calibrate(made, of(*SHARES), n_models=4)
    assert again.reason is not None and again.reason.count("audits of") == 1 and "of 4 equal" in again.reason
    alone, _ = calibrate(LOST.model_copy(update={"reason": None}), of(*SHARES))
    assert (alone.reason or "").startswith("6 audits")


def test_a_figure_that_the_audits_lack_keeps_its_rule() -> None:
    rule = PolicyRule(figure="zero_shot.drop", fail=0.1, reason="as agreed")
    made, account = calibrate(rule, of(*SHARES))
    assert made == rule
    assert account.n == 0 and account.values is None and "zero_shot section" in account.note
    column = [[SeenFigure(value=0.1, end=0.1)], [None], [None]]
    (same,), (one,) = calibrated([rule], column, facts(), 2)
    assert same == rule and "1 of 3 audits" in (one.note or "")


def test_where_low_is_bad_the_limits_lie_under_what_equals_show() -> None:
    rule = PolicyRule(figure="similarity.cka.image", warn=0.99, fail=0.98)
    column = [[SeenFigure(value=v, end=v - 0.01)] for v in (0.9, 0.92, 0.91, 0.93)]
    (made,), (account,) = calibrated([rule], column, facts(), 2)
    assert made.fail is not None and made.warn is not None
    assert made.fail < 0.89 and made.warn < 0.9 and made.fail <= made.warn
    assert account.values is not None and account.values.least == 0.9
    assert "smallest 0.9" in (made.reason or "")
    column = [[SeenFigure(value=v, end=v)] for v in (0.9, 0.05)]
    (made,), _ = calibrated([rule], column, facts(), 2)
    assert made.fail == 0.0, "no limit lies where the figure cannot be"


def test_shares_end_at_one_and_counts_are_whole() -> None:
    column = [[SeenFigure(value=v, end=v)] for v in (0.9, 0.1)]
    (made,), _ = calibrated([LOST], column, facts(), 2)
    assert made.warn == made.fail == 1.0
    counts = [[SeenFigure(value=v, end=v)] for v in (1, 0, 3, 2, 1)]
    (made,), _ = calibrated([PolicyRule(figure="lost.confirmed", warn=0, fail=1)], counts, facts(), 2)
    assert made.fail is not None and made.fail == int(made.fail) >= 3


def test_a_rule_whose_direction_is_turned_is_seen_as_it_is_judged() -> None:
    turned = PolicyRule(figure="lost.max_share", warn=0.001, direction="below")
    several = facts(finding(0.004, reach=0.001), finding(0.008, reach=0.001))
    figure = seen_figure(turned, several)
    assert figure is not None and figure.value == 0.008 and figure.end == pytest.approx(0.007)
    upright = seen_figure(LOST, several)
    assert upright is not None and (upright.value, upright.end) == (0.008, pytest.approx(0.009))
