"""Is a finding real, and is it material? Tests on samples that the search did not see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm

from koda.config import SignificanceConfig
from koda.discrepancy.blocks import Kernels
from koda.discrepancy.extension import Extension, extension_of
from koda.embeddings import EmbeddingTable
from koda.embeddings.rows import drawn_keys
from koda.errors import DataError
from koda.statistics import normal_quantile
from koda.typing import FloatArray

if TYPE_CHECKING:
    from koda.discrepancy.solution import Solution


MIN_CONFIRMATION = 30  # fewer confirmation samples give no interval: the normal limit is too far off
_INTERVAL_LEVEL = 0.95  # the chance that an interval holds the true figure
_NO_SKEWNESS = 1e-6  # of the influences, over sqrt(m): nothing to mend
_SE_FLOOR = 1e-9  # what rounding leaves of a difference that is 0; shares below it mean nothing


@dataclass(frozen=True)
class Interval:
    """A figure, its standard error and its 95 % interval; the latter are None where there are too few samples."""

    value: float
    se: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class HeldOut:
    """One direction on the confirmation samples.

    Args:
        direction: 1 is the strongest.
        target_share, reference_share: shares of f under the two exact kernels, each in units of its typical tie
            (:mod:`koda.kernels.ties`). A share m / n is that of a group of m of n samples whose members are as alike
            as a sample and its nearest 1 %. 0 where no two samples carry the direction.
        difference: target_share - reference_share.
        materiality: the difference that is tested against.
        p_value: one-sided, of difference <= materiality, not yet adjusted (by :func:`koda.statistics.holm`); None
            without a test, 1 for a direction that vanishes on all the samples.
        n: confirmation samples used.
        reason: why there is no interval, in words; "" where there is one.
    """

    direction: int
    target_share: Interval
    reference_share: Interval
    difference: Interval
    materiality: float
    p_value: float | None
    n: int
    reason: str = ""

    def p_above(self, materiality: float) -> float | None:
        """Return the p-value of difference <= another materiality: how the verdict depends on the choice."""
        return self.p_value if self.reason else _p_value(self.difference, materiality)


def confirm(
    solution: Solution,
    target: EmbeddingTable,
    reference: EmbeddingTable,
    confirmation_keys: Sequence[str],
    config: SignificanceConfig,
    extension: Extension | None = None,
) -> tuple[HeldOut, ...]:
    """Estimate the shares of each direction on new samples, and test their difference.

    With f the extension of the direction (:func:`koda.discrepancy.extension.extend`) to m confirmation samples and
    exact kernels, per sample and in sum ::

        h_i = f_i sum_{j != i} f_j (k_A / tau_A - k_B / tau_B)(i, j) / (m - 1)
        d   = mean h / mean f^2
        se  = std(2 h_i / mean f^2 - d f_i^2 / mean f^2 - d) / sqrt(m)
        p   = 1 - Phi((d - materiality) / se)

    and likewise the shares with k_A and k_B alone; tau, the typical ties, are those of the search's samples, taken as
    known. d is a ratio of a U-statistic of degree 2 and a mean,
    se its first-order (Hajek) error with the projection estimated from the same samples. That estimate
    holds the second-order part twice (4 zeta_2 / m^2 where the variance has 2 zeta_2 / m^2), so se is too large,
    never too small, where the projection degenerates, as it does for a direction of pure noise. Intervals reach farther
    on the side to which the influences are skewed (Hall 1992); the test does not use that.
    A test against a difference of 0 would be meaningless: any two models differ. It is against ``materiality``.

    Args:
        solution: directions found on other samples.
        target, reference: tables that hold the samples of the solution and of the confirmation.
        confirmation_keys: distinct, none of them in ``solution.keys``; beyond ``config.max_samples`` a subsample
            is drawn with the seed of the solution.
        config: materiality and number of samples.
        extension: of the solution over the tables, where it is at hand.

    Returns:
        One for each direction, () without directions. Under 30 samples there is no interval and no test (p_value
        None, and a reason). A direction that vanishes on all samples has no interval either; nothing speaks for a
        difference, so its p_value is 1.

    Raises:
        DataError: samples that the search has seen, keys repeated or missing, embeddings that cannot be used.

    Source: Hoeffding (1948) for the projection; van der Vaart, Asymptotic Statistics, chapter 12.
    """
    keys = tested_keys(solution, confirmation_keys, config)
    extension = extension or extension_of(solution, target, reference)
    return held_out_shares(extension.values(keys).T, keys, extension.kernels, config.materiality)


def held_out_shares(f: FloatArray, keys: Sequence[str], kernels: Kernels, materiality: float) -> tuple[HeldOut, ...]:
    """Estimate and test the shares of given values on given samples: the second half of :func:`confirm`.

    Args:
        f: (m, k) values of k directions on m samples that neither chose the directions nor shaped the models.
        keys: the m samples.
        kernels: of the target and of the reference, over tables that hold the samples.
        materiality: the difference that is tested against, in ties.

    Returns:
        One for each direction, as :func:`confirm`.

    Raises:
        DataError: embeddings that cannot be used.
    """
    if not f.shape[1]:
        return ()
    m = len(keys)
    norms = np.sqrt(np.square(f).mean(axis=0)) if m else np.zeros(f.shape[1])  # (k,)
    alive = norms > 0
    f = f / np.where(alive, norms, 1.0)  # mean f^2 = 1
    h = [kernel.projections(kernel.rows(keys), f) if m >= 2 else np.zeros_like(f) for kernel in kernels]  # (m, k) each
    results = []
    for k in range(f.shape[1]):
        reason, p_value = "", None
        if m < MIN_CONFIRMATION:
            reason = f"there are {m} confirmation samples; a test needs {MIN_CONFIRMATION}"
        elif not alive[k]:
            reason, p_value = "no confirmation sample carries the direction: nothing new resembles it", 1.0
        shares = [_interval(each[:, k], f[:, k], bool(reason)) for each in (h[0], h[1], h[0] - h[1])]
        if not reason:
            p_value = _p_value(shares[2], materiality)
        results.append(
            HeldOut(
                direction=k + 1,
                target_share=shares[0],
                reference_share=shares[1],
                difference=shares[2],
                materiality=materiality,
                p_value=p_value,
                n=m,
                reason=reason,
            )
        )
    return tuple(results)


def tested_keys(solution: Solution, keys: Sequence[str], config: SignificanceConfig) -> list[str]:
    """Return the confirmation samples that a test is made on, sorted: all, or a seeded subsample.

    Raises:
        DataError: samples that the search has seen, or keys repeated.
    """
    ordered = sorted(keys)
    if len(set(ordered)) != len(ordered):
        raise DataError("Confirmation keys are repeated.", "Pass each sample once: repeats look like agreement.")
    if seen := set(ordered) & set(solution.keys):
        raise DataError(
            f"{len(seen)} of {len(ordered)} confirmation samples were used in the search, {min(seen)!r} among them.",
            "Test on samples that the search did not see; p-values from the same samples are unsound.",
        )
    return drawn_keys(ordered, config.max_samples, solution.config.seed)


def _interval(h: FloatArray, f: FloatArray, value_only: bool) -> Interval:
    """Return mean h with its error, for f of mean square 1."""
    if len(h) < 2:
        return Interval(0.0)
    value = float(h.mean())
    if value_only:
        return Interval(value)
    influence = 2 * h - value * np.square(f) - value  # (m,)
    se = float(influence.std(ddof=1)) / math.sqrt(len(h))
    below, above = _reaches(influence)
    return Interval(value, se, value - below * se, value + above * se)


def _reaches(influence: FloatArray) -> tuple[float, float]:
    """Return how many standard errors the interval reaches below and above the value.

    A share rests on few samples, so its influence is skewed, and the estimate is small where its error is small too:
    the normal interval then ends too low. With skewness g of m influences, Hall's transformation of the studentised
    value t, ``t + g t^2 / 3 sqrt(m) + g^2 t^3 / 27 m + g / 6 sqrt(m)``, is normal to the next order; its inverse moves
    an end out where the skewness asks for it, to twice as far at most. An end that it would move in stays where the
    normal one is.

    Source: Hall (1992), On the removal of skewness by transformation.
    """
    z = normal_quantile(_INTERVAL_LEVEL)
    spread = float(influence.std())
    if not spread > 0:
        return z, z
    a = float((((influence - influence.mean()) / spread) ** 3).mean()) / math.sqrt(len(influence))
    if abs(a) < _NO_SKEWNESS:
        return z, z

    def studentised(x: float) -> float:
        return 3 / a * (math.cbrt(1 + a * (x - a / 6)) - 1)

    # where so few samples carry the share that the expansion breaks down, it says no more than that
    return min(max(z, studentised(z)), 2 * z), min(max(z, -studentised(-z)), 2 * z)


def _p_value(difference: Interval, materiality: float) -> float:
    se = max(difference.se or 0.0, _SE_FLOOR)
    return float(norm.sf((difference.value - materiality) / se))
