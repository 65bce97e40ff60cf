"""A search as it stands: what is asked, how hard to try, and the basis that grows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from koda.discrepancy.limits import EnergyLimit, SolverLimit
from koda.discrepancy.solver.direction import DirectionOptimum, solve_direction
from koda.discrepancy.solver.space import Block, Solve, Space

_LARGEST_SHIFT = 20.0  # a shift of more times lambda_max(B) leaves nothing to precondition
_ROUGH_GAP = 1e-11  # relative gap of the small problem while the basis grows


@dataclass(frozen=True)
class Effort:
    """How hard the solver tries.

    Args:
        block: vectors added a step.
        start: random vectors of the first block.
        most: size of the basis at which it is restarted.
        kept: leading Ritz vectors that a restart keeps.
        steps: block steps for one direction, at most.
        proofs: factorisations for the proofs, at most.
    """

    block: int = 8
    start: int = 24
    most: int = 160
    kept: int = 56
    steps: int = 120
    proofs: int = 32


@dataclass(frozen=True)
class SolverRequest:
    """What is asked of a solver.

    Args:
        limit: eps on x'Bx; or SPEC's fixed weight eta: leading eigenvectors of A - eta B instead.
        n_directions: at most this many.
        tolerance: relative gap that is to be proved.
        stop_without_gain: end at the first direction with a quotient of at most 1 (with eta: a value of at most 0).
        prove: whether to prove the gaps; without, they are infinite, and the directions those of the subspace
            whose residuals the tolerance asks for.
    """

    limit: SolverLimit
    n_directions: int
    tolerance: float = 1e-6
    stop_without_gain: bool = False
    prove: bool = True

    @property
    def residual(self) -> float:
        """Residual, relative to the value, that a proof of the tolerance needs: it enters it squared."""
        return min(1e-2, 0.3 * math.sqrt(self.tolerance))

    def solve(self, a: torch.Tensor, b: torch.Tensor, start: float | None) -> DirectionOptimum:
        """Solve one direction in a small space."""
        return solve_direction(a, b, self.limit, start=start, accuracy=_ROUGH_GAP)

    def allowance(self, optimum: DirectionOptimum) -> float:
        """Return what the reference energy is limited by in the bound of this direction."""
        return self.limit.eps if isinstance(self.limit, EnergyLimit) else optimum.reference

    def no_gain(self, optimum: DirectionOptimum) -> bool:
        """Tell whether the target ties the direction together no more than the reference does."""
        return self.stop_without_gain and not optimum.gains(self.limit.weight)


@dataclass
class State:
    """The search as it stands: basis, small matrices, locked directions, counters.

    ``whole`` says that the basis and the locked directions span the space, to rounding.
    """

    basis: Block
    a: torch.Tensor  # (k, k)
    b: torch.Tensor  # (k, k)
    locked: Block
    tau: float = 0.0
    solve: Solve | None = None
    steps: int = 0
    factorisations: int = 0
    restarts: int = 0
    whole: bool = False
    multipliers: list[float] = field(default_factory=list)


def grow(space: Space, state: State, raw: torch.Tensor) -> int:
    """Add what the vectors bring to the basis; return how many they were."""
    new = space.extend(raw, [state.locked, state.basis])
    if new.size == 0:
        return 0
    state.whole = state.locked.size + state.basis.size + new.size >= space.dim
    cross = space.project(state.basis, new)
    inner = space.project(new, new)
    state.a, state.b = (
        torch.cat([torch.cat([old, side], 1), torch.cat([side.T, (corner + corner.T) / 2], 1)])
        for old, side, corner in zip((state.a, state.b), cross, inner, strict=True)
    )
    state.basis = state.basis.join(new)
    state.steps += 1
    return new.size


def grow_at_random(space: Space, state: State, generator: torch.Generator, effort: Effort) -> int:
    """Add random vectors; where they bring nothing the space is whole."""
    grown = grow(space, state, space.random(effort.block, generator))
    state.whole = state.whole or grown == 0
    return grown


def turn(state: State, c: torch.Tensor) -> None:
    """Replace the basis by the combinations c (k, m), orthonormal."""
    state.basis = state.basis.mix(c)
    state.a, state.b = ((m + m.T) / 2 for m in (c.T @ state.a @ c, c.T @ state.b @ c))


def precondition(space: Space, state: State, tau: float, raw: torch.Tensor) -> torch.Tensor:
    """Apply (B + tau I)^-1, refactoring where tau has moved more than fourfold; a large tau is left out."""
    if tau > _LARGEST_SHIFT * space.reference_size:
        return raw
    if state.solve is None or not state.tau / 4 <= tau <= state.tau * 4:
        state.tau, state.solve = tau, space.inverse(tau)
        state.factorisations += 1
    return state.solve(raw)


def shift_of(optimum: DirectionOptimum, request: SolverRequest) -> float:
    """Return tau = mu / lambda, at which the two problems share their solution."""
    return max(optimum.top / optimum.multiplier, request.allowance(optimum) / 8) if optimum.multiplier > 0 else math.inf
