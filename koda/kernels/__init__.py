"""Kernels over image-text pairs, and the choice of their bandwidths."""

from __future__ import annotations

from koda.config import modalities_of
from koda.devices import device_of
from koda.kernels.bandwidths import AGREEMENT, AUTO_MULTIPLIER, KernelPair, choose_kernels
from koda.kernels.kernel import Kernel, KernelKind, dimensions, scaled_embeddings, unit_embeddings

__all__ = [
    "AGREEMENT",
    "AUTO_MULTIPLIER",
    "Kernel",
    "KernelKind",
    "KernelPair",
    "choose_kernels",
    "device_of",
    "dimensions",
    "modalities_of",
    "scaled_embeddings",
    "unit_embeddings",
]
