"""Rules on falls by metadata value: what decides, and why there may be nothing to observe."""

from __future__ import annotations

from typing import Any

import pytest

from koda.config import PolicyRule
from koda.errors import ConfigError
from koda.policy import FIGURES, AuditFacts, check_policy, judge
from koda.policy.export import junit_xml
from koda.records import (
    AccuracyDifference,
    Estimate,
    Metrics,
    PairedShares,
    RecallDifference,
    RuleResult,
    ValueDifference,
    ZeroShotRecord,
)
from tests.policy.facts import facts
from tests.report import factory

COLUMNS = ["category", "time of day", "id"]


def _shares(fall: float, p: float, reach: float | None = 0.02) -> PairedShares:
    ends = {} if reach is None else {"low": -fall - reach, "high": -fall + reach}
    return PairedShares(baseline=0.9, candidate=0.9 - fall, difference=Estimate(value=-fall, n=60, **ends), p_value=p)


def _value(column: str, value: str, fall: float, p: float, zero_shot: PairedShares | None = None) -> ValueDifference:
    least = _shares(0.0, 1.0)
    return ValueDifference(
        column=column,
        value=value,
        n=60,
        n_images=60,
        image_to_text={"R@1": least, "R@10": least},
        text_to_image={"R@1": _shares(fall, p), "R@10": _shares(fall / 2, p)},
        zero_shot=zero_shot,
    )


VALUES = [
    _value("category", "Food & Drink", 0.3, 1e-8, _shares(0.1, 0.01)),
    _value("category", "Travel", 0.1, 0.01, _shares(0.5, 1e-9)),
    _value("category", "Rare", 0.6, 0.2),
    _value("category", "Gained", -0.7, 1e-9),
    _value("time of day", "night", 0.4, 1e-5),
]
UNMEASURED = {"id": "it has 100 values, and a category has 2 to 50"}


def _facts(values: list[ValueDifference] = VALUES, columns: list[str] = COLUMNS, **more: Any) -> AuditFacts:
    recall = {"R@1": Estimate(value=0.0, low=-0.01, high=0.01, n=100)}
    metrics = Metrics(
        retrieval_differences=[
            RecallDifference(subset="all", n=100, n_images=100, image_to_text=recall, text_to_image=recall)
        ],
        by_value=values,
        by_value_unmeasured=UNMEASURED,
    ).model_copy(update=more)
    base = facts()
    return AuditFacts([], base.data.model_copy(update={"metadata_columns": columns}), metrics)


def _judged(figure: str, observed: AuditFacts | None = None, **limits: float) -> RuleResult:
    rule = PolicyRule(figure=figure, **(limits or {"fail": 0.1}))  # type: ignore[arg-type]
    return judge([rule], observed or _facts()).rules[0]


def test_the_largest_significant_fall_of_the_column_decides_and_is_named() -> None:
    verdict = judge([PolicyRule(figure="by.category.retrieval_drop", fail=0.1)], _facts())
    (rule,) = verdict.rules
    assert (rule.result, rule.detail) == ("fail", "category = Food & Drink, R@1, caption to image")
    assert rule.observed is not None and rule.observed.value == pytest.approx(0.3)
    (reason,) = verdict.reasons
    assert "by.category.retrieval_drop (category = Food & Drink, R@1, caption to image) is 30.0 points (" in reason
    assert "over the fail limit of 10.0 points" in reason


def test_over_all_columns_the_worst_decides() -> None:
    rule = _judged("by.retrieval_drop")
    assert (rule.result, rule.detail) == ("fail", "time of day = night, R@1, caption to image")
    assert _judged("by.time of day.retrieval_drop").detail == rule.detail


def test_the_interval_holds_for_all_figures_that_the_worst_is_of() -> None:
    one, many = _judged("by.time of day.retrieval_drop").observed, _judged("by.retrieval_drop").observed
    assert one is not None and many is not None and one.value == many.value
    assert (one.level, many.level) == (pytest.approx(1 - 0.05 / 4), pytest.approx(1 - 0.05 / 20))
    assert many.low < one.low < 0.38 and 0.42 < one.high < many.high  # type: ignore[operator]


def test_a_fall_that_is_not_significant_is_none() -> None:
    for values in ([VALUES[2]], [VALUES[3]], [_value("category", "same", 0.0, 1.0)]):
        rule = _judged("by.category.retrieval_drop", _facts(values))
        assert rule.result == "pass" and rule.detail is None
        assert rule.observed is not None and rule.observed.value == 0


def test_a_smaller_fall_that_is_clearly_over_the_limit_fails_though_the_largest_is_unclear() -> None:
    wide = PairedShares(
        baseline=0.9, candidate=0.5, difference=Estimate(value=-0.4, low=-0.9, high=-0.01, n=30), p_value=0.04
    )
    unclear = ValueDifference(column="category", value="small", n=30, n_images=30, image_to_text={"R@1": wide})
    assert _judged("by.category.retrieval_drop", _facts([unclear])).result == "inconclusive"
    rule = _judged("by.category.retrieval_drop", _facts([unclear, VALUES[0]]))
    assert (rule.result, rule.detail) == ("fail", "category = Food & Drink, R@1, caption to image")


def test_a_value_of_which_every_image_fell_has_an_interval() -> None:
    lost = ValueDifference(
        column="category", value="lost", n=60, n_images=60, image_to_text={"R@1": _shares(1.0, 1e-17, None)}
    )
    rule = _judged("by.category.retrieval_drop", _facts([lost]), fail=0.5)
    assert rule.result == "fail" and rule.observed is not None and rule.observed.low is not None


def test_zero_shot_has_figures_of_its_own() -> None:
    top = {"top-1": Estimate(value=0.0, n=100)}
    measured = ZeroShotRecord(
        label_column="category", classes=["a", "b"], templates=["{}"], n_labelled=100,
        differences=[AccuracyDifference(subset="all", n=100, top=top)],
    )  # fmt: skip
    rule = _judged("by.category.zero_shot_drop", _facts(zero_shot=measured))
    assert (rule.result, rule.detail) == ("fail", "category = Travel, zero-shot top-1")
    assert _judged("by.zero_shot_drop", _facts(zero_shot=measured)).detail == rule.detail
    note = _judged("by.time of day.zero_shot_drop", _facts(zero_shot=measured)).note
    assert note == "too few held-out images of any value of time of day have a class"


@pytest.mark.parametrize(
    ("figure", "observed", "why"),
    [
        ("by.colour.retrieval_drop", _facts(), "no column 'colour'; it has category, time of day, id"),
        ("by.id.retrieval_drop", _facts(), "id was not measured by value: it has 100 values"),
        ("by.time of day.zero_shot_drop", _facts(VALUES[4:]), "no zero_shot section"),
        ("by.retrieval_drop", _facts([], [], by_value_unmeasured={}), "the data set has no metadata columns"),
        ("by.retrieval_drop", _facts([], by_value_unmeasured={}), "the audit did not record it"),
        ("by.retrieval_drop", _facts([]), "id: it has 100 values"),
        ("by.category.retrieval_drop", _facts([]), "the audit did not record it"),
        ("by.retrieval_drop", facts(), "both models to embed images and captions"),
        ("by.category.retrieval_drop", facts(), "both models to embed images and captions"),
    ],
)
def test_what_was_not_measured_is_inconclusive_in_words(figure: str, observed: AuditFacts, why: str) -> None:
    rule = _judged(figure, observed)
    assert (rule.result, rule.observed) == ("inconclusive", None)
    assert rule.note is not None and why in rule.note


def test_a_name_like_one_of_the_family_is_refused_with_the_family_named() -> None:
    with pytest.raises(ConfigError, match=r"(?s)by\.category\.retrieval_fall.*by\.<column>\.retrieval_drop"):
        check_policy([PolicyRule(figure="by.category.retrieval_fall", fail=1)])
    with pytest.raises(ConfigError, match="min_stability has no meaning"):
        check_policy([PolicyRule(figure="by.category.retrieval_drop", fail=1, min_stability=0.5)])
    check_policy([PolicyRule(figure="by.a.dotted.name.retrieval_drop", fail=1)])
    assert "by.retrieval_drop" in FIGURES and "by.x.share" not in FIGURES


def test_a_long_value_of_several_lines_is_named_in_one() -> None:
    rule = _judged("by.category.retrieval_drop", _facts([_value("category", "a\nb " * 100, 0.3, 1e-8)]))
    assert rule.detail is not None and len(rule.detail) < 120 and "\n" not in rule.detail


def test_machines_are_told_which_value_decides() -> None:
    record = factory.record(1, gallery=1, map_points=0)
    rule = _judged("by.category.retrieval_drop")
    changed = record.model_copy(update={"verdict": record.verdict.model_copy(update={"rules": [rule]})})
    assert "decided by category = Food &amp; Drink, R@1, caption to image" in junit_xml([changed]).decode()
