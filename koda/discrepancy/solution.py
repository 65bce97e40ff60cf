"""What a search returns: directions with energies and a proved gap, never a bare array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from koda.config import DiscrepancyConfig
from koda.kernels import KernelPair


@dataclass(frozen=True)
class Direction:
    """A signed weighting of the samples that the target ties together and the reference does not.

    Args:
        x: (n,) float64 of norm 1, in the order of ``Solution.keys``; the heavier lobe is positive.
        target_energy: x'K_A x, with K of trace 1.
        reference_energy: x'K_B x, at most eps.
        quotient: target_energy / reference_energy.
        multiplier: lambda, the price of eps: what a little more of it would add to the target energy.
        gap: proved upper bound of the relative distance from the optimum.
        status: "optimal", or words with a cause and a remedy.
        target_tie, reference_tie: typical tie of each kernel (:mod:`koda.kernels.ties`), the unit of its share.
    """

    x: np.ndarray
    target_energy: float
    reference_energy: float
    quotient: float
    multiplier: float
    gap: float
    status: str
    target_tie: float
    reference_tie: float

    def __repr__(self) -> str:
        return (
            f"Direction({len(self.x)} samples, target_share={self.target_share:.4g}, "
            f"reference_share={self.reference_share:.4g}, quotient={self.quotient:.4g}, gap={self.gap:.2g}, "
            f"status={self.status!r})"
        )

    @property
    def target_share(self) -> float:
        """Share under the target, in the sample: sum over i != j of x_i x_j k(i, j) / (n - 1), over the tie."""
        return raw_share(self.target_energy, len(self.x)) / self.target_tie

    @property
    def reference_share(self) -> float:
        """Share under the reference, in the sample; negative where it sets the samples apart."""
        return raw_share(self.reference_energy, len(self.x)) / self.reference_tie


def raw_share(energy: float, n: int) -> float:
    """Return the sum over i != j of x_i x_j k(i, j) / (n - 1) of a unit vector x, from its energy x'Kx."""
    return (n * energy - 1) / (n - 1)


@dataclass(frozen=True)
class Solution:
    """The directions of one question, with everything needed to judge them.

    Args:
        directions: strongest first; empty where there is no discrepancy.
        keys: the samples used, in the order of the target table's rows, which is that of ``Direction.x``.
        eps: the limit on x'K_B x.
        kernels: the two kernels, and how they were chosen.
        status: what happened, in words: cause and remedy.
        stats: iterations, seconds, device, n, features, feature error and the like.
        rejected: key -> reason for the samples that were left out.
        config: the configuration it was solved with.
    """

    directions: tuple[Direction, ...]
    keys: tuple[str, ...]
    eps: float
    kernels: KernelPair
    status: str
    stats: Mapping[str, Any]
    rejected: Mapping[str, str]
    config: DiscrepancyConfig

    def __repr__(self) -> str:
        return (
            f"Solution({len(self.directions)} directions of {len(self.keys)} samples, {len(self.rejected)} left out, "
            f"eps={self.eps:.4g}, status={self.status!r})"
        )
