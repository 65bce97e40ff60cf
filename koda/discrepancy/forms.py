"""The two quadratic forms of a search as explicit matrices: over the samples, or over feature coordinates."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from koda.covariance import covariance
from koda.discrepancy.dense import UNIT
from koda.embeddings import EmbeddingTable
from koda.errors import ConfigError
from koda.features import FeatureMap, draw_pair, error_bound, kernel_error, slice_rows
from koda.kernels import KernelPair

EXACT_SAMPLES = 16_384  # `features: auto` uses exact kernels up to here
_RANGE = 1e-8  # eigenvalues of G under this, relative to the largest, count as outside the range


class Forms(Protocol):
    """A and B as matrices in orthonormal coordinates, and the way back to the samples."""

    target: torch.Tensor
    reference: torch.Tensor
    same: bool
    tolerance: float
    stats: dict[str, Any]

    def samples(self, y: torch.Tensor) -> torch.Tensor:
        """Return the sample vectors (n, t) of coordinate vectors (m, t)."""

    def energies(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return x'K_A x and x'K_B x of sample vectors (n, t) as (t, t) matrices, from the kernels themselves."""


@dataclass
class SampleForms:
    """The sample space: A = K_A / n and B = K_B / n, (n, n); coordinates are samples."""

    target: torch.Tensor
    reference: torch.Tensor
    same: bool
    stats: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-10

    def samples(self, y: torch.Tensor) -> torch.Tensor:
        """Return the sample vectors (n, t) of coordinate vectors (m, t)."""
        return y

    def energies(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return x'K_A x and x'K_B x of sample vectors (n, t) as (t, t) matrices."""
        x = x.to(self.target.device)
        return (x.T @ self.target @ x).cpu(), (x.T @ self.reference @ x).cpu()


def exact_forms(
    target: EmbeddingTable, reference: EmbeddingTable, kernels: KernelPair, device: torch.device
) -> SampleForms:
    """Return the forms of the exact kernels."""
    a = kernels.target.matrix(target, device=device).div_(target.n)
    b = kernels.reference.matrix(reference, device=device).div_(reference.n)
    unit = max(_unit(t, kernels.target.modalities) for t in (target, reference))
    same = _largest_difference(a, b) * target.n <= 32 * unit
    return SampleForms(a, b, same, {"features": "exact"})


def feature_forms(
    target: EmbeddingTable,
    reference: EmbeddingTable,
    kernels: KernelPair,
    device: torch.device,
    *,
    r: int,
    seed: int,
    n_directions: int,
) -> Forms:
    """Return the forms of the random-feature kernels: over the samples while those are fewer, else over G's range."""
    maps = draw_pair(kernels, target, reference, r, kind="orf", seed=seed)
    errors = {
        role: kernel_error(m, table, seed=seed, device=device)
        for role, m, table in (("target", maps[0], target), ("reference", maps[1], reference))
    }
    stats: dict[str, Any] = {
        "features": "orf",
        "n_features": r,
        "feature_error": max(errors.values()),
        "feature_errors": errors,
        "feature_error_bound": error_bound(r),
        "features_shared": bool(torch.equal(maps[0].frequencies, maps[1].frequencies))
        if maps[0].frequencies.shape == maps[1].frequencies.shape
        else False,
    }
    n = target.n
    if n <= maps[0].width + maps[1].width:
        a, b = (_gram(m, t, device) for m, t in zip(maps, (target, reference), strict=True))
        return SampleForms(a, b, _largest_difference(a, b) * n <= 1e-12, stats)
    return _range_forms(target, reference, maps, device, seed, n_directions, stats)


@dataclass
class RangeForms:
    """Orthonormal coordinates y of the range of Phi: x = Phi V L^-1/2 y / sqrt(n) for G = V L V'.

    A few directions outside the range follow, where both forms are 0, since x may leave it where n
    exceeds the rank.
    """

    target: torch.Tensor
    reference: torch.Tensor
    same: bool
    stats: dict[str, Any]
    maps: tuple[FeatureMap, FeatureMap]
    tables: tuple[EmbeddingTable, EmbeddingTable]
    weights: torch.Tensor  # (D, m), V L^-1/2
    seed: int
    tolerance: float = 1e-6

    def samples(self, y: torch.Tensor) -> torch.Tensor:
        """Return the sample vectors (n, t) of coordinate vectors (m, t)."""
        n, rank = self.tables[0].n, self.weights.shape[1]
        w = self.weights @ y[:rank].to(self.weights)  # (D, t)
        x = torch.cat([phi @ w for phi in self._chunks()]) / n**0.5  # (n, t)
        outside = y[rank:].to(x)  # (e, t)
        if bool((outside.abs() > 1e-9).any()):
            x = x + self._outside(outside.shape[0]) @ outside
        # rounding that small eigenvalues of G amplify; orthonormal again, to the nearest
        values, vectors = torch.linalg.eigh(x.T @ x)
        nearest: torch.Tensor = x @ (vectors * values.rsqrt()) @ vectors.T
        return nearest

    def energies(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return x'K_A x and x'K_B x of sample vectors (n, t) as (t, t) matrices."""
        n, split = x.shape[0], self.maps[0].width
        g = torch.zeros(split + self.maps[1].width, x.shape[1], device=self.weights.device, dtype=torch.float64)
        start = 0
        for phi in self._chunks():
            g += phi.T @ x[start : start + phi.shape[0]].to(g)
            start += phi.shape[0]
        return (g[:split].T @ g[:split]).cpu() / n, (g[split:].T @ g[split:]).cpu() / n

    def _chunks(self) -> Iterator[torch.Tensor]:
        """Yield the stacked features (rows, D)."""
        sides = list(zip(self.maps, self.tables, strict=True))
        for start in range(0, self.tables[0].n, 4096):
            rows = [(phi, slice_rows(table, start, start + 4096)) for phi, table in sides]
            parts = [phi(part, device=self.weights.device) for phi, part in rows]
            yield torch.cat(parts, 1)

    def _outside(self, size: int) -> torch.Tensor:
        """Return orthonormal sample vectors (n, size) off the range of Phi."""
        n = self.tables[0].n
        draws = np.random.default_rng(self.seed).standard_normal((n, size))
        z = torch.from_numpy(draws).to(self.weights.device)
        for _ in range(2):
            start, inner = 0, torch.zeros(self.weights.shape[0], size, device=z.device, dtype=torch.float64)
            for phi in self._chunks():
                inner += phi.T @ z[start : start + phi.shape[0]]
                start += phi.shape[0]
            w = self.weights @ (self.weights.T @ inner) / n
            z = z - torch.cat([phi @ w for phi in self._chunks()])
        q: torch.Tensor = torch.linalg.qr(z).Q
        return q


def _range_forms(
    target: EmbeddingTable,
    reference: EmbeddingTable,
    maps: tuple[FeatureMap, FeatureMap],
    device: torch.device,
    seed: int,
    n_directions: int,
    stats: dict[str, Any],
) -> RangeForms:
    blocks = covariance(target, reference, maps, device=device)
    g, split = blocks.g, blocks.split
    apart = float("inf")
    if split * 2 == g.shape[0]:  # mean squared distance of the two models' features
        apart = float((g[:split, :split] + g[split:, split:] - 2 * g[:split, split:]).trace())
    values, vectors = torch.linalg.eigh(g)
    keep = values > _RANGE * float(values[-1])
    values, vectors = values[keep], vectors[:, keep]  # (m,), (D, m)
    root = values.sqrt()
    extra = max(0, min(n_directions, target.n - len(values)))
    a, b = (
        torch.nn.functional.pad((part * root).T @ (part * root), (0, extra, 0, extra))
        for part in (vectors[:split], vectors[split:])
    )  # (m + extra, m + extra)
    stats = stats | {"rank": len(values)}
    return RangeForms(
        (a + a.T) / 2, (b + b.T) / 2, abs(apart) <= 1e-13, stats, maps, (target, reference), vectors / root, seed
    )


def fits_in_memory(n: int, device: torch.device) -> bool:
    """Say whether five (n, n) float64 matrices (two forms, a factor and its copies) fit in what is free."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        try:
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (ValueError, OSError, AttributeError):  # not every system tells
            return True
    return 5 * 8 * n * n <= 0.9 * free


def use_exact(features: str, n: int, device: torch.device) -> bool:
    """Decide between exact kernels and features; ``auto`` is exact up to 16 384 samples that fit in memory.

    Raises:
        ConfigError: exact kernels asked for that do not fit.
    """
    fits = fits_in_memory(n, device)
    if features == "exact" and not fits:
        raise ConfigError(
            f"features: exact kernels of {n} samples need about {5 * 8 * n * n / 2**30:.0f} GiB, more than is free.",
            "Use features: orf, or data.limit.",
        )
    return features == "exact" or (features == "auto" and n <= EXACT_SAMPLES and fits)


def _gram(feature_map: FeatureMap, table: EmbeddingTable, device: torch.device) -> torch.Tensor:
    phi = feature_map(table, device=device)  # (n, 2r)
    k = phi @ phi.T / table.n
    return (k + k.T) / 2


def _largest_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return max(float((p - q).abs().max()) for p, q in zip(torch.split(a, 1024), torch.split(b, 1024), strict=True))


def _unit(table: EmbeddingTable, modalities: tuple[str, ...]) -> float:
    """Return the relative rounding of the coarsest embeddings that are compared."""
    return max(float(np.finfo(getattr(table, name).dtype).eps) for name in modalities) or UNIT
