"""How many samples a lobe has."""

from __future__ import annotations

import numpy as np
import pytest

from koda.slicing.slices import lobe_size, members


@pytest.mark.parametrize("seed", range(5))
def test_size_rule_against_brute_force(seed):
    scores = np.sort(np.random.default_rng(seed).exponential(size=80))[::-1]
    wide = sum(1 for score in scores if score >= sum(scores[:5]) / 5 / 2)
    assert lobe_size(scores, 1, 80) == wide
    assert lobe_size(scores, wide + 3, 80) == wide + 3
    assert lobe_size(scores, 1, 2) == min(wide, 2)


def test_size_of_a_tied_group_is_the_group():
    assert lobe_size(np.array([0.2] * 25 + [0.001] * 60), 5, 50) == 25
    assert lobe_size(np.array([0.2] * 3), 5, 50) == 3
    assert lobe_size(np.array([]), 5, 50) == 0


def test_the_size_of_a_lobe_does_not_grow_with_the_tail_of_all_others():
    """A group and a long tail: the tail makes up most of the sum of the scores, and none of the lobe."""
    for n in (1000, 4000):
        rng = np.random.default_rng(n)
        f = np.abs(rng.normal(scale=0.15, size=n))
        f[:20] = rng.uniform(0.8, 1.2, size=20)
        positive, negative = members(f)
        assert set(range(20)) <= set(positive)
        assert len(positive) < 30
        assert len(negative) == 0


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


def test_where_all_scores_are_alike_the_cap_is_taken():
    assert [len(lobe) for lobe in members(np.ones(100))] == [10, 0]
    assert [len(lobe) for lobe in members(np.ones(3))] == [3, 0]
    assert [len(lobe) for lobe in members(np.zeros(100))] == [0, 0]
    assert [len(lobe) for lobe in members(np.array([]))] == [0, 0]
