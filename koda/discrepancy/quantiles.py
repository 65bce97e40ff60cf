"""The strength of a discrepancy against the limit on the reference: quotients over quantiles of its spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from koda.config import DiscrepancyConfig
from koda.discrepancy.limits import QuantileLimit, with_limit
from koda.discrepancy.problem import Problem
from koda.discrepancy.solution import Solution
from koda.embeddings import TableLike
from koda.errors import ConfigError

QUANTILES = tuple(round(0.1 * i, 1) for i in range(1, 11))


@dataclass(frozen=True)
class QuantilePoint:
    """The directions found at one quantile.

    Args:
        quantile: q; eps is the q-quantile of the reference's non-zero eigenvalues.
        solution: the directions and their limit.
    """

    quantile: float
    solution: Solution

    def mean_quotient(self, top: int) -> float | None:
        """Return the mean quotient x'K_A x / x'K_B x of the first directions, or None where there are fewer."""
        first = self.solution.directions[:top]
        return sum(d.quotient for d in first) / top if len(first) == top else None


def quantile_sweep(
    target: TableLike,
    reference: TableLike,
    config: DiscrepancyConfig | None = None,
    *,
    quantiles: Sequence[float] = QUANTILES,
    problem: Problem | None = None,
    prove: bool = True,
) -> tuple[QuantilePoint, ...]:
    """Search at several quantiles of the reference's spectrum, with one covariance and warm starts.

    The figure of paper 2606.04180, section 6: the quotient of the first direction, and the mean of the first three
    and five, against q = 0.1 ... 1.0.

    Args:
        config: how to look; its limit is not used.
        quantiles: q, each in (0, 1].
        problem: the two tables prepared before, by the same configuration.
        prove: whether the gap of each direction is proved, see :meth:`~koda.discrepancy.Problem.solve`.

    Raises:
        ConfigError: no quantile, or one outside (0, 1]; otherwise as :func:`koda.find_discrepancies`.
    """
    config = config or DiscrepancyConfig()
    if not quantiles or not all(0 < q <= 1 for q in quantiles):
        raise ConfigError(
            f"quantiles: {list(quantiles)} are not all over 0 and up to 1.", "Use for example 0.1 ... 1.0."
        )
    problem = problem or Problem.of(target, reference, config)
    points = []
    # from the widest limit down, each subspace is a good start for the next
    for q in sorted(quantiles, reverse=True):
        points.append(QuantilePoint(q, problem.solve(with_limit(config, QuantileLimit(q)), warm=True, prove=prove)))
    return tuple(reversed(points))
