"""Figures and shortened texts in words."""

from __future__ import annotations

import re
from pathlib import Path

from koda.records import Estimate, RuleResult
from koda.report import figures, text
from tests.report import factory
from tests.report.page import page_of


def test_shares_are_not_rounded_to_nothing_and_energies_are_in_one_unit() -> None:
    assert [text.rough(share).replace("\u00a0", " ") for share in (0.31, 0.004, 0.0, None)] == [
        "31 %",
        "< 0.5 %",
        "0 %",
        "–",
    ]
    assert [text.power(energy).replace("\u00a0", " ") for energy in (0.00325, 9.997e-4, 0.0)] == [
        "3.25 × 10⁻³", "1.00 × 10⁻³", "0",
    ]  # fmt: skip


def test_a_figure_has_its_own_unit_whatever_that_is() -> None:
    seen = Estimate(value=3.0, low=2.0, high=12345.0)
    assert text.share_parts(seen, "number") == ("3", "[2,\u00a012345]")
    assert text.share_parts(Estimate(value=-0.2, low=-0.3, high=0.1), "points") == (
        "−20.0\u00a0points", "[−30.0,\u00a010.0]",
    )  # fmt: skip
    assert text.share(Estimate(value=float("nan"))) == text.NONE


def test_what_a_rule_observed_is_told_from_its_limits_in_the_table_of_rules() -> None:
    observed = Estimate(value=0.0204, low=0.01, high=0.03)
    fall = RuleResult(
        figure="retrieval.drop", observed=observed, warn=0.0025, fail=0.02, direction="above", result="fail"
    )
    value, interval = figures.rule_parts(fall)
    shown = [value, interval, figures.figure_limit(fall, "warn"), figures.figure_limit(fall, "fail")]
    assert [each.replace("\u00a0", " ") for each in shown] == [
        "2.04 points", "[1.00, 3.00] at 95 %", "> 0.25 points", "> 2.0 points",
    ]  # fmt: skip
    alike = {"figure": "similarity.cka.image", "observed": Estimate(value=0.94996), "fail": 0.95, "direction": "below"}
    cka = fall.model_copy(update=alike)
    assert (figures.rule_parts(cka)[0], figures.figure_limit(cka, "fail")) == ("0.94996", "<\u00a00.950")


def test_a_shortened_text_keeps_figures_and_units_together() -> None:
    assert text.shorten("[0.27, 0.38];  candidate: 0.10\u00a0%\n", 80) == "[0.27, 0.38]; candidate: 0.10\u00a0%"


def test_the_first_letter_with_a_direction_gives_that_of_the_text() -> None:
    runs = {"a red שלום": "ltr", "12 קוביות": "rtl", "«سيارة» red": "rtl", "3 + 4": "ltr", "": "ltr", "猫": "ltr"}
    assert {words: text.direction(words) for words in runs} == runs
    assert text.direction(None) == "ltr"


def test_what_a_person_set_is_written_with_all_of_its_decimals() -> None:
    assert [text.limit(value) for value in (0.00125, 0.003, 0.1)] == ["0.125\u00a0%", "0.30\u00a0%", "10.0\u00a0%"]
    assert [text.asked_for(value) for value in (0.5, 0.555)] == ["50\u00a0%", "55.5\u00a0%"]


def test_a_report_never_rounds_the_materiality(tmp_path: Path) -> None:
    record = factory.record(2, gallery=1, map_points=0)
    method = record.method.model_copy(update={"materiality": 0.00125})
    said = page_of(record.model_copy(update={"method": method}), tmp_path)[0].text
    assert said.count("0.125 %") >= 6
    assert not re.search(r"(materiality|largest|at most|nothing over|loss over)[^.]{0,12} 0\.1[23] %", said)
