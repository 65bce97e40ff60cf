"""Small numerical helpers of the solvers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

UNIT = 2.0**-53  # unit roundoff of float64


def skinny(m: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Return ``m w`` for a large m (n, n') and few columns w (n', k).

    As ``(w'm')'``, which streams m through the processor up to twice as fast as ``m w`` does.
    """
    return (w.T.contiguous() @ m.T).T


def complement(y: torch.Tensor) -> torch.Tensor:
    """Return an orthonormal basis (k, k - 1) of the complement of the unit vector y, by a Householder reflection."""
    v = y.clone()  # (k,)
    v[0] += torch.copysign(torch.ones((), dtype=y.dtype), y[0])
    reflection = torch.eye(len(y), dtype=y.dtype) - torch.outer(v, v) * (2 / (v @ v))  # (k, k)
    return reflection[:, 1:]


@contextmanager
def one_thread() -> Iterator[None]:
    """Run small problems on one thread: they gain nothing from more, and lose much where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
