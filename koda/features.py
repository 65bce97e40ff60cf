"""Random Fourier features of the joint Gaussian kernel, with orthogonal or independent frequencies.

``phi(u, v) = r^-1/2 [cos(w_i'u + s_i'v), sin(w_i'u + s_i'v)]_{i = 1..r}`` in R^{2r}, with (w, s) such that
``E phi(z)'phi(z') = k(z, z')`` (paper 2606.04180, section 5). ``phi(z)'phi(z) = 1`` always.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from koda.embeddings import EmbeddingTable
from koda.errors import ConfigError, DataError
from koda.kernels import Kernel, KernelPair, dimensions, scaled_embeddings

FeatureKind = Literal["orf", "rff"]


@dataclass(frozen=True)
class FeatureMap:
    """Explicit features of a Gaussian kernel.

    Args:
        kernel: the kernel that is approximated.
        frequencies: (d, r) float64, of unit bandwidth, d the dimensions of all modalities together.
        kind: "orf" or "rff".
        seed: of the frequencies.
    """

    kernel: Kernel
    frequencies: torch.Tensor
    kind: FeatureKind
    seed: int

    @property
    def width(self) -> int:
        """Number of coordinates, 2 r."""
        return 2 * int(self.frequencies.shape[1])

    def __call__(
        self, table: EmbeddingTable, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float64
    ) -> torch.Tensor:
        """Return the features (n, 2r), cosines before sines.

        Raises:
            ConfigError: a modality that the table lacks.
            DataError: a table of other dimensions than the map was drawn for.
        """
        z = scaled_embeddings(self.kernel, table, device, dtype)  # (n, d)
        if z.shape[1] != self.frequencies.shape[0]:
            raise DataError(
                f"The feature map is for {self.frequencies.shape[0]} dimensions, the table has {z.shape[1]}.",
                "Draw the map for this model.",
            )
        phase = z @ self.frequencies.to(device=z.device, dtype=dtype)  # (n, r)
        return torch.cat([phase.cos(), phase.sin()], 1).mul_(self.frequencies.shape[1] ** -0.5)


def draw_features(
    kernel: Kernel, table: EmbeddingTable, r: int, *, kind: FeatureKind = "orf", seed: int = 0
) -> FeatureMap:
    """Draw the feature map of a kernel for tables like this one.

    The frequencies depend on the seed, r and the dimensions only, at unit bandwidth: two models of the same
    dimensions share them, since independent draws add noise that looks like a discrepancy.
    """
    dims = dimensions(kernel, table)
    if r < 1:
        raise ConfigError(f"n_features is {r}; at least 1 is needed.")
    return FeatureMap(kernel, draw_frequencies(sum(dims), r, kind, seed=(seed, *dims)), kind, seed)


def draw_pair(
    kernels: KernelPair, target: EmbeddingTable, reference: EmbeddingTable, r: int, *, kind: FeatureKind, seed: int
) -> tuple[FeatureMap, FeatureMap]:
    """Draw the maps of both models; the frequencies are shared where the dimensions match."""
    return (
        draw_features(kernels.target, target, r, kind=kind, seed=seed),
        draw_features(kernels.reference, reference, r, kind=kind, seed=seed),
    )


def draw_frequencies(d: int, r: int, kind: FeatureKind, seed: int | tuple[int, ...]) -> torch.Tensor:
    """Return (d, r) frequencies, each N(0, I_d) by itself.

    "rff": independent. "orf": in blocks of d, orthogonal directions of a Haar rotation with lengths of
    chi_d, which makes the kernel error smaller at equal r (orthogonal random features).
    """
    rng = np.random.default_rng(seed)
    if kind == "rff":
        return torch.from_numpy(rng.standard_normal((d, r)))
    if kind != "orf":
        raise ConfigError(f"features: {kind!r} is not known.", "Use orf or rff.")
    blocks = []
    for start in range(0, r, d):
        size = min(d, r - start)
        q, upper = np.linalg.qr(rng.standard_normal((d, d)))
        q = q * np.where(np.diag(upper) < 0, -1.0, 1.0)  # (d, d), Haar
        lengths = np.sqrt(rng.chisquare(d, size=size))
        blocks.append(q[:, :size] * lengths)
    return torch.from_numpy(np.concatenate(blocks, axis=1))


def error_bound(r: int, delta: float = 0.05) -> float:
    """Return the bound on ||K~ - K||_F / n that holds with probability 1 - delta (paper 2606.04180, theorem 5.1)."""
    return (2 + math.sqrt(8 * math.log(1 / delta))) / math.sqrt(r)


def kernel_error(
    feature_map: FeatureMap,
    table: EmbeddingTable,
    *,
    max_samples: int = 2048,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> float:
    """Return ||K~ - K||_F / n measured on a seeded subsample, to be read beside :func:`error_bound`."""
    rows = np.arange(table.n)
    if table.n > max_samples:
        rows = np.sort(np.random.default_rng(seed).choice(table.n, size=max_samples, replace=False))
    part = table.take(rows)
    phi = feature_map(part, device=device)  # (m, 2r)
    exact = feature_map.kernel.matrix(part, device=device)  # (m, m)
    return float((phi @ phi.T - exact).norm()) / part.n


def slice_rows(table: EmbeddingTable, start: int, stop: int) -> EmbeddingTable:
    """Return consecutive rows without copying the embeddings or the metadata."""
    return EmbeddingTable(
        keys=table.keys[start:stop],
        image=None if table.image is None else table.image[start:stop],
        text=None if table.text is None else table.text[start:stop],
    )
