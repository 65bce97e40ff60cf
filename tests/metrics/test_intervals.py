"""The paired bootstrap against one that draws every image, and on what has nothing to draw."""

from __future__ import annotations

from collections import Counter
from statistics import NormalDist

import numpy as np
import pytest

from koda.metrics.intervals import _kinds, _pooled, paired_difference, wilson


def _one_by_one(candidate, baseline, groups, resamples, seed):
    """Draw images one at a time and pool their queries."""
    rng = np.random.default_rng(seed)
    numbers = np.unique(groups)
    rows = {g: np.flatnonzero(groups == g) for g in numbers}
    shares = []
    for _ in range(resamples):
        drawn = np.concatenate([rows[g] for g in rng.choice(numbers, size=len(numbers))])
        shares.append(candidate[drawn].mean() - baseline[drawn].mean())
    return np.quantile(shares, [0.025, 0.975])


@pytest.mark.parametrize("grouped", [False, True])
def test_the_interval_equals_that_of_drawing_images_one_by_one(grouped):
    rng = np.random.default_rng(0)
    n = 120
    groups = np.sort(rng.integers(0, 30, n)) if grouped else np.arange(n)
    hard = rng.random(n)[groups]  # queries of an image go together
    candidate, baseline = rng.random(n) > hard, rng.random(n) > 0.6 * hard
    found = paired_difference(candidate, baseline, groups if grouped else None, resamples=20_000)
    low, high = _one_by_one(candidate, baseline, groups, 4000, seed=1)
    assert found.value == pytest.approx(candidate.mean() - baseline.mean())
    assert found.low == pytest.approx(low, abs=0.012)
    assert found.high == pytest.approx(high, abs=0.012)
    assert found == paired_difference(candidate, baseline, groups if grouped else None, resamples=20_000)


@pytest.mark.parametrize("spread", [1, 1000, 10**15])
def test_the_numbers_of_the_groups_do_not_matter(spread):
    """Numbers far apart, or under 0, give the same draws as 0, 1, 2 ..."""
    rng = np.random.default_rng(3)
    groups = rng.integers(0, 40, 200)
    candidate, baseline = rng.random((2, 200)) > 0.4
    assert paired_difference(candidate, baseline, spread * groups - 7) == paired_difference(candidate, baseline, groups)


def test_kinds_of_groups_are_counted_as_a_plain_count_does():
    rng = np.random.default_rng(4)
    for groups in (np.arange(50), rng.integers(0, 9, 50), rng.integers(0, 3, 50) * 10**6):
        differences = rng.integers(-1, 2, 50)
        plain = Counter((differences[groups == g].sum(), (groups == g).sum()) for g in np.unique(groups))
        sums, sizes, counts = _kinds(*_pooled(differences, groups))
        assert {(a, b): n for a, b, n in zip(sums, sizes, counts, strict=True)} == plain
        assert list(zip(sums, sizes, strict=True)) == sorted(plain)


def test_one_group_far_larger_than_the_others_is_counted_too():
    groups = np.concatenate([np.zeros(5000, dtype=np.int64), np.arange(1, 4)])
    hits = np.arange(5003) % 3 == 0
    found = paired_difference(hits, ~hits, groups)
    assert found.value == pytest.approx((hits.astype(int) - ~hits).mean())
    assert found.low < found.value < found.high


def test_pairs_that_differ_alike_make_the_interval_narrow():
    rng = np.random.default_rng(1)
    baseline = rng.random(400) > 0.5
    candidate = baseline.copy()
    candidate[:20] = ~candidate[:20]
    paired = paired_difference(candidate, baseline)
    unpaired = paired_difference(rng.permutation(candidate), baseline)
    assert paired.high - paired.low < 0.4 * (unpaired.high - unpaired.low)


@pytest.mark.parametrize("n", [1, 7])
def test_no_variation_gives_no_interval(n):
    same = np.ones(n, dtype=bool)
    for candidate, value in ((same, 0.0), (~same, -1.0)):
        found = paired_difference(candidate, same)
        assert (found.value, found.low, found.high, found.n) == (value, None, None, n)


def test_many_queries_need_no_more_memory_than_few():
    rng = np.random.default_rng(2)
    candidate, baseline = rng.random((2, 1_000_000)) > 0.5
    found = paired_difference(candidate, baseline)  # one by one it would draw two thousand million numbers
    assert found.low < 0 < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(0.5 / 1_000_000), rel=0.1)


def test_what_cannot_be_paired_is_refused():
    yes = np.ones(3, dtype=bool)
    for candidate, baseline, groups in ((yes[:0], yes[:0], None), (yes, yes[:2], None), (yes, yes, np.arange(2))):
        with pytest.raises(ValueError, match="paired"):
            paired_difference(candidate, baseline, groups)


@pytest.mark.parametrize("numbers", [[0, 0, 0, 0], [9, 9, 9, 9]])
def test_one_image_with_many_captions_gives_no_interval(numbers):
    hits = np.array([True, True, False, True])
    found = paired_difference(hits, ~hits, np.array(numbers))
    assert (found.value, found.low, found.high, found.n) == (0.5, None, None, 4)


def test_a_model_beside_itself_has_no_difference_and_no_interval():
    rng = np.random.default_rng(5)
    hits = rng.random(60) > 0.5
    for groups in (None, rng.integers(0, 12, 60), np.zeros(60, dtype=np.int64)):
        found = paired_difference(hits, hits, groups)
        assert (found.value, found.low, found.high) == (0.0, None, None)


def test_copies_of_a_query_in_one_image_do_not_make_it_surer():
    """Every query ten times over, in its own image: the same values, and the same interval."""
    rng = np.random.default_rng(6)
    candidate, baseline = rng.random((2, 50)) > 0.4
    once = paired_difference(candidate, baseline)
    copied = paired_difference(np.repeat(candidate, 10), np.repeat(baseline, 10), np.repeat(np.arange(50), 10))
    assert (copied.value, copied.low, copied.high) == (once.value, once.low, once.high)


@pytest.mark.parametrize("n", [1, 2, 7, 100, 2941])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
def test_wilson_holds_the_shares_whose_score_test_does_not_refuse(n, level):
    """The ends solve (k / n - p)^2 = z^2 p (1 - p) / n, but for 0 and 1 where none and where all hit."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    for k in sorted({0, 1, n // 3, n - 1, n}):
        found = wilson(k, n, level)
        assert (found.value, found.n, found.level) == (k / n, n, level)
        roots = np.sort(np.roots([n + z * z, -(2 * k + z * z), k * k / n]).real)
        assert (found.low, found.high) == pytest.approx(tuple(roots), abs=1e-7)
    assert wilson(0, n, level).low == 0.0 and wilson(n, n, level).high == 1.0


def test_wilson_of_no_trials_is_refused():
    with pytest.raises(ValueError, match="0 of 0 is not a share"):
        wilson(0, 0)
