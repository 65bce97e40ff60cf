"""Intervals of the figures that a rule judges: of a fall, of a figure without one, of the worst of several."""

from __future__ import annotations

from koda.records import Estimate
from koda.statistics import normal_quantile


def fall(difference: Estimate | None, units: int | None = None) -> Estimate | None:
    """Return a difference, candidate less baseline, as a fall: positive where the candidate is lower.

    Args:
        difference: with its paired interval; it has none where every unit has the same difference.
        units: what was resampled (images, for captions); default: the samples of the difference.
    """
    if difference is None:
        return None
    as_fall = turned(difference)
    return as_fall if as_fall.low is not None else _of_no_spread(as_fall, units or difference.n)


def turned(difference: Estimate) -> Estimate:
    """Return a difference the other way round, with its interval."""
    low, high = difference.high, difference.low
    ends = {"low": None if low is None else -low, "high": None if high is None else -high}
    return difference.model_copy(update={"value": 0.0 - difference.value, **ends})


def _of_no_spread(same: Estimate, units: int | None) -> Estimate:
    """Give an interval to a difference, between -1 and 1, that is the same for all of n units.

    Units of another kind that make up a share s of all are missed by n draws with the chance (1 - s)^n, so with
    1 - level = alpha there may be up to s = 1 - (alpha / 2)^(1/n) of them: for large n the "rule of three". They can
    pull the mean by s times their distance, which is at most 1 + |value|.
    """
    if not units:
        return same
    reach = (1 + abs(same.value)) * (1 - ((1 - same.level) / 2) ** (1 / units))
    return same.model_copy(update={"low": max(-1.0, same.value - reach), "high": min(1.0, same.value + reach)})


def of_several(estimate: Estimate, count: int, least: float, most: float) -> Estimate:
    """Widen the interval of one of several figures, so that all of them hold together (Bonferroni).

    Each then has the level 1 - (1 - level) / count. The distances from the value to the ends grow as the quantiles of
    a normal distribution do. Without this the worst of twenty slices would be over a limit by chance alone.

    Args:
        estimate: one of them.
        count: how many there are.
        least, most: what the figure can be.
    """
    if count < 2 or estimate.low is None or estimate.high is None:
        return estimate
    level = 1 - (1 - estimate.level) / count
    wider = normal_quantile(level) / normal_quantile(estimate.level)
    low = max(least, estimate.value - wider * (estimate.value - estimate.low))
    high = min(most, estimate.value + wider * (estimate.high - estimate.value))
    return estimate.model_copy(update={"low": low, "high": high, "level": round(level, 5)})
