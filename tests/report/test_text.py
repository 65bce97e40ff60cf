"""Figures and shortened texts in words."""

from __future__ import annotations

from koda.report import text


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


def test_a_shortened_text_keeps_figures_and_units_together() -> None:
    assert text.shorten("[0.27, 0.38];  candidate: 0.10\u00a0%\n", 80) == "[0.27, 0.38]; candidate: 0.10\u00a0%"


def test_the_first_letter_with_a_direction_gives_that_of_the_text() -> None:
    runs = {"a red שלום": "ltr", "12 קוביות": "rtl", "«سيارة» red": "rtl", "3 + 4": "ltr", "": "ltr", "猫": "ltr"}
    assert {words: text.direction(words) for words in runs} == runs
    assert text.direction(None) == "ltr"
