"""P-values over the steps of a search."""

from __future__ import annotations

import numpy as np
import pytest

from koda.discrepancy.multiplicity import adjusted_p_values
from koda.statistics import holm


def test_one_step_is_holms_rule_over_both_questions():
    lost, gained = [0.01, 0.3, None], [0.002, 0.04]
    adjusted = adjusted_p_values([lost, gained], 3, 3)
    assert [*adjusted[0], *adjusted[1]] == holm([*lost, *gained])


def test_later_steps_share_what_the_first_leaves():
    lost, gained = [0.001, 0.002, 0.0001], [0.003]
    adjusted = adjusted_p_values([lost, gained], 2, 6)  # three steps at most: 80, 10 and 10 %
    first = [p / 0.8 for p in holm([0.001, 0.002, 0.003]) if p is not None]
    assert adjusted[0][:2] + adjusted[1] == pytest.approx(first)
    assert adjusted[0][2] == pytest.approx(0.0001 / 0.1)


def test_the_leading_directions_do_not_pay_for_a_search_that_went_on():
    few = adjusted_p_values([[0.001] * 4, []], 4, 8)[0]
    many = adjusted_p_values([[0.001] * 8, [0.5] * 2], 4, 8)[0]
    assert many[:4] == pytest.approx([p * 6 / 4 for p in few])  # for the two gained, not for the four added


def test_nothing_is_nothing_and_no_value_passes_one():
    assert adjusted_p_values([[], []], 10, 30) == [[], []]
    assert adjusted_p_values([[0.9] * 3, [None]], 2, 4) == [[1.0] * 3, [None]]


def test_the_chance_of_a_false_rejection_stays_under_alpha_where_the_search_stops_by_what_it_sees():
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(4000):
        p = rng.random(6).tolist()
        length = 2 if p[1] > 0.5 else 4 if p[3] > 0.5 else 6  # goes on while the last looks small
        adjusted = adjusted_p_values([p[:length], []], 2, 6)[0]
        wrong += any(value is not None and value < 0.05 for value in adjusted)
    assert wrong / 4000 < 0.055


def test_small_steps_are_taken_together_so_that_each_keeps_enough_to_confirm_anything():
    (lost, gained) = adjusted_p_values([[1e-4, 1e-3], [0.5]], 1, 30)
    # a block of ten directions a question, those that were not come to counting as well
    assert lost == pytest.approx([1e-4 * 20 / 0.8, 1e-3 * 19 / 0.8])
    assert gained == [1.0]
