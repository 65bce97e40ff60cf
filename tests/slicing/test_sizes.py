"""How many samples a lobe has."""

from __future__ import annotations

import numpy as np
import pytest

from koda.slicing.slices import lobe_size, members


@pytest.mark.parametrize("seed", range(5))
def test_size_rule_against_brute_force(seed):
    scores = np.sort(np.random.default_rng(seed).exponential(size=80))[::-1]
    best = max(range(1, 81), key=lambda k: scores[:k].sum() / k**0.5)
    assert lobe_size(scores, 1, 80) == best
    assert lobe_size(scores, best + 3, 80) == best + 3
    assert lobe_size(scores, 1, 2) == min(best, 2)


def test_size_of_a_tied_group_is_the_group():
    assert lobe_size(np.array([0.2] * 25 + [0.001] * 60), 5, 50) == 25
    assert lobe_size(np.array([0.2] * 3), 5, 50) == 3
    assert lobe_size(np.array([]), 5, 50) == 0


def test_noise_does_not_fill_a_lobe_to_its_cap():
    """Without a background the rule takes a quarter of all samples of noise, so that the cap is what decides."""
    for n in (200, 1000, 4000):
        f = np.random.default_rng(n).normal(size=n)
        descending = np.sort(f[f > 0])[::-1]
        assert lobe_size(descending, 5, n) > 0.2 * n
        for lobe in members(f):
            assert 5 <= len(lobe) < 0.07 * n


@pytest.mark.parametrize("share", [0.01, 0.03, 0.08])
def test_a_group_above_noise_is_found_whole(share):
    n, rng = 2000, np.random.default_rng(0)
    group = int(share * n)
    f = rng.normal(scale=0.1, size=n)
    f[:group] = rng.uniform(0.7, 1.3, size=group)
    assert set(members(f)[0]) == set(range(group))


def test_the_scale_of_a_direction_does_not_matter():
    f = np.random.default_rng(3).standard_t(2, size=1000)
    for one, other in zip(members(f), members(1e-6 * f), strict=True):
        assert (one == other).all()


def test_where_no_score_is_over_the_background_the_floor_is_taken():
    assert [len(lobe) for lobe in members(np.ones(100))] == [5, 0]
    assert [len(lobe) for lobe in members(np.ones(3))] == [3, 0]
    assert [len(lobe) for lobe in members(np.zeros(100))] == [0, 0]
    assert [len(lobe) for lobe in members(np.array([]))] == [0, 0]
