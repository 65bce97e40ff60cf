"""The inverse of a shifted form for preconditioning: by a factor, or by its leading eigenvalues where they are enough.

``(M + tau I)^-1`` of a large M whose eigenvalues fall far under tau soon is, but for a quarter on what is left,
``U ((L + tau I)^-1 - 1 / (l + tau)) U' + 1 / (l + tau)`` with the leading eigenpairs U, L of M and the last of them, l.
They come from one product with random vectors (the Nystroem approximation; Frangella, Tropp and Udell, SIAM J. Matrix
Anal. Appl. 2023), and serve every tau that is over 4 l.
"""

from __future__ import annotations

from functools import cached_property

import torch

from koda.discrepancy.solver.numerics import UNIT
from koda.discrepancy.solver.space import Solve

_RANK = 128  # random vectors
_LEFT_OUT = 0.25  # of the shift: what is left out is at most that
_FACTORED = 2500  # rows up to which a factor costs less than the random vectors


class ShiftedInverse:
    """Inverses of M + tau I, for any tau.

    Args:
        matrix: M, (n, n) positive semidefinite.
    """

    def __init__(self, matrix: torch.Tensor) -> None:
        self._matrix = matrix

    def at(self, tau: float) -> Solve | None:
        """Return a function that applies the inverse, or what is near enough to it; None where rounding forbids it."""
        if self._matrix.shape[0] > _FACTORED and float(self._leading[1][-1]) <= _LEFT_OUT * tau:
            return self._by_leading(tau)
        return self._by_factor(tau)

    def _by_leading(self, tau: float) -> Solve:
        vectors, values = self._leading
        rest = 1 / (float(values[-1]) + tau)
        weights = 1 / (values + tau) - rest
        return lambda raw: vectors @ (weights[:, None] * (vectors.T @ raw)) + rest * raw

    def _by_factor(self, tau: float) -> Solve | None:
        m = self._matrix
        for extra in (0.0, 8 * m.shape[0] * UNIT * float(m.trace())):  # tau may be under the rounding of M
            shifted = m.clone()
            shifted.diagonal().add_(tau + extra)
            factor, info = torch.linalg.cholesky_ex(shifted)
            if int(info) == 0:
                lower: torch.Tensor = factor
                return lambda raw: torch.cholesky_solve(raw, lower)
        return None

    @cached_property
    def _leading(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Eigenvectors (n, k) and eigenvalues (k,), descending, of the Nystroem approximation."""
        m = self._matrix
        generator = torch.Generator().manual_seed(0)
        draws = torch.randn(m.shape[0], _RANK, generator=generator, dtype=torch.float64)
        omega = torch.linalg.qr(draws.to(m.device)).Q
        image = m @ omega
        shift = UNIT * m.shape[0] ** 0.5 * float(image.norm())
        image += shift * omega
        inner = omega.T @ image
        factor = torch.linalg.cholesky((inner + inner.T) / 2)
        half = torch.linalg.solve_triangular(factor, image.T, upper=False)  # (k, n), M is about half'half
        squares, mix = torch.linalg.eigh(half @ half.T)
        vectors = (half.T @ (mix / squares.clamp_min(1e-300).sqrt())).flip(1)
        return vectors, (squares - shift).clamp_min(0).flip(0)
