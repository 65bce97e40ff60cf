"""What a step takes of the machine: the most memory of the process and of the GPU while it runs.

On Linux the kernel keeps the peak of the process, and forgets it when it is told to; where it may not be told, a thread
looks at the memory now and then; where there is no /proc, the peak since the process began stands for that of the step.
The memory of other processes, such as those that decode pictures, is not counted.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROC = Path("/proc/self")
_FORGET_THE_PEAK = "5"
_SECONDS_BETWEEN_LOOKS = 0.05


@dataclass
class Peaks:
    """The most that was used, filled in when the measurement ends.

    Args:
        memory: bytes of the process that lay in memory; None where nothing tells.
        device_memory: bytes that torch held on the GPU; None where it used none.
    """

    memory: int | None = None
    device_memory: int | None = None


@contextlib.contextmanager
def measured() -> Iterator[Peaks]:
    """Measure what is used within; two measurements at once in one process take part in each other."""
    peaks = Peaks()
    if (gpu := _gpu()) is not None:
        gpu.reset_peak_memory_stats()
    with _memory() as peak:
        try:
            yield peaks
        finally:
            peaks.memory = peak()
            if (gpu := _gpu()) is not None:
                peaks.device_memory = int(gpu.max_memory_allocated())


@contextlib.contextmanager
def _memory() -> Iterator[Callable[[], int | None]]:
    """Begin to measure, and return what tells the peak."""
    try:
        (_PROC / "clear_refs").write_text(_FORGET_THE_PEAK)
    except OSError:
        if (_PROC / "statm").exists():
            with _sampled() as peak:
                yield peak
        else:
            yield _since_the_beginning
    else:
        yield _peak_of_the_kernel


def _peak_of_the_kernel() -> int | None:
    try:
        for line in (_PROC / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return None


@contextlib.contextmanager
def _sampled() -> Iterator[Callable[[], int | None]]:
    """Look at the memory of the process again and again, in a thread."""
    page, most, ended = os.sysconf("SC_PAGE_SIZE"), 0, threading.Event()

    def look() -> int | None:
        nonlocal most
        with contextlib.suppress(OSError, ValueError, IndexError):
            most = max(most, page * int((_PROC / "statm").read_text().split()[1]))
        return most or None

    def look_on() -> None:
        while not ended.wait(_SECONDS_BETWEEN_LOOKS):
            look()

    look()
    threading.Thread(target=look_on, daemon=True, name="koda-memory").start()
    try:
        yield look
    finally:
        ended.set()


def _since_the_beginning() -> int | None:
    try:
        import resource
    except ImportError:  # not every system has it
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # which alone counts in bytes


def _gpu() -> Any:
    """Return torch's view of the GPU where this process uses one; torch is not brought in for it."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    return cuda if cuda is not None and cuda.is_initialized() else None
