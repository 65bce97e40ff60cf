"""The space of a feature map: vectors x = Phi w / sqrt(n) + (what lies outside the range of Phi), never formed.

With ``G = Phi'Phi / n`` of the stacked features, all products come from ``p = G w``: ``<x, y> = w_x'p_y``, ``x'Ay`` and
``x'By`` are inner products of the target and reference coordinates of p, ``A x`` has the coordinates ``[p_A; 0]``. No
factor of G is taken and no jitter added, so a singular G does no harm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch

from koda.discrepancy.solver.low_rank import ShiftedInverse
from koda.discrepancy.solver.numerics import UNIT, skinny
from koda.discrepancy.solver.schur import SeenReference, prove
from koda.discrepancy.solver.space import Block, Certificate, Solve, Squares

_LEAST_LENGTH = 1e-6  # a vector of length 1 that keeps less off the others' span lies in it, to rounding
_NULL_LENGTH = 1e-5  # a vector that is shorter beside its coordinates is next to the null space
_MAX_PASSES = 6  # vectors are made orthonormal in at most so many passes
_WORN_LENGTH = 1e-3  # a vector shrunk to less has p made afresh, since differences have worn it


class FeatureSpace:
    """Coordinates of two stacked feature maps, and a few directions outside their range.

    A *raw* vector is stacked as [w (D), z (e), p (D)]: coordinates, coordinates outside the range, and G w. A
    block keeps w and z in ``w`` (D + e, k), and p as ``aw`` (D_A, k) and ``bw`` (D_B, k).

    Args:
        g: (D, D) float64 covariance of the stacked features.
        split: where the reference's coordinates begin.
        outside: orthonormal directions off the range of Phi, where both forms are 0; at most n - rank(G).
    """

    def __init__(self, g: torch.Tensor, split: int, outside: int = 0) -> None:
        self.g, self.split, self.outside = g, split, outside
        self.width = int(g.shape[0])
        self.dim = self.width + outside
        self._a, self._b = g[:split, :split], g[split:, split:]
        # bounds of the largest eigenvalues of both forms
        self._size = float(self._a.norm()), float(self._b.norm())
        self.reference_size = self._size[1]
        self._root = math.sqrt(math.hypot(*self._size))
        self._shifted = ShiftedInverse(self._b)
        self._unseen = 0.0  # the highest bound that what a basis saw of B did not prove

    @cached_property
    def spans(self) -> bool:
        """Whether a basis to which nothing can be added is all of the space: G has no eigenvalue next to 0 but 0.

        Asked only where so small a basis is left with nothing to add; a large space never comes to that.
        """
        values = torch.linalg.eigvalsh(self.g)
        rounding = 8 * self.width * UNIT * float(values[-1])
        return not bool(((values > rounding) & (values < (2 * _NULL_LENGTH * self._root) ** 2)).any())

    def empty(self) -> Block:
        """Return a block of no vectors."""
        none = self.g.new_empty(0, 0)
        return Block(none.reshape(self.dim, 0), none.reshape(self.split, 0), none.reshape(self.width - self.split, 0))

    def random(self, m: int, generator: torch.Generator) -> torch.Tensor:
        """Return m random raw vectors."""
        draws = torch.randn(self.dim, m, generator=generator, dtype=torch.float64).to(self.g.device)
        raw = self._raw(draws[: self.width], draws[self.width :])
        lengths = self._lengths(raw)
        raw[: self.width] /= lengths
        raw[self.dim :] /= lengths
        return raw

    def apply_target(self, raw: torch.Tensor) -> torch.Tensor:
        """Return A times the vectors."""
        w = torch.zeros_like(raw[: self.width])
        w[: self.split] = raw[self.dim : self.dim + self.split]
        return self._raw(w, torch.zeros_like(raw[self.width : self.dim]))

    def project(self, s: Block, t: Block) -> tuple[torch.Tensor, torch.Tensor]:
        """Return s'A t and s'B t as small matrices on the CPU."""
        return (s.aw.T @ t.aw).cpu(), (s.bw.T @ t.bw).cpu()

    def squares(self, block: Block) -> Squares:
        """Return (A w)'(A w), (A w)'(B w) and (B w)'(B w) as small matrices on the CPU."""
        across = skinny(self.g[: self.split, self.split :], block.bw)
        return Squares(
            (block.aw.T @ skinny(self._a, block.aw)).cpu(),
            (block.aw.T @ across).cpu(),
            (block.bw.T @ skinny(self._b, block.bw)).cpu(),
        )

    def extend(self, raw: torch.Tensor, others: Sequence[Block]) -> Block:
        """Return an orthonormal block of what the vectors add to the others; possibly of fewer vectors."""
        others = [block for block in others if block.size]
        room = self.dim - sum(block.size for block in others)
        lengths = self._lengths(raw)
        raw = self._apart(raw[:, lengths > 0] / lengths[lengths > 0], others)
        values, vectors = _eigen(self._inner(raw, raw))  # (m,), (m, m)
        for _ in range(_MAX_PASSES):
            if not bool((values < 0.5).any()):
                break
            keep = values > _LEAST_LENGTH**1.5
            raw = raw @ (vectors[:, keep] / values[keep].sqrt())
            if bool((values[keep] < _WORN_LENGTH).any()):
                raw = self._fresh(raw)
            raw = self._apart(raw, others)
            values, vectors = _eigen(self._inner(raw, raw))
        raw = raw @ (vectors / values.clamp_min(1e-300).sqrt()) @ vectors.T  # the nearest orthonormal vectors
        return self._block(raw[:, : max(room, 0)])

    def residual(
        self, block: Block, values: torch.Tensor, alpha: float, multiplier: float | torch.Tensor, locked: Block
    ) -> torch.Tensor:
        """Return ``P (alpha A - multiplier B) w - w diag(values)`` as raw vectors, with P off the locked directions."""
        weights = torch.as_tensor(multiplier, dtype=torch.float64).to(block.w.device)
        w = torch.cat([alpha * block.aw, -weights * block.bw, block.w.new_zeros(self.outside, block.size)])
        w -= block.w * values.to(w.device)
        if locked.size:
            w -= locked.w @ (
                locked.aw.T @ w[: self.split]
                + locked.bw.T @ w[self.split : self.width]
                + locked.w[self.width :].T @ w[self.width :]
            )
        return self._raw(w[: self.width], w[self.width :])

    def norms(self, raw: torch.Tensor) -> torch.Tensor:
        """Return the norms of raw vectors, (m,) on the CPU."""
        return self._lengths(raw).cpu()

    def inverse(self, tau: float) -> Solve:
        """Return a function that applies tau (B + tau I)^-1: it takes (G_BB + tau)^-1 (G w)_B off w_B."""
        solve = self._shifted.at(tau)
        if solve is None:
            return lambda raw: raw
        return lambda raw: self._less_reference(raw, solve(raw[self.dim + self.split :]))

    def certify(self, alpha: float, mu: float, multiplier: float, locked: Block) -> Certificate:
        """Try to prove that lambda_max(alpha A - multiplier B) off the locked directions is at most mu."""
        if not mu > 0 or alpha not in (0.0, 1.0):
            return Certificate(False, mu, None)  # off the range of Phi both forms are 0: nothing under 0 is a bound
        if alpha == 0:
            return Certificate(True, mu, None)
        sigma, d_b = self._sigma(multiplier), self.width - self.split
        seen = SeenReference(self._b, self.g[self.split :, : self.split], locked.bw)
        proof = prove(self._a, mu, multiplier, sigma, seen, locked.aw, self._size)
        if proof is None:
            return Certificate(False, mu, None)
        root, weight = math.sqrt(multiplier), math.sqrt(sigma)

        def off_reference(raw: torch.Tensor) -> torch.Tensor:  # (mu I + CC')^-1, times mu
            inner = torch.cat([root * raw[self.dim + self.split :], weight * self._against(locked, raw)])
            c = torch.cholesky_solve(inner, proof.inner)
            rest = self._less_reference(raw, root * c[:d_b])
            return rest - self._raw_of(locked, weight * c[d_b:])

        def solve(raw: torch.Tensor) -> torch.Tensor:
            first = off_reference(raw)
            w = torch.zeros_like(raw[: self.width])
            target = first[self.dim : self.dim + self.split]
            w[: self.split] = torch.cholesky_solve(target, proof.outer, upper=True)
            return first + off_reference(self._raw(w, torch.zeros_like(raw[self.width : self.dim])))

        return Certificate(True, proof.bound, solve)

    def certify_off(self, mu: float, multiplier: float, frame: Block, basis: Block) -> Certificate:
        """Try to prove that lambda_max(A - multiplier B) off a frame is at most mu.

        First by what the basis sees of B, then by all of B: where the two models are nearly one, much of B is needed.
        """
        if mu > self._unseen:
            seen = SeenReference.by(basis.bw, frame.bw, self.g, self.split, self._size)
            proof = prove(self._a, mu, multiplier, self._sigma(multiplier), seen, frame.aw, self._size)
            if proof is not None:
                return Certificate(True, proof.bound, None)
            self._unseen = mu
        return self.certify(1.0, mu, multiplier, frame)

    def _sigma(self, multiplier: float) -> float:
        """Return what locked directions are pushed down by: enough whatever couples them to the rest."""
        return 4 * (self._size[0] + multiplier * self._size[1])

    def _raw(self, w: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return torch.cat([w, z, skinny(self.g, w)])

    def _fresh(self, raw: torch.Tensor) -> torch.Tensor:
        """Return the vectors with their products made again."""
        return self._raw(raw[: self.width], raw[self.width : self.dim])

    def _raw_of(self, block: Block, c: torch.Tensor) -> torch.Tensor:
        return torch.cat([block.w @ c, block.aw @ c, block.bw @ c])

    def _block(self, raw: torch.Tensor) -> Block:
        p = raw[self.dim :]
        return Block(raw[: self.dim].contiguous(), p[: self.split].contiguous(), p[self.split :].contiguous())

    def _less_reference(self, raw: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """Return the raw vectors with c taken off their reference coordinates."""
        result = raw.clone()
        result[self.split : self.width] -= c
        result[self.dim :] -= skinny(self.g[:, self.split :], c)
        return result

    def _inner(self, s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return s[self.dim :].T @ t[: self.width] + s[self.width : self.dim].T @ t[self.width : self.dim]

    def _lengths(self, raw: torch.Tensor) -> torch.Tensor:
        squares = (raw[: self.width] * raw[self.dim :]).sum(0) + raw[self.width : self.dim].square().sum(0)
        return squares.clamp_min(0).sqrt()  # (m,)

    def _sound(self, raw: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Return the vectors at length 1, without those whose length is rounding, and the smallest length kept.

        One that is short beside its coordinates lies in the null space of G, or so near it that float64 cannot tell
        its energies. One that is short beside 1, which it was before the others were taken off, lies in their span.
        """
        lengths = self._lengths(raw)
        scale = self._root * raw[: self.dim].norm(dim=0)
        keep = lengths > (_NULL_LENGTH * scale).clamp_min(_LEAST_LENGTH)
        kept = lengths[keep]
        return raw[:, keep] / kept, float(kept.min()) if len(kept) else 1.0

    def _apart(self, raw: torch.Tensor, others: Sequence[Block]) -> torch.Tensor:
        """Return the vectors with what lies in the others' span taken off, at length 1, without those that vanish.

        Once is enough for a vector that keeps its length. What a short one keeps is in part rounding, which may
        lie anywhere: it is taken off again, from products made afresh, until the length stays.
        """
        for _ in range(_MAX_PASSES):
            raw, shrunk = self._sound(self._off(raw, others))
            if shrunk < _WORN_LENGTH:
                raw = self._fresh(raw)
            elif shrunk > 0.5:
                break
        return raw

    def _against(self, block: Block, raw: torch.Tensor) -> torch.Tensor:
        """Return block'raw, (k, m), from the block's exact products."""
        w = raw[: self.dim]
        return (
            block.aw.T @ w[: self.split]
            + block.bw.T @ w[self.split : self.width]
            + block.w[self.width :].T @ w[self.width :]
        )

    def _off(self, raw: torch.Tensor, blocks: Sequence[Block]) -> torch.Tensor:
        for block in blocks:
            raw = raw - self._raw_of(block, self._against(block, raw))
        return raw


def _eigen(inner: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the eigenvalues and eigenvectors of a symmetric matrix that rounding has bent."""
    values, vectors = torch.linalg.eigh((inner + inner.T) / 2)
    return values, vectors
