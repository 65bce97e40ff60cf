"""Problems with known properties, and optimisers that share no code with koda's."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog, minimize_scalar

from koda.embeddings import EmbeddingTable

Matrix = np.ndarray


def wishart(n: int, rank: int, seed: int) -> Matrix:
    """A PSD matrix of unit trace."""
    x = np.random.default_rng(seed).normal(size=(n, rank))
    k = x @ x.T
    return k / np.trace(k)


def commuting(n: int, seed: int, *, rounded: bool = False) -> tuple[Matrix, Matrix, Matrix, Matrix]:
    """Two PSD matrices of unit trace with the same eigenvectors, and their eigenvalues."""
    rng = np.random.default_rng(seed)
    v = np.linalg.qr(rng.normal(size=(n, n)))[0]
    a, b = rng.random(n) ** 3, rng.random(n) ** 3
    if rounded:  # multiple eigenvalues, zeros among them
        a, b = np.round(a, 1) + 0.05, np.round(b, 1)
    a, b = a / a.sum(), b / b.sum()
    first, second = (v * a) @ v.T, (v * b) @ v.T
    return (first + first.T) / 2, (second + second.T) / 2, a, b


def kernel(n: int, seed: int, *, d: int = 8, groups: int = 6, scale: float = 0.4, moved: bool = False) -> Matrix:
    """A Gaussian kernel matrix over n, of groups that the seed shares; ``moved`` merges two of them."""
    rng = np.random.default_rng(seed)
    centres, label = rng.normal(size=(groups, d)), rng.integers(0, groups, n)
    if moved:
        label = np.where(label == 1, 0, label)
        rng = np.random.default_rng(seed + 1)
    x = centres[label] + 0.7 * rng.normal(size=(n, d))
    squared = ((x[:, None] - x[None]) ** 2).sum(-1)
    k = np.exp(-squared / (2 * scale**2 * np.median(squared)))
    return (k + k.T) / (2 * n)


def best_by_dual(a: Matrix, b: Matrix, eps: float) -> float:
    """The optimum of one direction as the minimum of the convex dual, by a scalar minimiser in log lambda."""

    def dual(log_multiplier: float) -> float:
        multiplier = np.exp(log_multiplier)
        return float(np.linalg.eigvalsh(a - multiplier * b)[-1] + multiplier * eps)

    grid = np.linspace(-25, 25, 201)
    at = grid[np.argmin([dual(t) for t in grid])]
    found = minimize_scalar(dual, bounds=(at - 0.5, at + 0.5), method="bounded", options={"xatol": 1e-12})
    return min(float(np.linalg.eigvalsh(a)[-1]), float(found.fun))


def best_by_program(a: Matrix, b: Matrix, eps: float) -> float | None:
    """The optimum for commuting forms, a linear programme over the weights on the common eigenvectors."""
    n = len(a)
    result = linprog(-a, A_ub=[b], b_ub=[eps], A_eq=[np.ones(n)], b_eq=[1.0], bounds=[(0, None)] * n, method="highs")
    return -result.fun if result.success else None


def complement(u: Matrix) -> Matrix:
    """An orthonormal basis of the complement of the columns of u."""
    return np.linalg.svd(u, full_matrices=True)[0][:, u.shape[1] :]


def tables(n: int, seed: int = 0, *, d: int = 12, share: float = 0.1) -> tuple[EmbeddingTable, EmbeddingTable]:
    """Two models of the same samples; the target ties a share of them together that the reference scatters."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(8, d))
    image = centres[rng.integers(0, 8, n)] + 0.6 * rng.normal(size=(n, d))
    text = image @ np.linalg.qr(rng.normal(size=(d, d)))[0] + 0.3 * rng.normal(size=(n, d))
    planted = rng.choice(n, max(2, int(share * n)), replace=False)
    tied = image.copy()
    tied[planted] = 2 * centres[0] + 0.2 * rng.normal(size=(len(planted), d))
    keys = [f"s{i:05d}" for i in range(n)]
    return EmbeddingTable(keys, image=tied, text=text), EmbeddingTable(keys, image=image, text=text)
