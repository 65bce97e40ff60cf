"""The precision that a model runs in, where the configuration leaves it to the hardware."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from koda.config import ModelSpec
from koda.errors import ModelError
from koda.models.fingerprint import PYTHON

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16", "fp16"]
_AMPERE = 8  # the first CUDA generation with bf16 in hardware


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
    return "bf16" if not spec.name.startswith(PYTHON) and is_fast_at_bf16(place) else "fp32"


def is_fast_at_bf16(place: torch.device) -> bool:
    """Tell whether a device multiplies bf16 in hardware: CUDA from capability 8 on, a CPU with AMX or AVX512 bf16."""
    import torch

    if place.type == "cuda":
        return torch.cuda.get_device_capability(place)[0] >= _AMPERE
    if place.type != "cpu":
        return False
    # torch tells only its own kernels; the names are the same from 2.6 on
    tests = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in tests)


def dtype_of(precision: str) -> torch.dtype:
    """Return torch's type of a resolved precision."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
