"""How much a model is given at once: as much as is quick, and as memory holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from koda.devices import is_out_of_memory
from koda.errors import ModelError
from koda.models import Encoder
from koda.typing import FloatArray

# Quickest for ViT-B-32 in bf16 on two cores: 38 images/s at 16, 39 at 32, 41 at 64, 35 at 128. A GPU wants more.
_BATCH_SIZES = {"cpu": 64, "cuda": 256}


class Batches:
    """The batch size of an extraction, halved when memory runs out and kept there."""

    def __init__(self, encoder: Encoder, size: int | None = None) -> None:
        self.size = size or _BATCH_SIZES.get(encoder.device.type, 64)
        self._label = encoder.resolved.label

    def run(self, encode: Callable[[Any], FloatArray], batch: Sequence[Any] | Any) -> list[FloatArray]:
        """Encode a list of captions, or pixels (b, 3, h, w), in parts of at most :attr:`size`.

        Raises:
            ModelError: memory does not hold even one.
        """
        parts: list[FloatArray] = []
        start = 0
        while start < len(batch):
            size = self.size
            try:
                parts.append(encode(batch[start : start + size]))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(error)
                continue
            start += size
        return parts

    def _halve(self, error: BaseException) -> None:
        import torch

        if self.size == 1:
            raise ModelError(
                f"{self._label}: memory does not hold the model and one sample.",
                "Use a smaller model, a device with more memory, or precision: bf16.",
            ) from error
        self.size //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def joined(parts: Sequence[FloatArray], width: int) -> FloatArray:
    """Return parts as one matrix (n, d), also where there are none."""
    return np.concatenate([np.zeros((0, width), dtype=np.float32), *parts])
