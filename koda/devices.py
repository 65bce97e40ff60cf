"""What the hardware can do: the device, its memory, and the number formats it is fast at."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from koda.errors import ConfigError

if TYPE_CHECKING:
    import torch

_AMPERE = 8  # the first CUDA generation with bf16 in hardware


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that memory ran out; the CPU's allocator has no class of its own for it."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = str(error)
    return "can't allocate memory" in words or "not enough memory" in words


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


def fits_in_memory(n: int, device: torch.device) -> bool:
    """Say whether five (n, n) float64 matrices (two forms, a factor and its copies) fit in what is free."""
    import torch

    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        try:
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (ValueError, OSError, AttributeError):  # not every system tells
            return True
    return 5 * 8 * n * n <= 0.9 * free


def has_int8_products(device: torch.device) -> bool:
    """Tell whether int8 x int8 -> int32 is quicker than float32 there: with tensor cores, AMX or VNNI."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (7, 5)
    supported = [getattr(torch.cpu, name, None) for name in ("_is_vnni_supported", "_is_avx512_vnni_supported")]
    return device.type == "cpu" and any(test() for test in supported if test is not None)


def device_of(name: str) -> torch.device:
    """Return the torch device of that name; ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        ConfigError: a name torch does not know, or a device that this machine lacks.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device: {name!r} is not a device.", "Use auto, cpu, cuda or cuda:<number>.") from error
    try:
        torch.empty(1, device=device, dtype=torch.float64)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise ConfigError(
            f"device: {name!r} cannot be used on this machine for float64.", "Use auto or cpu."
        ) from error
    return device
