"""The proof that A - lambda B is at most mu off a few directions, from the covariance G of the features.

With ``F = Phi_A / sqrt(n)``, ``Phi_B / sqrt(n)`` and the directions U, let ``C = [sqrt(lambda) Phi_B V / sqrt(n),
sqrt(sigma) U]`` for orthonormal columns V. Since ``VV' <= I``, the matrix ``T = mu I + CC' - FF'`` is at most
``mu I - (A - lambda B - sigma UU')``: where T is positive definite, which is more than was to be shown, mu is a bound.
It is positive definite iff ``mu I - G_AA + K'(mu I + C'C)^-1 K``, ``K = C'F``, has a Cholesky factor. All of it comes
from G.

With V = I all of B is used: two factors, a triangular solve and a product, a third of the cube of all coordinates.
With V the span of a subspace's reference coordinates one factor of G_AA's size is left, an eighth of that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch

from koda.discrepancy.solver.numerics import UNIT, skinny


@dataclass(frozen=True)
class SeenReference:
    """The part ``Phi_B V V'Phi_B' / n`` of B that a proof uses.

    Args:
        form: (q, q) V'G_BB V.
        across: (q, D_A) V'G_BA.
        directions: (q, t) V'p_B of the directions U.
        rounding: what forming each of them may have moved it by, in norm.
    """

    form: torch.Tensor
    across: torch.Tensor
    directions: torch.Tensor
    rounding: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @classmethod
    def by(
        cls, basis: torch.Tensor, directions: torch.Tensor, g: torch.Tensor, split: int, sizes: tuple[float, float]
    ) -> SeenReference:
        """Return the part that a basis sees, for the p_B of the basis (D_B, k) and of the directions (D_B, t)."""
        v = torch.linalg.qr(basis).Q  # (D_B, q)
        depth, q = v.shape
        unit = 2 * (depth + 8) * UNIT * math.sqrt(q)  # of a product with V; V is orthonormal to less
        return cls(
            v.T @ skinny(g[split:, split:], v),
            skinny(g[:split, split:], v).T,
            v.T @ directions,
            (2 * unit * sizes[1], unit * math.sqrt(sizes[0] * sizes[1]), unit * float(directions.norm())),
        )


@dataclass(frozen=True)
class Schur:
    """A proof that succeeded.

    Args:
        bound: mu and what rounding may hide.
        inner: lower factor of mu I + C'C.
        outer: upper factor of the Schur complement.
    """

    bound: float
    inner: torch.Tensor
    outer: torch.Tensor


def prove(
    g_aa: torch.Tensor,
    mu: float,
    multiplier: float,
    sigma: float,
    seen: SeenReference,
    directions: torch.Tensor,
    sizes: tuple[float, float],
) -> Schur | None:
    """Try to prove that lambda_max(A - multiplier B) off the directions is at most mu.

    Args:
        g_aa: (D_A, D_A).
        sigma: what the directions are pushed down by.
        seen: the part of B that is used.
        directions: (D_A, t) p_A of the directions U.
        sizes: bounds of the norms of A and B.
    """
    size_a, size_b = sizes
    root, weight = math.sqrt(multiplier), math.sqrt(sigma)
    q, t = seen.directions.shape
    h = g_aa.new_empty(q + t, q + t)
    h[:q, :q] = multiplier * seen.form
    h[:q, q:] = root * weight * seen.directions
    h[q:, :q] = h[:q, q:].T
    h[q:, q:] = sigma * torch.eye(t, dtype=h.dtype, device=h.device)
    h.diagonal().add_(mu)
    h_trace = float(h.diagonal().sum())
    inner, info = torch.linalg.cholesky_ex(h)
    if int(info) != 0:
        return None
    k = torch.cat([root * seen.across, weight * directions.T])  # (q + t, D_A)
    y = torch.linalg.solve_triangular(inner, k, upper=False)
    s = _gram_upper(y).sub_(g_aa)
    s.diagonal().add_(mu)
    trace = float(s.diagonal().abs().sum())
    y_norm = float(y.norm())
    outer, info = torch.linalg.cholesky_ex(s, upper=True)
    if int(info) != 0:
        return None
    # backward errors of the two factorisations, the triangular solve and the product
    size = q + t + 2
    slack = (
        2
        * UNIT
        * (
            (g_aa.shape[0] + 2) * trace
            + size * y_norm**2
            + 2 * size * math.sqrt(size_a * h_trace / mu) * y_norm
            + size * h_trace * size_a / (4 * mu)
        )
    )
    # and of the part of B that was formed: ||(mu I + C'C)^-1 K||^2 is at most ||A|| / 4 mu
    form, across, pushed = seen.rounding
    slack += (multiplier * form + 2 * root * weight * pushed) * size_a / (2 * mu)
    slack += 2 * root * across * math.sqrt(size_a / mu)
    return Schur(mu + slack * (1 + multiplier * size_b / mu), inner, outer)


def _gram_upper(y: torch.Tensor, blocks: int = 8) -> torch.Tensor:
    """Return y'y with only the blocks on and over the diagonal right: all that an upper Cholesky reads."""
    width = y.shape[1]
    edges = [width * i // blocks for i in range(blocks + 1)]
    result = y.new_zeros(width, width)
    for i, j in pairwise(edges):
        torch.mm(y[:, i:j].T, y[:, i:], out=result[i:j, i:])
    return result
