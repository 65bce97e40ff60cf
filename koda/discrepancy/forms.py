"""The two quadratic forms of a search: over the samples, or over the coordinates of feature maps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch

from koda.config import DiscrepancyConfig
from koda.devices import exact_samples, free_memory, n_features_of
from koda.discrepancy.solver.feature_space import FeatureSpace
from koda.discrepancy.solver.numerics import UNIT
from koda.discrepancy.solver.sample_space import SampleSpace
from koda.discrepancy.solver.space import Space
from koda.embeddings import TableInMemory, TableLike
from koda.errors import ConfigError, DataError
from koda.kernels import KernelPair
from koda.kernels.covariance import CovarianceBlocks, StackedFeatures
from koda.kernels.covariance_parts import summed
from koda.kernels.features import FeatureMap, draw_pair, error_bound, kernel_error, shares_randomness

_READ_ROWS = {"cpu": 256}  # rows of features that are read at a time, by device
_MATRICES = 6  # (n, n) float64 of a search with exact kernels: two forms, a factor, copies of them


@dataclass(frozen=True)
class Readout:
    """Directions as vectors over the samples, with their energies taken from the kernels themselves.

    Args:
        x: (n, t) float64 on the CPU, orthonormal.
        target, reference: (t,) the energies x'K_A x / n and x'K_B x / n.
        off: largest entry of X'X - I.
    """

    x: np.ndarray
    target: torch.Tensor
    reference: torch.Tensor
    off: float


class QuadraticForms(Protocol):
    """A and B of a search, and the way back to the samples.

    Attributes:
        n: number of samples.
        dimension: number of coordinates.
        reference: symmetric matrix with the non-zero eigenvalues of B.
        same: whether the two kernels are equal up to rounding.
        tolerance: relative error that reading the directions out may add.
        stats: figures for the solution.
    """

    same: bool
    tolerance: float
    stats: dict[str, Any]

    @property
    def n(self) -> int: ...  # noqa: D102

    @property
    def dimension(self) -> int: ...  # noqa: D102

    @property
    def reference(self) -> torch.Tensor: ...  # noqa: D102

    def matrices(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return A and B where the coordinates are the samples, else None."""

    def space(self, n_directions: int) -> Space:
        """Return the space that the subspace solver works in."""

    def read(self, y: torch.Tensor) -> Readout:
        """Return the directions of coordinate vectors (m, t)."""


@dataclass
class SampleForms:
    """The sample space: A = K_A / n and B = K_B / n, (n, n); coordinates are samples."""

    target: torch.Tensor
    reference: torch.Tensor
    same: bool
    stats: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-10

    @property
    def n(self) -> int:
        """Number of samples."""
        return int(self.target.shape[0])

    @property
    def dimension(self) -> int:
        """Number of coordinates."""
        return self.n

    def matrices(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return A and B."""
        return self.target, self.reference

    def space(self, n_directions: int) -> Space:
        """Return the space that the subspace solver works in."""
        return SampleSpace(self.target, self.reference)

    def read(self, y: torch.Tensor) -> Readout:
        """Return the directions of coordinate vectors (n, t), which they are already."""
        x = y.to(self.target.device)
        inner = (x.T @ x).cpu()
        target, reference = ((x * (m @ x)).sum(0).cpu() for m in (self.target, self.reference))
        return Readout(x.cpu().numpy(), target, reference, _off_identity(inner))


@dataclass
class FeatureForms:
    """The range of two feature maps, in the inner product of their covariance G, and what lies outside it."""

    blocks: CovarianceBlocks
    features: StackedFeatures
    same: bool
    stats: dict[str, Any]
    tolerance: float = 1e-8

    @property
    def n(self) -> int:
        """Number of samples."""
        return self.blocks.n

    @property
    def dimension(self) -> int:
        """Number of coordinates, D."""
        return int(self.blocks.sums.shape[0])

    @cached_property
    def g(self) -> torch.Tensor:
        """G, (D, D)."""
        return self.blocks.g

    @property
    def reference(self) -> torch.Tensor:
        """G_BB, (D_B, D_B)."""
        return self.g[self.blocks.split :, self.blocks.split :]

    def matrices(self) -> None:
        """Return None: the samples are too many for that."""

    def space(self, n_directions: int) -> Space:
        """Return the space that the subspace solver works in."""
        # outside the range of Phi both forms are 0; x may go there, since n exceeds the rank
        return FeatureSpace(self.g, self.blocks.split, max(0, min(n_directions, self.n - self.dimension)))

    def read(self, y: torch.Tensor) -> Readout:
        """Return the directions of coordinate vectors (D + e, t): one pass over the features.

        ``x = Phi w / sqrt(n)`` and ``Phi'x`` for the energies are formed together, in float64.
        """
        width, n = self.dimension, self.n
        y = y.to(self.g.device)
        scale = self.features.scales[:, None]  # (D, 1)
        x, inner = self._apply(y[:width])
        outside = y[width:]
        if bool((outside.abs() > 1e-9).any()):
            rest = self._outside(outside.shape[0]) @ outside
            x += rest
            for rows, phi in self._parts():
                inner += (phi.T @ rest[rows]) / scale
        # small eigenvalues of G amplify rounding: these are the nearest orthonormal vectors
        values, vectors = torch.linalg.eigh(x.T @ x)
        mend = (vectors * values.rsqrt()) @ vectors.T
        x, inner = x @ mend, inner @ mend / n**0.5
        split = self.blocks.split
        target, reference = (part.square().sum(0).cpu() for part in (inner[:split], inner[split:]))
        return Readout(x.cpu().numpy(), target, reference, _off_identity((x.T @ x).cpu()))

    def _apply(self, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return x = Phi w / sqrt(n), (n, t), and Phi'x, (D, t)."""
        scale = self.features.scales[:, None]
        weights = w / (scale * self.n**0.5)
        x = torch.empty(self.n, w.shape[1], dtype=torch.float64, device=w.device)
        inner = torch.zeros_like(w)
        for rows, phi in self._parts():
            x[rows] = phi @ weights
            inner += phi.T @ x[rows]
        return x, inner / scale

    def _parts(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield (rows, features in float64) by so few rows at a time that they stay in the processor's cache."""
        step = _READ_ROWS.get(self.g.device.type, 16_384)
        for rows, phi in self.features.chunks():
            for start in range(0, len(phi), step):
                part = phi[start : start + step].double()
                yield slice(rows.start + start, rows.start + start + len(part)), part

    def _outside(self, size: int) -> torch.Tensor:
        """Return orthonormal vectors (n, size) off the range of Phi: what repeated ridge regression leaves."""
        draws = np.random.default_rng(0).standard_normal((self.n, size))
        z = torch.from_numpy(draws).to(self.g.device)
        shifted = self.g.clone()
        shifted.diagonal().add_(1e-12 * float(self.g.trace()))
        factor = torch.linalg.cholesky(shifted)
        scale = self.features.scales[:, None]
        for _ in range(3):
            inner = torch.zeros(self.dimension, size, dtype=torch.float64, device=self.g.device)
            for rows, phi in self._parts():
                inner += (phi.T @ z[rows]) / scale
            w = torch.cholesky_solve(inner / self.n, factor) / scale
            for rows, phi in self._parts():
                z[rows] -= phi @ w
        q: torch.Tensor = torch.linalg.qr(z).Q
        return q


def exact_forms(
    target: TableInMemory, reference: TableInMemory, kernels: KernelPair, device: torch.device
) -> SampleForms:
    """Return the forms of the exact kernels."""
    a = kernels.target.matrix(target, device=device).div_(target.n)
    b = kernels.reference.matrix(reference, device=device).div_(reference.n)
    unit = max(_unit(t, kernels.target.modalities) for t in (target, reference))
    same = _largest_difference(a, b) * target.n <= 32 * unit
    return SampleForms(a, b, same, {"features": "exact"})


def feature_forms(
    target: TableLike,
    reference: TableLike,
    kernels: KernelPair,
    config: DiscrepancyConfig,
    device: torch.device,
    *,
    covariance: CovarianceBlocks | None = None,
) -> SampleForms | FeatureForms:
    """Return the forms of feature kernels: over the samples while those are fewer, else over the coordinates.

    Args:
        config: names the kind of the features, their number and the seed they are drawn with.
        covariance: G of these samples and maps, where it was made before.

    Raises:
        DataError: a covariance of other samples or maps.
    """
    r, seed = n_features_of(config.n_features, device), config.seed
    kind = None if config.features == "auto" else config.features  # None is the kernel's default
    maps = draw_pair(kernels, target, reference, r, kind=kind, seed=seed)
    errors = {
        role: kernel_error(m, table, seed=seed, device=device)
        for role, m, table in (("target", maps[0], target), ("reference", maps[1], reference))
    }
    stats: dict[str, Any] = {
        "features": maps[0].kind,
        "n_features": r,
        "feature_error": max(errors.values()),
        "feature_errors": errors,
        "features_shared": shares_randomness(*maps),
    }
    if maps[0].kind in ("orf", "rff"):
        stats["feature_error_bound"] = error_bound(r)
    n = target.n
    if covariance is None and n <= maps[0].width + maps[1].width:
        a, b = (_gram(m, t.take(np.arange(n)), device) for m, t in zip(maps, (target, reference), strict=True))
        return SampleForms(a, b, _largest_difference(a, b) * n <= 1e-12, stats)
    features = StackedFeatures(target, reference, maps, device)
    if covariance is None:
        covariance = summed(features)
    elif covariance.n != n or [m.digest() for m in covariance.maps] != [m.digest() for m in maps]:
        raise DataError(
            f"The covariance given is over {covariance.n} samples or of other feature maps than these {n} samples'.",
            "Pass the one that was made from these tables with the same kernels, n_features and seed.",
        )
    split = covariance.split
    apart = float("inf")
    if split * 2 == covariance.sums.shape[0]:  # sum of squared distances of the two models' unscaled features
        diagonal = covariance.sums.diagonal()
        apart = float(diagonal.sum() - 2 * covariance.sums[:split, split:].diagonal().sum()) / float(diagonal.sum())
    return FeatureForms(covariance, features, abs(apart) <= 1e-13, stats)


def use_exact(features: str, n: int, device: torch.device) -> tuple[bool, str]:
    """Decide between exact kernels and features, and say why.

    ``auto`` takes exact kernels where they are the quicker and fit in half of the memory that is free.

    Raises:
        ConfigError: exact kernels asked for that do not fit.
    """
    needed, free = _MATRICES * 8 * n * n, free_memory(device)
    if features not in ("auto", "exact"):
        return False, "as asked for"
    words = f"exact kernels of {n} samples need about {needed / 2**30:.2g} GiB"
    if features == "exact":
        if free is not None and needed > 0.9 * free:
            raise ConfigError(
                f"features: {words}, and {free / 2**30:.2g} GiB are free.", "Use features: auto, or data.limit."
            )
        return True, "as asked for"
    most = exact_samples(device)
    if n > most:
        return False, f"of more than {most} samples features are the quicker"
    if free is not None and needed > free / 2:
        return False, f"{words}, more than half of the memory that is free"
    return True, f"of at most {most} samples exact kernels are the quicker, and they fit in half of the free memory"


def _gram(feature_map: FeatureMap, table: TableInMemory, device: torch.device) -> torch.Tensor:
    phi = feature_map(table, device=device)  # (n, width)
    k = phi @ phi.T / table.n
    return (k + k.T) / 2


def _off_identity(inner: torch.Tensor) -> float:
    return float((inner - torch.eye(inner.shape[0], dtype=inner.dtype)).abs().max())


def _largest_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return max(float((p - q).abs().max()) for p, q in zip(torch.split(a, 1024), torch.split(b, 1024), strict=True))


def _unit(table: TableInMemory, modalities: tuple[str, ...]) -> float:
    """Return the relative rounding of the coarsest embeddings that are compared."""
    return max(float(np.finfo(getattr(table, name).dtype).eps) for name in modalities) or UNIT
