"""The sample space itself, with explicit symmetric matrices."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from koda.discrepancy.solver.low_rank import ShiftedInverse
from koda.discrepancy.solver.numerics import UNIT, skinny
from koda.discrepancy.solver.space import Block, Certificate, Solve, Squares


class SampleSpace:
    """The sample space itself, with explicit symmetric matrices.

    Args:
        target: A = K_A / n, (n, n) float64.
        reference: B = K_B / n, (n, n) float64.
    """

    spans = True

    def __init__(self, target: torch.Tensor, reference: torch.Tensor) -> None:
        self.a, self.b = target, reference
        self.dim = int(target.shape[0])
        self._size = float(target.abs().max()), float(reference.abs().max())
        self.reference_size = float(reference.norm())
        self._shifted = ShiftedInverse(reference)

    def empty(self) -> Block:
        """Return a block of no vectors."""
        none = self.a.new_empty(self.dim, 0)
        return Block(none, none, none)

    def random(self, m: int, generator: torch.Generator) -> torch.Tensor:
        """Return m random coordinate vectors, (n, m)."""
        return torch.randn(self.dim, m, generator=generator, dtype=torch.float64).to(self.a.device)

    def apply_target(self, raw: torch.Tensor) -> torch.Tensor:
        """Return A times the vectors."""
        return skinny(self.a, raw)

    def project(self, s: Block, t: Block) -> tuple[torch.Tensor, torch.Tensor]:
        """Return s'A t and s'B t as small matrices on the CPU."""
        return (s.w.T @ t.aw).cpu(), (s.w.T @ t.bw).cpu()

    def squares(self, block: Block) -> Squares:
        """Return the inner products of A w and B w among themselves."""
        return Squares((block.aw.T @ block.aw).cpu(), (block.aw.T @ block.bw).cpu(), (block.bw.T @ block.bw).cpu())

    def extend(self, raw: torch.Tensor, others: Sequence[Block]) -> Block:
        """Return an orthonormal block of what the vectors add to the others; possibly of fewer vectors."""
        bases = [block.w for block in others if block.size]
        lengths = raw.norm(dim=0)
        raw = raw[:, lengths > 0] / lengths[lengths > 0]
        raw = _off(raw, bases)
        lengths = raw.norm(dim=0)
        keep = lengths > 1e-10  # what is smaller is rounding of vectors inside the others' span
        raw = _off(raw[:, keep] / lengths[keep], bases)
        w, r = torch.linalg.qr(raw)
        w = _off(w[:, r.diagonal().abs() > 1e-8], bases)
        lengths = w.norm(dim=0)
        w = w[:, lengths > 0.1]  # a column that the factor made of rounding lies anywhere, in the others' span too
        for _ in range(2):
            w = _off(torch.linalg.qr(w).Q, bases)
        w = torch.linalg.qr(w).Q  # (n, m')
        room = self.dim - sum(block.size for block in others)
        w = w[:, : max(room, 0)].contiguous()
        return Block(w, skinny(self.a, w), skinny(self.b, w))

    def residual(
        self, block: Block, values: torch.Tensor, alpha: float, multiplier: float | torch.Tensor, locked: Block
    ) -> torch.Tensor:
        """Return ``P (alpha A - multiplier B) w - w diag(values)``, (n, m), with P off the locked directions."""
        weights = torch.as_tensor(multiplier, dtype=torch.float64).to(block.w.device)
        raw = alpha * block.aw - weights * block.bw - block.w * values.to(block.w.device)
        return _off(raw, [locked.w]) if locked.size else raw

    def norms(self, raw: torch.Tensor) -> torch.Tensor:
        """Return the norms of the vectors, (m,) on the CPU."""
        lengths: torch.Tensor = raw.norm(dim=0)
        return lengths.cpu()

    def inverse(self, tau: float) -> Solve:
        """Return a function that applies (B + tau I)^-1."""
        return self._shifted.at(tau) or (lambda raw: raw)

    def certify(self, alpha: float, mu: float, multiplier: float, locked: Block) -> Certificate:
        """Try to prove that lambda_max(alpha A - multiplier B) off the locked directions is at most mu."""
        # T = mu I - P (alpha A - lambda B) P, and on the locked directions the positive number `anchor`
        t = torch.mul(self.b, multiplier)  # (n, n)
        if alpha:
            t.sub_(self.a, alpha=alpha)
        size = abs(alpha) * self._size[0] + multiplier * self._size[1]
        anchor = max(mu, size)
        if locked.size:
            u = locked.w
            z = multiplier * locked.bw - alpha * locked.aw  # (n, t)
            half = z - u @ (u.T @ z) / 2
            t.addmm_(u, half.T, alpha=-1).addmm_(half, u.T, alpha=-1)
            t.addmm_(u, u.T, alpha=anchor - mu)
        t.diagonal().add_(mu)
        trace = float(t.diagonal().abs().sum())
        factor, info = torch.linalg.cholesky_ex(t)
        # Cholesky succeeds only if T + E is positive definite with ||E|| <= (n + 1) u trace(T); what
        # forming T may have moved comes on top
        margin = 2 * (self.dim + 2) * UNIT * trace + 4 * (locked.size + 4) * self.dim * UNIT * size
        if int(info) != 0:
            return Certificate(False, mu + margin, None)
        return Certificate(True, mu + margin, lambda raw: torch.cholesky_solve(raw, factor))

    def certify_off(self, mu: float, multiplier: float, frame: Block, basis: Block) -> Certificate:
        """Try to prove that lambda_max(A - multiplier B) off a frame is at most mu."""
        return self.certify(1.0, mu, multiplier, frame)


def _off(raw: torch.Tensor, bases: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the vectors with their parts along the orthonormal bases taken away."""
    for basis in bases:
        raw = raw - basis @ (basis.T @ raw)
    return raw
