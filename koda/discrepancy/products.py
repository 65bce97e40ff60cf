"""Kernels times directions: the sums over the samples searched by which a direction has values on other samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from koda.devices import device_of
from koda.discrepancy.blocks import Kernels, SampledKernel
from koda.embeddings.rows import row_slices
from koda.kernels.features import FeatureMap, draw_features
from koda.typing import FloatArray, IntArray

if TYPE_CHECKING:
    from koda.discrepancy.solution import Solution

Values = TypeVar("Values", np.ndarray, torch.Tensor)

_ROWS = 4096  # whose features are made at a time


@dataclass(frozen=True)
class Products:
    """Kernels times directions, by the kernels that were searched: what one solution asks for is made for all.

    Args:
        solutions: and the kernels of the target and of the reference of each.
    """

    solutions: tuple[tuple[Solution, Kernels], ...]
    _kept: dict[tuple[int, int, tuple[str, ...]], FloatArray] = field(default_factory=dict, repr=False, compare=False)
    _sums: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict, repr=False, compare=False)
    _maps: dict[int, FeatureMap] = field(default_factory=dict, repr=False, compare=False)

    def at(self, solution: Solution, kernel: SampledKernel, keys: Sequence[str]) -> FloatArray:
        """Return sum over i of k(z, i) x_i / n at the samples z, (len(keys), k); of features ``phi(z)'(Phi'X) / n``."""
        if uses_features(solution):
            sums = self._sum(solution, kernel)
            parts = [(phi @ sums).cpu().numpy() for _, phi in self._features(solution, kernel, kernel.rows(keys))]
            return np.concatenate(parts) if parts else np.zeros((0, sums.shape[1]))
        wanted = tuple(keys)
        if (kept := self._kept.pop((id(solution), id(kernel), wanted), None)) is not None:
            return kept
        users, x = self._beside(solution, kernel)
        together = kernel.times(kernel.rows(wanted), kernel.rows(solution.keys), x / len(x))
        for user, values in _split(users, together):
            self._kept[id(user), id(kernel), wanted] = values
        return self._kept.pop((id(solution), id(kernel), wanted))

    def inner(self, solution: Solution, kernels: Kernels) -> tuple[FloatArray, FloatArray]:
        """Return X'AX and X'BX, (k, k)."""
        x = stacked(solution)
        if uses_features(solution):
            sums = [self._sum(solution, kernel).cpu().numpy() for kernel in kernels]
            return len(x) * sums[0].T @ sums[0], len(x) * sums[1].T @ sums[1]
        at_a, at_b = (self.at(solution, kernel, solution.keys) for kernel in kernels)
        return x.T @ at_a, x.T @ at_b

    def _sum(self, solution: Solution, kernel: SampledKernel) -> torch.Tensor:
        """Return Phi'X / n of one kernel's features, (width, k): one pass over the samples searched."""
        if (id(solution), id(kernel)) not in self._sums:
            users, x = self._beside(solution, kernel)
            device = device_of(kernel.device)
            weights = torch.from_numpy(x / len(x)).to(device)
            width = self._map(solution, kernel).width
            together = torch.zeros(width, x.shape[1], dtype=torch.float64, device=device)
            for rows, phi in self._features(solution, kernel, kernel.rows(solution.keys)):
                together += phi.T @ weights[rows]
            for user, values in _split(users, together):
                self._sums[id(user), id(kernel)] = values
        return self._sums[id(solution), id(kernel)]

    def _features(
        self, solution: Solution, kernel: SampledKernel, rows: IntArray
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield (part of the rows, their features, float64)."""
        drawn, device = self._map(solution, kernel), device_of(kernel.device)
        for part in row_slices(len(rows), _ROWS):
            yield part, drawn(kernel.table.take(rows[part]), device=device)

    def _map(self, solution: Solution, kernel: SampledKernel) -> FeatureMap:
        """Draw the features of one kernel again that the search had."""
        if id(kernel) not in self._maps:
            kind, r, seed = solution.stats["features"], solution.stats["n_features"], solution.config.seed
            self._maps[id(kernel)] = draw_features(kernel.kernel, kernel.table, r, kind=kind, seed=seed)
        return self._maps[id(kernel)]

    def _beside(self, solution: Solution, kernel: SampledKernel) -> tuple[list[Solution], FloatArray]:
        """Return the solutions with directions on the same samples that see them by a kernel, and all of these."""
        users = [
            other
            for other, kernels in self.solutions
            if other.directions
            and other.keys == solution.keys
            and any(one is kernel for one in kernels)
            and _searched(other) == _searched(solution)
        ]
        return users, np.concatenate([stacked(user) for user in users], axis=1)


def uses_features(solution: Solution) -> bool:
    """Tell whether random features were searched in place of the kernels."""
    return str(solution.stats.get("features", "exact")) != "exact"


def stacked(solution: Solution) -> FloatArray:
    """Return the directions, (n, k)."""
    return np.stack([direction.x for direction in solution.directions], axis=1)


def _searched(solution: Solution) -> tuple[object, ...]:
    return solution.stats.get("features", "exact"), solution.stats.get("n_features"), solution.config.seed


def _split(users: Sequence[Solution], together: Values) -> Iterator[tuple[Solution, Values]]:
    """Yield each solution with its columns."""
    start = 0
    for user in users:
        stop = start + len(user.directions)
        yield user, together[:, start:stop]
        start = stop
