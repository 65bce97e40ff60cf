"""What the hardware can do: the device, its memory, and the number formats it is fast at."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from koda.errors import ConfigError

if TYPE_CHECKING:
    import torch

_AMPERE = 8  # the first CUDA generation with bf16 in hardware
# samples up to which exact kernels are the quicker, measured on two cores, and features where the configuration leaves
# their number open; on a CPU, and on a GPU
_EXACT_SAMPLES, _EXACT_SAMPLES_GPU = 4096, 16_384
_FEATURES, _FEATURES_GPU = 1000, 3000


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


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that are free on a device, within the limit of the control group; None where nobody tells."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    known = [
        *_available_of(Path("/proc/meminfo")),
        *_left_in_groups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")),
    ]
    if known:
        return min(known)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (ValueError, OSError, AttributeError):  # not every system tells
        return None


def _available_of(meminfo: Path) -> list[int]:
    """Return what the kernel can give without swapping, in bytes."""
    try:
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return [1024 * int(fields["MemAvailable"].split()[0])]
    except (OSError, ValueError, KeyError, IndexError):
        return []


def _left_in_groups(membership: Path, root: Path) -> list[int]:
    """Return what is left under the limit of each control group of this process that has one, of version 2 and 1."""
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        return []
    left = []
    for _, controllers, place in (line for line in lines if len(line) == 3):
        if controllers in ("", "memory"):
            base = root / controllers
            names = ("memory.max", "memory.current") if not controllers else _VERSION_1
            group = base / place.lstrip("/")
            # in a container the path may be that of the host, and the group itself the root
            for folder in {group, *(above for above in group.parents if above.is_relative_to(base))}:
                left += _left_in(folder, *names)
    return left


_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def _left_in(group: Path, limit: str, usage: str) -> list[int]:
    """Return what one control group has left, counting the file cache that it would give up; none without a limit."""
    try:
        most, used = (group / limit).read_text().strip(), int((group / usage).read_text())
        if not most.isdecimal() or int(most) >= 2**60:  # "max", or version 1's way to say so
            return []
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        cache = int(stat.get("inactive_file") or 0)
        return [max(0, int(most) - used + min(cache, used))]
    except (OSError, ValueError):
        return []


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


def kind_of(name: str) -> str:
    """Return "cpu" or "cuda", as :func:`device_of` would; without torch, which takes long to load, where it can.

    Raises:
        ConfigError: a name torch does not know, or a device that this machine lacks.
    """
    if name == "cpu" or (name == "auto" and "torch" not in sys.modules and not _may_have_gpu()):
        return "cpu"
    return device_of(name).type


@functools.cache
def _may_have_gpu() -> bool:
    """Tell whether torch might find a GPU: without the driver's library, or ROCm's device, it finds none."""
    if sys.platform != "linux" or os.path.exists("/dev/kfd"):  # noqa: PTH110 - a device, not a file
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def exact_samples(device: torch.device | str) -> int:
    """Return the number of samples up to which ``features: auto`` uses exact kernels, where memory holds them."""
    return _EXACT_SAMPLES if _is_cpu(device) else _EXACT_SAMPLES_GPU


def n_features_of(configured: int | None, device: torch.device | str) -> int:
    """Return the number r of features that a search uses: as configured, else 1000 on the CPU and 3000 on a GPU."""
    if configured is not None:
        return configured
    return _FEATURES if _is_cpu(device) else _FEATURES_GPU


def _is_cpu(device: torch.device | str) -> bool:
    return str(device).partition(":")[0] == "cpu"
