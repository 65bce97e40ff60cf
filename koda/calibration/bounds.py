"""A bound on what equals show: an upper tolerance bound of few values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import nct

from koda.statistics import normal_quantile

LEVEL = 0.95  # both the share of audits of equals that the bound is to hold, and the confidence that it does
MIN_VALUES = 2


def enough_for_order() -> int:
    """Return the least n for which the largest of n values is a bound, whatever their distribution.

    It is one unless all n lie under the quantile, with the chance level^n; so n is the least with
    1 - level^n >= level. (Wilks, Annals of Mathematical Statistics 12, 1941.)

    >>> enough_for_order()
    59
    """
    return math.ceil(math.log(1 - LEVEL) / math.log(LEVEL))


def tolerance_factor(n: int) -> float:
    """Return k of the one-sided normal tolerance bound mean + k sd.

    k = t'(level; n - 1, z sqrt(n)) / sqrt(n), where t' is the quantile of the non-central t distribution and z the
    quantile of the normal one. (NIST/SEMATECH e-Handbook of Statistical Methods, 7.2.6.3.)

    Args:
        n: number of values, at least 2.

    >>> round(tolerance_factor(10), 3)
    2.911
    """
    z = normal_quantile(2 * LEVEL - 1)
    return float(nct.ppf(LEVEL, n - 1, z * math.sqrt(n)) / math.sqrt(n))


def upper_bound(values: Sequence[float]) -> float:
    """Return a bound over 95 % of what is drawn like the values, with the confidence 95 %, if these are independent.

    From 59 values on it is the largest; under that the normal tolerance bound, and the largest value where that is
    larger. It is never under a value.

    Args:
        values: (n,), at least 2.
    """
    largest, n = max(values), len(values)
    if n >= enough_for_order() or largest == min(values):
        return largest
    return max(largest, float(np.mean(values)) + tolerance_factor(n) * float(np.std(values, ddof=1)))


def rounded_up(value: float, digits: int = 3) -> float:
    """Round to significant digits, never down.

    >>> rounded_up(0.012341), rounded_up(-0.012349), rounded_up(0.0)
    (0.0124, -0.0123, 0.0)
    """
    if value == 0:
        return 0.0
    places = digits - 1 - math.floor(math.log10(abs(value)))
    near = round(value, places)
    return near if near >= value else round(near + 10.0**-places, places)
