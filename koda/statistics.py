"""The quantile of the normal distribution, which intervals on several floors need."""

from __future__ import annotations

from statistics import NormalDist


def normal_quantile(level: float) -> float:
    """Return z of a two-sided interval: a standard normal lies within -z ... z with the probability ``level``.

    >>> round(normal_quantile(0.95), 6)
    1.959964
    """
    return NormalDist().inv_cdf((1 + level) / 2)
