"""The quantile of the normal distribution and Holm's rule, which several floors need."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist


def normal_quantile(level: float) -> float:
    """Return z of a two-sided interval: a standard normal lies within -z ... z with the probability ``level``.

    >>> round(normal_quantile(0.95), 6)
    1.959964
    """
    return NormalDist().inv_cdf((1 + level) / 2)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return the p-values adjusted for their number by Holm's step-down rule.

    With the m values sorted, ``p~_(i) = max over j <= i of min(1, (m - j + 1) p_(j))``. Rejecting where p~ < alpha
    keeps the chance of any false rejection under alpha, whatever the dependence. None stays None and is not
    counted. Pass all that are tested together.

    Raises:
        ValueError: a value outside [0, 1].

    Source: Holm (1979).

    >>> holm([0.01, None, 0.04])
    [0.02, None, 0.04]
    """
    tested = [(p, i) for i, p in enumerate(p_values) if p is not None]
    if bad := [p for p, _ in tested if not 0 <= p <= 1]:
        raise ValueError(f"p-values are between 0 and 1, not {bad[0]}")
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for step, (p, i) in enumerate(sorted(tested)):
        highest = max(highest, min(1.0, (len(tested) - step) * p))
        adjusted[i] = highest
    return adjusted
