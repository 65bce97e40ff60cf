"""Whether a model in half precision is still the model: its embeddings against those in fp32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from koda.datasets import Pair, decode_image
from koda.errors import DataError, ModelError
from koda.models import Encoder, ResolvedModel, load_encoder
from koda.typing import FloatArray

if TYPE_CHECKING:
    from PIL.Image import Image

COMPARED_SAMPLES = 32
LEAST_COSINE = 0.99


def cosine_to_fp32(model: ResolvedModel, pairs: Sequence[Pair], device: str) -> float | None:
    """Return the least cosine between a model's embeddings and those of the same model in fp32, on its first samples.

    Returns:
        The least over the modalities and the first 32 pairs that can be decoded; None for a model in fp32.

    Raises:
        ModelError: it is under 0.99, or not a number.
    """
    if model.fingerprint.precision == "fp32":
        return None
    samples = _first(pairs, "image" in model.modalities)
    if not samples:
        return None
    embedded = [_embeddings(load_encoder(which, device), samples) for which in (model.in_fp32(), model)]
    least = min(float((a * b).sum(axis=1).min()) for a, b in zip(*embedded, strict=True))
    if not least >= LEAST_COSINE:
        raise ModelError(
            f"{model.label} in {model.fingerprint.precision} is no longer the same model: the least cosine to its fp32 "
            f"embeddings is {least:.4f} on the first {len(samples)} samples, under {LEAST_COSINE}.",
            "Set precision: fp32 for the model.",
        )
    return min(least, 1.0)


def _first(pairs: Sequence[Pair], decoded: bool) -> list[tuple[str, Image | None]]:
    """Return the first captions with their pictures, passing over those that cannot be decoded."""
    samples: list[tuple[str, Image | None]] = []
    for pair in pairs:
        try:
            samples.append((pair.caption, decode_image(pair) if decoded else None))
        except DataError:
            continue
        if len(samples) == COMPARED_SAMPLES:
            break
    return samples


def _embeddings(encoder: Encoder, samples: Sequence[tuple[str, Image | None]]) -> list[FloatArray]:
    """Embed one sample at a time, so that it fits wherever the model does; a list of (n, d) by modality."""
    matrices = []
    if "image" in encoder.modalities:
        pictures = [picture for _, picture in samples if picture is not None]
        matrices.append(np.concatenate([encoder.encode_images(encoder.preprocess(p)[None]) for p in pictures]))
    if "text" in encoder.modalities:
        matrices.append(np.concatenate([encoder.encode_texts([caption]) for caption, _ in samples]))
    return matrices
