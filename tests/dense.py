"""The definitions written out with dense numpy, sharing no code with koda: what tests compare with."""

from __future__ import annotations

import numpy as np

Matrix = np.ndarray


def gaussian(x: Matrix, sigma: float, y: Matrix | None = None) -> Matrix:
    """exp(-d^2 / 2 sigma^2) between all rows."""
    y = x if y is None else y
    return np.exp(-((x[:, None, :] - y[None, :, :]) ** 2).sum(2) / (2 * sigma**2))


def tie_of(kernel: Matrix) -> float:
    """The typical tie: mean over the samples of the mean over the nearest 1 % of the others, at least one."""
    m = len(kernel)
    count = max(1, round((m - 1) / 100))
    means = [np.sort(np.delete(row, i))[::-1][:count].mean() for i, row in enumerate(kernel)]
    return float(np.mean(means))


def share_of(x: Matrix, kernel: Matrix, tie: float) -> float:
    """Share in ties of a weighting x, whatever its length: sum over i != j of x_i x_j k(i, j) / (n - 1) / tau."""
    x = x / np.linalg.norm(x)
    pairs = kernel - np.diag(np.diag(kernel))
    return float(x @ pairs @ x / (len(x) - 1) / tie)
