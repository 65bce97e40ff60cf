"""Rules on the number of themes."""

from __future__ import annotations

from dataclasses import replace

from koda.config import PolicyRule
from koda.policy import AuditFacts, judge
from koda.records import Estimate, RuleResult, Theme
from tests.policy.facts import facts, finding


def result_of(figure: str, given: AuditFacts) -> RuleResult:
    return judge([PolicyRule(figure=figure, fail=0)], given).rules[0]


def test_one_difference_counts_once() -> None:
    findings = [finding(0.004), finding(0.003), finding(0.002, confirmed=None), finding(0.003, side="gained")]
    subsets = [f"lost {number}" for number in (1, 2, 3)]
    made = [("lost", subsets[:2], True), ("lost", subsets[2:], False), ("gained", ["gained 1"], True)]
    themes = [
        Theme.model_validate({"side": s, "number": 1, "findings": f, "name": "", "size": 9, "confirmed": c})
        for s, f, c in made
    ]
    given = replace(facts(*findings), themes=themes)
    for figure in ("lost.themes", "gained.themes"):
        assert result_of(figure, given).observed == Estimate(value=1)
    assert result_of("lost.themes", given).result == "fail"


def test_without_findings_that_stand_there_are_no_themes() -> None:
    for given in (facts(), facts(finding(0.004, confirmed=False))):
        assert result_of("lost.themes", given).observed == Estimate(value=0)


def test_a_record_older_than_themes_has_not_counted_them() -> None:
    old = facts(finding(0.004))
    result = result_of("lost.themes", old)
    assert (result.observed, result.result) == (None, "inconclusive")
    assert result_of("gained.themes", old).observed == Estimate(value=0)
