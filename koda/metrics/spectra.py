"""The spectrum of a model's kernel: how many kinds of samples the model tells apart, and how evenly."""

from __future__ import annotations

import torch

from koda.embeddings import EmbeddingTable
from koda.kernels import Kernel

LEADING = 50  # eigenvalues
MAX_SAMPLES = 1000  # of which the kernel matrix is made


def leading_eigenvalues(table: EmbeddingTable, kernel: Kernel, count: int = LEADING) -> list[float]:
    """Return the largest eigenvalues of K / n, descending; their sum over all n is 1.

    Args:
        table: n samples of one model.
        kernel: of the model.
        count: eigenvalues at most.

    Raises:
        DataError: an embedding that the kernel cannot use.
    """
    values = torch.linalg.eigvalsh(kernel.matrix(table) / table.n)  # (n,) ascending
    return [round(value, 10) for value in values.flip(0)[:count].clamp_min(0).tolist()]
