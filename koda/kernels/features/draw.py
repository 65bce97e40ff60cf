"""Which features a search uses: how many, drawn how, and how far they are from the kernel."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from koda.embeddings import TableLike
from koda.embeddings.rows import rows_by_key
from koda.errors import ConfigError
from koda.kernels import Kernel, KernelPair, dimensions
from koda.kernels.features.base import FeatureMap, check_kind
from koda.kernels.features.fourier import FourierMap, draw_frequencies
from koda.kernels.features.sketch import SketchMap


def draw_features(kernel: Kernel, table: TableLike, r: int, *, kind: str | None = None, seed: int = 0) -> FeatureMap:
    """Draw the feature map of a kernel for tables like this one.

    The draw depends on the seed, r and the dimensions only, not on bandwidths: two models of the same
    dimensions share it, since independent draws add noise that looks like a discrepancy.

    Args:
        r: 2 r coordinates.
        kind: default "orf" for the gaussian kernel, "sketch" for the cosine and the polynomial one.

    Raises:
        ConfigError: r under 1, a kind that does not suit the kernel, or a modality that the table lacks.
    """
    dims = dimensions(kernel, table)
    name = check_kind(kernel, kind)
    if r < 1:
        raise ConfigError(f"n_features is {r}; at least 1 is needed.")
    if kernel.kind == "gaussian":
        return FourierMap(kernel, draw_frequencies(sum(dims), r, name, seed=(seed, *dims)), name, seed, dims)
    return SketchMap(kernel, r, name, seed, dims)


def draw_pair(
    kernels: KernelPair,
    target: TableLike,
    reference: TableLike,
    r: int,
    *,
    kind: str | None = None,
    seed: int = 0,
) -> tuple[FeatureMap, FeatureMap]:
    """Draw the maps of both models; the draw is shared where the dimensions match.

    Raises:
        ConfigError: as :func:`draw_features`.
    """
    first = draw_features(kernels.target, target, r, kind=kind, seed=seed)
    alike = kernels.reference.kind == kernels.target.kind
    if isinstance(first, FourierMap) and alike and dimensions(kernels.reference, reference) == first.dims:
        return first, replace(first, kernel=kernels.reference)  # the same draw, made once
    return first, draw_features(kernels.reference, reference, r, kind=kind, seed=seed)


def shares_randomness(a: FeatureMap, b: FeatureMap) -> bool:
    """Say whether two maps come from the same draw, so that equal embeddings and kernels get equal features."""
    if a.kind != b.kind or a.dims != b.dims or a.width != b.width or a.kernel.modalities != b.kernel.modalities:
        return False
    if isinstance(a, FourierMap) and isinstance(b, FourierMap):
        return a.frequencies is b.frequencies or torch.equal(a.frequencies, b.frequencies)
    return a.digest() == b.digest()


def error_bound(r: int, delta: float = 0.05) -> float:
    """Return the bound on ||K~ - K||_F / n of r independent Fourier features.

    ``(2 + sqrt(8 log(1 / delta))) / sqrt(r)``, with probability 1 - delta (paper 2606.04180, theorem 5.1). There
    is none for sketches.
    """
    return (2 + math.sqrt(8 * math.log(1 / delta))) / math.sqrt(r)


def kernel_error(
    feature_map: FeatureMap,
    table: TableLike,
    *,
    max_samples: int = 2048,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> float:
    """Return ||K~ - K||_F / n on a subsample that the seed draws from the sorted keys; see :func:`error_bound`."""
    rows = np.arange(table.n)
    if table.n > max_samples:
        drawn = np.sort(np.random.default_rng(seed).choice(table.n, size=max_samples, replace=False))
        rows = rows_by_key(table.keys)[drawn]
    part = table.take(rows)
    phi = feature_map(part, device=device)  # (m, width)
    exact = feature_map.kernel.matrix(part, device=device)  # (m, m)
    return float((phi @ phi.T - exact).norm()) / part.n
