"""Explicit feature maps: Fourier features of the Gaussian kernel, sketches of the cosine and the polynomial one."""

from __future__ import annotations

from koda.kernels.features.base import FeatureMap
from koda.kernels.features.draw import (
    draw_features,
    draw_pair,
    error_bound,
    kernel_error,
    shares_randomness,
)
from koda.kernels.features.fourier import FourierMap, draw_frequencies
from koda.kernels.features.sketch import SketchMap

__all__ = [
    "FeatureMap",
    "FourierMap",
    "SketchMap",
    "draw_features",
    "draw_frequencies",
    "draw_pair",
    "error_bound",
    "kernel_error",
    "shares_randomness",
]
