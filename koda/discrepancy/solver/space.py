"""The space a search runs in: products with both forms, orthonormal blocks, preconditioners, certificates.

The subspace solver sees only the methods of :class:`Space`; what a vector's coordinates mean (samples, or
coordinates of a feature map) is the space's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

Solve = Callable[[torch.Tensor], torch.Tensor]  # (n, m) -> (n, m)


@dataclass(frozen=True)
class Block:
    """Orthonormal vectors with their products, which every linear combination of them keeps up to date.

    Args:
        w: (n, k) the vectors.
        aw, bw: (n, k) A w and B w; or what the space keeps of them.
    """

    w: torch.Tensor
    aw: torch.Tensor
    bw: torch.Tensor

    @property
    def size(self) -> int:
        """Number of vectors, k."""
        return int(self.w.shape[1])

    def mix(self, c: torch.Tensor) -> Block:
        """Return the combinations ``w c`` for c (k, m)."""
        c = c.to(self.w.device)
        return Block(self.w @ c, self.aw @ c, self.bw @ c)

    def join(self, other: Block) -> Block:
        """Return both blocks side by side."""
        return Block(
            torch.cat([self.w, other.w], 1), torch.cat([self.aw, other.aw], 1), torch.cat([self.bw, other.bw], 1)
        )


@dataclass(frozen=True)
class Certificate:
    """Outcome of one factorisation of ``mu I - P (A - lambda B) P``.

    Args:
        holds: whether lambda_max(A - lambda B) off the locked directions is proved to be at most ``bound``.
        bound: mu and what rounding in the factorisation may hide.
        solve: applies the inverse of the factorised matrix, where it holds.
    """

    holds: bool
    bound: float
    solve: Solve | None


@dataclass(frozen=True)
class Squares:
    """Inner products of the images of a block, (k, k) on the CPU.

    Args:
        aa, ab, bb: (A w)'(A w), (A w)'(B w), (B w)'(B w).
    """

    aa: torch.Tensor
    ab: torch.Tensor
    bb: torch.Tensor


class Space(Protocol):
    """What the subspace solver needs of a problem.

    Attributes:
        dim: its dimension, at most.
        reference_size: an upper bound of lambda_max(B).
    """

    dim: int
    reference_size: float

    @property
    def spans(self) -> bool:
        """Whether a basis to which nothing can be added is all of the space, so that what is optimal in it is."""

    def empty(self) -> Block:
        """Return a block of no vectors."""

    def random(self, m: int, generator: torch.Generator) -> torch.Tensor:
        """Return m random coordinate vectors, (n, m)."""

    def apply_target(self, raw: torch.Tensor) -> torch.Tensor:
        """Return A times the vectors."""

    def project(self, s: Block, t: Block) -> tuple[torch.Tensor, torch.Tensor]:
        """Return s'A t and s'B t as small matrices on the CPU."""

    def squares(self, block: Block) -> Squares:
        """Return the inner products of A w and B w among themselves."""

    def extend(self, raw: torch.Tensor, others: Sequence[Block]) -> Block:
        """Return an orthonormal block of what the vectors add to the others; possibly of fewer vectors."""

    def residual(
        self, block: Block, values: torch.Tensor, alpha: float, multiplier: float | torch.Tensor, locked: Block
    ) -> torch.Tensor:
        """Return ``P (alpha A - multiplier B) w - w diag(values)``, (n, m), with P off the locked directions."""

    def norms(self, raw: torch.Tensor) -> torch.Tensor:
        """Return the norms of the vectors, (m,) on the CPU."""

    def inverse(self, tau: float) -> Solve:
        """Return a function that applies (B + tau I)^-1."""

    def certify(self, alpha: float, mu: float, multiplier: float, locked: Block) -> Certificate:
        """Try to prove that lambda_max(alpha A - multiplier B) off the locked directions is at most mu."""

    def certify_off(self, mu: float, multiplier: float, frame: Block, basis: Block) -> Certificate:
        """Try to prove that lambda_max(A - multiplier B) off a frame is at most mu, by what a basis sees if it can."""
