"""Kernels over image-text pairs, and the choice of their bandwidths."""

from __future__ import annotations

from koda.kernels.bandwidths import KernelPair, choose_kernels
from koda.kernels.kernel import Kernel, KernelKind, dimensions, unit_embeddings

__all__ = [
    "Kernel",
    "KernelKind",
    "KernelPair",
    "choose_kernels",
    "dimensions",
    "unit_embeddings",
]
