"""Proved bounds for several directions from one factorisation.

Let W be an orthonormal basis, M = W'(A - lambda B)W, E = (I - WW')(A - lambda B)W, and let it be proved that
``A - lambda_0 B`` is at most mu_0 off W. Since B is positive semidefinite, ``A - lambda B`` is at most mu_0 there for
every lambda >= lambda_0, and (Schur complement) mu bounds ``lambda_max(A - lambda B)`` on the whole space as soon as
``mu > mu_0`` and ``mu I - M - E'E / (mu - mu_0)`` is positive semidefinite: the bound exceeds the Ritz value by the
square of the residual only. So one Cholesky factorisation proves the gaps of all directions whose multiplier is
lambda_0 or more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from koda.discrepancy.solver.numerics import UNIT
from koda.discrepancy.solver.space import Squares

_CLOSE = 1e-3  # of what a bound exceeds the Ritz value by: how near the least bound is near enough


@dataclass(frozen=True)
class Coupling:
    """What couples a basis to the rest of the space: inner products of (I - WW')A W and (I - WW')B W.

    Args:
        aa, ab, bb: (k, k) each.
        noise: what rounding may hide in them.
    """

    aa: torch.Tensor
    ab: torch.Tensor
    bb: torch.Tensor
    noise: tuple[float, float, float]

    @classmethod
    def of(cls, squares: Squares, a: torch.Tensor, b: torch.Tensor) -> Coupling:
        """Return the coupling of an orthonormal basis with the small forms a and b, (k, k)."""
        unit = 16 * UNIT * math.sqrt(a.shape[0])
        return cls(
            squares.aa - a @ a,
            squares.ab - a @ b,
            squares.bb - b @ b,
            tuple(unit * float(m.norm()) for m in (squares.aa, squares.ab, squares.bb)),  # type: ignore[arg-type]
        )

    def at(self, multiplier: float) -> torch.Tensor:
        """Return E'E, (k, k), rounding allowed for."""
        e = self.aa - multiplier * (self.ab + self.ab.T) + multiplier**2 * self.bb
        e = (e + e.T) / 2
        e.diagonal().add_(self.noise[0] + 2 * multiplier * self.noise[1] + multiplier**2 * self.noise[2])
        return e


def highest_ceiling(value: float, m: torch.Tensor, e: torch.Tensor) -> float:
    """Return the largest mu such that value bounds the top eigenvalue of [[M, E'], [E, N]] for all N at most mu.

    It is ``value - lambda_max(R^-1 E'E R^-1')``, R the factor of ``value I - M``; less a little, for rounding. Where
    value is under M there is none, and minus infinity is returned. E'E = e.
    """
    rest = -m
    rest.diagonal().add_(value)
    factor, info = torch.linalg.cholesky_ex(rest)
    if int(info) != 0 or not bool(torch.isfinite(e).all()):
        return -math.inf
    half = torch.linalg.solve_triangular(factor, e, upper=False)
    inner = torch.linalg.solve_triangular(factor, half.T, upper=False)
    return value - 1.01 * max(float(torch.linalg.eigvalsh((inner + inner.T) / 2)[-1]), 0.0)


def coupled_bound(m: torch.Tensor, e: torch.Tensor, mu: float) -> float:
    """Return a bound of the largest eigenvalue of [[M, E'], [E, N]] where N is at most mu and E'E = e.

    Any value over mu with ``lambda_max(M + e / (value - mu)) <= value`` is one; a small one is looked for.
    """
    if not (bool(torch.isfinite(m).all()) and bool(torch.isfinite(e).all())):
        return math.inf  # a multiplier beyond all measure, at the edge of what is feasible
    values = torch.linalg.eigvalsh(m)
    noise = 16 * UNIT * math.sqrt(len(values)) * float(values.abs().max())
    top = float(values[-1]) + noise

    def pushed(value: float) -> float:
        return float(torch.linalg.eigvalsh(m + e / (value - mu))[-1]) + noise

    size = max(float(torch.linalg.eigvalsh(e)[-1]), 0.0)
    best = (top + mu) / 2 + math.hypot((top - mu) / 2, math.sqrt(size))  # the top of the 2 x 2 matrix of norms
    if size == 0:
        return max(top, mu) + noise
    if top > mu:
        best = min(best, pushed(top))  # what is over its own image is valid, for the image falls as the value rises
        if best - pushed(best) <= _CLOSE * (best - top):  # the image of a bound is at most the least bound
            return best + noise
    low, high = max(top, mu), best
    for _ in range(6):
        middle = low + (high - low) / 4
        if not low < middle < high:
            break
        if middle > mu and pushed(middle) <= middle:
            best = high = middle
        else:
            low = middle
    return best + noise
