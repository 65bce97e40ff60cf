"""From a picture to the numbers that a model wants, the quick way where it is provably the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

_BITS = {2: np.int16, 4: np.int32}  # bytes of a value -> the integers that carry its bits


@dataclass(frozen=True)
class Pixels:
    """A transform of pictures, split where that is exact.

    Most transforms end in ToTensor and Normalize, whose result for a value depends on that value and its channel
    alone. For these the two are replaced by a table of their own results for the 256 values of each channel,
    already in the model's type: the same bits as the whole transform followed by a cast, for a third of the time
    and with no torch in the threads that decode. Any other transform is used whole.

    Args:
        transform: picture -> (3, h, w) float32.
        dtype: of the model.
        size: (h, w) of what the transform gives.
        geometry: the part before ToTensor, or None where the transform has another structure.
        table: (3, 256) the bits of the values, or None.
    """

    transform: Callable[[Image], torch.Tensor]
    dtype: torch.dtype
    size: tuple[int, int]
    geometry: Callable[[Image], Any] | None = None
    table: np.ndarray[Any, Any] | None = None

    @classmethod
    def of(cls, transform: Callable[[Image], torch.Tensor], dtype: torch.dtype) -> Pixels:
        """Look at a transform, and split it if it has the known structure."""
        from PIL import Image as PillowImage
        from torchvision.transforms import Compose, Normalize, ToTensor

        height, width = transform(PillowImage.new("RGB", (32, 32))).shape[-2:]
        size = (int(height), int(width))
        steps = list(transform.transforms) if isinstance(transform, Compose) else []
        known = len(steps) >= 2 and isinstance(steps[-2], ToTensor) and type(steps[-1]) is Normalize
        if not known or len(steps[-1].mean) != 3:
            return cls(transform, dtype, size)
        ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
        values = Compose(steps[-2:])(PillowImage.fromarray(ramp)).reshape(3, 256).to(dtype)
        return cls(transform, dtype, size, Compose(steps[:-2]), _bits(values))

    def empty(self, n: int, *, pinned: bool = False) -> torch.Tensor:
        """Return room for n pictures, (n, 3, h, w) in the model's type; pinned where a GPU is to fetch them."""
        import torch

        return torch.empty((n, 3, *self.size), dtype=self.dtype, pin_memory=pinned)

    def write(self, image: Image, out: torch.Tensor) -> None:
        """Write one RGB picture, transformed, to a row (3, h, w) of :meth:`empty`."""
        if self.geometry is None or self.table is None:
            out.copy_(self.transform(image))
            return
        picture = self.geometry(image)
        if getattr(picture, "mode", None) != "RGB" or (picture.height, picture.width) != self.size:
            out.copy_(self.transform(image))
            return
        values, bits = np.asarray(picture), _bits(out)  # (h, w, 3), (3, h, w)
        for channel in range(3):
            np.take(self.table[channel], values[:, :, channel], out=bits[channel], mode="clip")


def _bits(values: torch.Tensor) -> np.ndarray[Any, Any]:
    """Return a view of the values as integers of their width: numpy has no bfloat16."""
    import torch

    kind = _BITS[values.element_size()]
    array: np.ndarray[Any, Any] = values.view(getattr(torch, np.dtype(kind).name)).numpy()
    return array
