"""What the machine could do at best: measured peaks, the work of each stage of a search, and the seconds it bounds.

The peaks are measured in the same run as the stages: three square products, and one that streams a large matrix past
eight columns. The bound of a stage is the sum over its parts of the larger of operations over peak and bytes over
bandwidth. No stage can be quicker with these algorithms; what it takes beyond that is overhead.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from koda.devices import has_int8_products

_SIZE, _LARGE = 2048, 6144  # rows of the square products, and of the matrix that is streamed
_COLUMNS = 8  # of a block step
_RANK = 128  # random vectors of the preconditioner of a large form
_FACTORED = 2500  # rows up to which it is a factor
_TRIANGLE = 9 / 16  # of a symmetric product, by eight block columns


@dataclass(frozen=True)
class Peaks:
    """Measured operations a second of products, and bytes a second.

    Args:
        fp64, fp32, int8: multiplications and additions a second; int8 is 0 where there are no such products.
        bandwidth: bytes a second of a float64 matrix that eight columns are multiplied with.
    """

    fp64: float
    fp32: float
    int8: float
    bandwidth: float

    @classmethod
    def of(cls, device: torch.device) -> Peaks:
        """Measure this machine: the best of five."""
        squares = {}
        for dtype in (torch.float64, torch.float32):
            x = torch.randn(_SIZE, _SIZE, device=device, dtype=dtype)
            squares[dtype] = 2 * _SIZE**3 / _best(lambda x=x: x @ x, device)
        int8 = 0.0
        if has_int8_products(device):
            y = torch.randint(-127, 128, (_SIZE, _SIZE), dtype=torch.int8, device=device)
            int8 = 2 * _SIZE**3 / _best(lambda: torch._int_mm(y, y.T), device)
        g = torch.randn(_LARGE, _LARGE, device=device, dtype=torch.float64)
        w = torch.randn(_COLUMNS, _LARGE, device=device, dtype=torch.float64)
        bandwidth = 8 * _LARGE**2 / _best(lambda: w @ g.T, device)
        return cls(squares[torch.float64], squares[torch.float32], int8, bandwidth)


@dataclass(frozen=True)
class Work:
    """What a part of a stage must do.

    Args:
        operations: multiplications and additions, at the peak named by ``kind``.
        bytes: read or written in main memory.
    """

    kind: str
    operations: float
    bytes: float

    def seconds(self, peaks: Peaks) -> float:
        """Return the least time it takes at these peaks."""
        peak = getattr(peaks, self.kind) or peaks.fp32
        return max(self.operations / peak, self.bytes / peaks.bandwidth)


def feature_work(n: int, r: int, d: int, steps: int, basis: int, preconditioners: int, proofs: int, directions: int):
    """Return stage -> its parts, of a search over features: D = 4 r coordinates, half of them the reference's.

    Args:
        d: dimensions of all modalities.
        steps: block steps; basis: vectors of the subspace.
        preconditioners, proofs: factorisations.
    """
    width, half = 4 * r, 2 * r
    g = 8 * width**2
    factor = half**3 / 3 if half <= _FACTORED else 2 * half**2 * _RANK
    seen = 2 * basis  # rows of the reference's part and of the directions
    proof = half**3 / 3 + 2 * half * width * basis + _TRIANGLE * 2 * half**2 * seen + half * seen**2
    return {
        "features": [Work("fp32", 2 * 2 * n * d * r, n * (8 * d + width))],
        "covariance": [Work("int8", _TRIANGLE * 2 * n * width**2, n * width + g)],
        "search": [
            Work("fp64", preconditioners * factor, preconditioners * g / 4),
            # a step multiplies G with its residuals, and half of it with what the preconditioner takes off
            Work("fp64", 1.5 * steps * 2 * _COLUMNS * width**2, 1.5 * steps * g),
            Work("fp64", 2 * width**2 * basis, g),
            Work("fp64", proofs * proof, proofs * g),
        ],
        "read": [Work("fp64", 2 * 2 * n * width * directions, n * width)],
    }  # fmt: skip


def exact_work(n: int, d: int, steps: int, basis: int, preconditioners: int, proofs: int, directions: int):
    """Return stage -> its parts, of a search over the samples with exact kernels; see :func:`feature_work`."""
    factor = n**3 / 3 if n <= _FACTORED else 2 * n**2 * _RANK
    k = 8 * n**2
    return {
        "features": [Work("fp64", 2 * 2 * n**2 * d * _TRIANGLE, 2 * 2 * k)],
        "covariance": [],
        "search": [
            Work("fp64", preconditioners * factor, preconditioners * k),
            Work("fp64", steps * 2 * 2 * _COLUMNS * n**2, 2 * steps * k),
            Work("fp64", proofs * (n**3 / 3 + 6 * n**2 * basis), proofs * 2 * k),
        ],
        "read": [Work("fp64", 2 * 2 * n**2 * directions, 2 * k)],
    }


def bounds(work: dict[str, list[Work]], peaks: Peaks) -> dict[str, float]:
    """Return stage -> the least seconds it can take."""
    return {stage: sum(part.seconds(peaks) for part in parts) for stage, parts in work.items()}


def _best(work: Callable[[], object], device: torch.device) -> float:
    seconds = []
    for _ in range(6):  # the first warms up
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])
