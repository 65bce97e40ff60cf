"""What a solver returns, in the coordinates of its space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from koda.discrepancy.solver.space import Block

OPTIMAL = "optimal"
INACTIVE = (
    "inactive: the limit on the reference energy does not bind, so this is the plain kernel PCA of the target; "
    "lower eps to ask for a contrast"
)


def relative_gap(value: float, upper: float) -> float:
    """Return how far at most a value lies under an optimum of that upper bound, relative to the value."""
    if value <= 0:
        return 0.0 if upper <= 0 else float("inf")
    return max(0.0, (upper - value) / value)


@dataclass(frozen=True)
class RawDirection:
    """One direction of the problem max x'Ax, x'Bx <= eps, ||x|| = 1, in the coordinates of A and B.

    Args:
        x: (n,) of norm 1.
        target_energy: x'Ax.
        reference_energy: x'Bx.
        multiplier: lambda of the dual bound.
        upper: proved upper bound of the optimum, ``lambda_max(A - lambda B) + lambda eps`` and what rounding may add.
        status: "optimal", or "inactive: ..." where eps does not bind.
    """

    x: np.ndarray
    target_energy: float
    reference_energy: float
    multiplier: float
    upper: float
    status: str

    @property
    def gap(self) -> float:
        """Relative distance from the optimum, at most."""
        return relative_gap(self.target_energy, self.upper)


@dataclass(frozen=True)
class RawSolution:
    """Directions in order, and why there are no more of them.

    Args:
        ending: "" where all were found; else "infeasible", "no discrepancy" or "exhausted".
        lambda_min: the smallest reference energy that was left, where the ending is "infeasible".
        iterations: steps taken (block steps of the subspace, or eigendecompositions of the dense solver).
        details: further figures of the solve.
        basis: the subspace that a later solve may start from.
    """

    directions: tuple[RawDirection, ...]
    ending: str = ""
    lambda_min: float | None = None
    iterations: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)
    basis: Block | None = None
