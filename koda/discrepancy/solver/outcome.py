"""What a solver returns, in the coordinates of its space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np

if TYPE_CHECKING:
    from koda.discrepancy.solver.space import Block


class Ending(Enum):
    """Why a search returned no more directions than it did."""

    COMPLETE = auto()  # all directions that were asked for were found
    NO_DISCREPANCY = auto()  # the target ties what is left together no more than the reference does
    INFEASIBLE = auto()  # nothing that is left meets the limit on the reference energy
    EXHAUSTED = auto()  # the space has no further dimension
    SAME = auto()  # the two forms are equal up to rounding, so nothing was searched


class DirectionState(Enum):
    """What is known of a direction."""

    OPTIMAL = auto()  # its gap is proved to the tolerance
    INACTIVE = auto()  # likewise, and the limit on the reference energy does not bind
    INEXACT = auto()  # a proof was asked for, and its gap exceeds the tolerance
    UNPROVED = auto()  # no proof was asked for, and its gap exceeds the tolerance

    @property
    def exact(self) -> bool:
        """Whether the gap is proved to the tolerance."""
        return self in (DirectionState.OPTIMAL, DirectionState.INACTIVE)


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
        state: whether the gap is proved to the tolerance, and whether eps binds.
    """

    x: np.ndarray
    target_energy: float
    reference_energy: float
    multiplier: float
    upper: float
    state: DirectionState

    @property
    def gap(self) -> float:
        """Relative distance from the optimum, at most."""
        return relative_gap(self.target_energy, self.upper)

    def status(self, tolerance: float) -> str:
        """Return the state in words, with a cause and a remedy, for the tolerance that was asked for."""
        match self.state:
            case DirectionState.OPTIMAL:
                return "optimal"
            case DirectionState.INACTIVE:
                return (
                    "inactive: the limit on the reference energy does not bind, so this is the plain kernel PCA of the "
                    "target; lower eps to ask for a contrast"
                )
            case DirectionState.INEXACT:
                gap = self.gap
                words = f"within {gap:.1e} of the optimum" if gap < float("inf") else "no bound could be proved"
                return (
                    f"inexact: {words}, not within the tolerance {tolerance:g}; "
                    "raise the tolerance, or the limit on the reference"
                )
            case DirectionState.UNPROVED:
                return "inexact: no proof was asked for"
            case _:
                assert_never(self.state)


@dataclass(frozen=True)
class RawSolution:
    """Directions in order, and why there are no more of them.

    Args:
        ending: why there are no more.
        lambda_min: the smallest reference energy that was left, where the ending is INFEASIBLE.
        iterations: steps taken (block steps of the subspace, or eigendecompositions of the dense solver).
        details: further figures of the solve.
        basis: the subspace that a later solve may start from.
    """

    directions: tuple[RawDirection, ...]
    ending: Ending = Ending.COMPLETE
    lambda_min: float | None = None
    iterations: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)
    basis: Block | None = None
