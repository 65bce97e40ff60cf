"""Waivers: a rule that a person set aside for a time."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from koda.config import PolicyRule, Waiver
from koda.errors import ConfigError
from koda.policy import check_policy, judge
from koda.records import (
    Verdict,
)
from tests.policy.facts import LOST, facts, finding

WAIVER = Waiver(figure="lost.max_share", person="Ada", reason="known, fixed in the next one", expires=date(2026, 6, 30))


def waived(share: float, day: date, rules: Any = (LOST,), **more: Any) -> Verdict:
    return judge(rules, facts(finding(share), **more), [WAIVER], day)


def test_a_waived_rule_does_not_count_and_says_who_why_and_until_when() -> None:
    verdict = waived(0.004, date(2026, 6, 30))
    (rule,) = verdict.rules
    assert (verdict.status, rule.result, rule.waived) == ("pass", "waived", "fail")
    assert "Waived by Ada until 2026-06-30: known, fixed in the next one." in verdict.reasons[0]
    assert waived(0.0015, date(2026, 6, 30)).rules[0].waived == "warn"
    assert waived(0.008, date(2026, 6, 30), None, rejected=2).status == "warn"


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
