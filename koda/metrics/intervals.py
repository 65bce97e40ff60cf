"""The difference between two models on the same queries: a paired bootstrap interval, and a paired test."""

from __future__ import annotations

import numpy as np

from koda.records import Estimate
from koda.typing import BoolArray, IntArray

RESAMPLES = 2000
_SPARSE_FACTOR = 8  # counting needs no sort where the range of the numbers is under this many times their count


def paired_difference(
    candidate: BoolArray,
    baseline: BoolArray,
    groups: IntArray | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Return the share of hits of the candidate less that of the baseline, with its percentile interval.

    Whole groups are drawn with replacement, each with all its queries under both models. Groups with the same count
    of queries and the same difference are alike to the bootstrap, so what is drawn is how often each kind of group
    comes: the same distribution as drawing the groups one by one, in memory that does not grow with them.

    Args:
        candidate, baseline: (n,) whether each query hit, in the same order.
        groups: (n,) the number of the image that each query is of; default each its own.
        resamples: draws.
        seed: of the draws.
        level: of the interval.

    Returns:
        The interval is absent where every group has the same difference, since then no draw varies.

    Raises:
        ValueError: no queries, or arrays of other lengths.

    Source: Efron and Tibshirani (1993), chapter 13; groups as clusters: Davison and Hinkley (1997), section 3.8.

    >>> hits = np.array([True, True, False, False])
    >>> paired_difference(hits, np.array([True, False, False, False])).value
    0.25
    """
    n = len(candidate)
    if n == 0 or len(baseline) != n or (groups is not None and len(groups) != n):
        raise ValueError(f"{n} queries of the candidate and {len(baseline)} of the baseline cannot be paired")
    differences = candidate.astype(np.int64) - baseline.astype(np.int64)  # (n,)
    value = float(differences.sum()) / n
    sums, sizes = (differences, np.ones(n, dtype=np.int64)) if groups is None else _pooled(differences, groups)
    sums, sizes, counts = _kinds(sums, sizes)
    if len(np.unique(sums / sizes)) < 2:
        return Estimate(value=value, level=level, n=n)
    drawn = np.random.default_rng(seed).multinomial(
        counts.sum(), counts / counts.sum(), size=resamples
    )  # (resamples, k)
    shares = (drawn @ sums) / (drawn @ sizes)
    low, high = np.quantile(shares, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value=value, low=float(low), high=float(high), level=level, n=n)


def sign_test(candidate: BoolArray, baseline: BoolArray, groups: IntArray | None = None) -> float:
    """Return the two-sided p-value of two models that hit the same queries equally often.

    With s_g the hits of the candidate less those of the baseline in a group, and m the number of groups where it is
    not 0, the number of groups where it is positive is Binomial(m, 1/2) under the hypothesis. For groups of one query
    that is McNemar's exact test. It is 1 where no group differs.

    Args:
        candidate, baseline: (n,) whether each query hit, in the same order.
        groups: (n,) the number of the image that each query is of; default each its own.

    Source: McNemar (1947); Dixon and Mood (1946) for the sign test.

    >>> sign_test(np.ones(6, dtype=bool), np.zeros(6, dtype=bool))
    0.03125
    """
    from scipy.stats import binomtest  # which takes long to import, and stored records are read without it

    sums = candidate.astype(np.int64) - baseline.astype(np.int64)  # (n,)
    if groups is not None and len(groups):
        sums = _pooled(sums, groups)[0]
    more, fewer = int((sums > 0).sum()), int((sums < 0).sum())
    return float(binomtest(more, more + fewer).pvalue) if more + fewer else 1.0


def _pooled(differences: IntArray, groups: IntArray) -> tuple[IntArray, IntArray]:
    """Return the sum of the differences and the count of the queries of each group, (g,) each."""
    numbers = groups - groups.min()
    if int(numbers.max()) > _SPARSE_FACTOR * len(groups):  # else one pass counts them, without a sort
        numbers = np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(numbers)
    sums = np.bincount(numbers, weights=differences).astype(np.int64)
    return sums[sizes > 0], sizes[sizes > 0]


def _kinds(sums: IntArray, sizes: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Return the distinct pairs of a sum and a size, in their order, and how many groups have each, (k,) each."""
    width = int(sizes.max()) + 1
    codes = sums * width + sizes  # one number a pair, in the order of the pairs
    least, most = int(codes.min()), int(codes.max())
    if most - least <= _SPARSE_FACTOR * len(codes):
        counts = np.bincount(codes - least)
        codes = np.flatnonzero(counts) + least
        counts = counts[counts > 0]
    else:
        codes, counts = np.unique(codes, return_counts=True)
    return codes // width, codes % width, counts


def wilson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """Return a share with its Wilson score interval: inside [0, 1], and not empty at 0 or n.

    Raises:
        ValueError: n under 1, or successes outside 0..n.

    Source: Wilson (1927).
    """
    from scipy.stats import binomtest  # which takes long to import, and stored records are read without it

    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is not a share")
    interval = binomtest(successes, n).proportion_ci(level, method="wilson")
    return Estimate(value=successes / n, low=float(interval.low), high=float(interval.high), level=level, n=n)
