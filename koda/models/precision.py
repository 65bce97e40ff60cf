"""The precision that a model runs in, where the configuration leaves it to the hardware."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from koda.config import ModelSpec
from koda.devices import is_fast_at_bf16
from koda.errors import ModelError

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16", "fp16"]


def resolve_precision(spec: ModelSpec, place: torch.device) -> Precision:
    """Return the precision of a model on a device: as stated, or for ``auto`` bf16 where the device is fast at it.

    Code of the team's own (``python:``) is run in fp32 unless the configuration says otherwise: it may hold
    tensors that a change of precision does not reach.

    Raises:
        ModelError: a precision that the device lacks.
    """
    if spec.precision == "fp16" and place.type == "cpu":
        raise ModelError(f"{spec.label or spec.name}: fp16 needs a GPU.", "Use precision: bf16 or fp32.")
    if spec.precision != "auto":
        return spec.precision
    return "bf16" if spec.kind != "python" and is_fast_at_bf16(place) else "fp32"


def dtype_of(precision: str) -> torch.dtype:
    """Return torch's type of a resolved precision."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
