"""The bound on what equals show: published factors, how often it holds, and values that are all the same."""

from __future__ import annotations

import numpy as np
import pytest

from koda.calibration.bounds import enough_for_order, rounded_up, tolerance_factor, upper_bound


@pytest.mark.parametrize(("n", "factor"), [(2, 26.260), (3, 7.656), (5, 4.203), (10, 2.911), (20, 2.396), (50, 2.065)])
def test_factors_are_those_of_the_tables(n: int, factor: float) -> None:
    """One-sided, 95 % of a normal distribution with the confidence 95 %: Natrella, Handbook 91, table A-7."""
    assert tolerance_factor(n) == pytest.approx(factor, abs=2e-3)


@pytest.mark.parametrize("n", [5, 20])
def test_it_holds_95_percent_in_about_95_of_100_cases(n: int) -> None:
    rng = np.random.default_rng(0)
    bounds = np.array([upper_bound(list(values)) for values in rng.normal(size=(1500, n))])
    held = np.mean(bounds >= 1.6449)
    assert 0.93 < held < 0.97  # 4 standard errors of a share of 0.95 are 0.023
    assert np.median(bounds) < tolerance_factor(n) + 0.1, "nor is it far off"


def test_of_many_values_it_is_the_largest_whatever_their_distribution() -> None:
    rng = np.random.default_rng(1)
    n = enough_for_order()
    values = list(rng.exponential(size=n))
    assert upper_bound(values) == max(values)
    assert upper_bound(values[:-1]) >= max(values[:-1])
    draws = rng.exponential(size=(2000, n))
    assert np.mean(draws.max(1) >= -np.log(0.05)) > 0.93


def test_values_that_are_the_same_are_their_own_bound() -> None:
    assert upper_bound([0.0] * 10) == 0.0
    assert upper_bound([0.1, 0.1, 0.1]) == 0.1
    outlier = [0.0] * 19 + [1.0]
    assert upper_bound(outlier) == 1.0


def test_rounding_never_goes_down() -> None:
    rng = np.random.default_rng(2)
    for value in [*rng.normal(size=200), *10.0 ** rng.uniform(-9, 6, size=200), 0.999999, 9.9951, -1.0]:
        up = rounded_up(float(value))
        assert value <= up <= value + 0.0101 * abs(value)
        assert rounded_up(up) == up
