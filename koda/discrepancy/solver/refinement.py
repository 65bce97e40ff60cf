"""The end of a search: all directions solved again in the whole subspace, with proved gaps.

Solved one after the other while the subspace grew, each direction is right for its own moment. Solved again in
the final subspace, all of them are the exact answer there. What the subspace misses is bounded by
:mod:`koda.discrepancy.solver.proofs`; where a gap is too wide the subspace grows by the residuals, and where
something of weight lies off it, the shifted inverse of a higher bound finds that.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

import torch

from koda.discrepancy.solver.numerics import complement
from koda.discrepancy.solver.outcome import DirectionState, RawDirection
from koda.discrepancy.solver.proofs import Candidate, Proofs
from koda.discrepancy.solver.space import Block, Solve, Space
from koda.discrepancy.solver.state import Effort, SolverRequest, State, grow, grow_at_random, precondition, shift_of

_MAX_ROUNDS = 10  # at most so many times the directions are solved, proved and the subspace widened


@dataclass(frozen=True)
class Refined:
    """A direction with its proof, and whether the target ties it together more than the reference does."""

    direction: RawDirection
    gains: bool


def refine(
    space: Space, state: State, request: SolverRequest, generator: torch.Generator, effort: Effort
) -> tuple[list[Refined], Block]:
    """Solve the locked directions again in the whole subspace until each gap is proved to the tolerance.

    The state is unlocked: its basis becomes the whole subspace.

    Returns:
        the directions, with the gap that could be proved, and the subspace.
    """
    return _Refinement(space, state, request, generator, effort).run()


@dataclass(frozen=True)
class _Refinement:
    """What a refinement works on: the space, the search as it stands, what is asked, and how hard to try."""

    space: Space
    state: State
    request: SolverRequest
    generator: torch.Generator
    effort: Effort

    def run(self) -> tuple[list[Refined], Block]:
        """Solve, prove and widen until every gap is proved, or the effort is spent; see :func:`refine`."""
        space, state = self.space, self.state
        count = len(state.multipliers)
        state.basis, state.locked = state.locked.join(state.basis), space.empty()
        if count == 0:
            return [], state.basis
        state.a, state.b = ((m + m.T) / 2 for m in space.project(state.basis, state.basis))
        allowed = state.factorisations + self.effort.proofs
        attempt = 0
        while True:
            attempt += 1
            candidates = self._resolve(count)
            if attempt == 1 and not state.whole:  # the directions before bear on each one: sharpen them all
                self._widen(candidates, None, images=True)
                continue
            if state.whole and space.spans:
                for c in candidates:
                    c.bound = c.optimum.upper
                break
            if not self.request.prove:
                break
            last = attempt >= _MAX_ROUNDS or state.whole
            wide, shifted = self._prove(candidates, allowed, last=last)
            if not wide or last or state.factorisations >= allowed:
                break
            self._widen([candidates[k] for k in wide], shifted)
        return [self._refined(c) for c in candidates], state.basis

    def _resolve(self, count: int) -> list[Candidate]:
        """Solve the directions one after the other in the subspace, each orthogonal to those before."""
        state = self.state
        basis = torch.eye(state.basis.size, dtype=torch.float64)  # (k, k - len(candidates))
        candidates: list[Candidate] = []
        for k in range(min(count, state.basis.size)):
            a, b = (basis.T @ m @ basis for m in (state.a, state.b))
            optimum = self.request.solve((a + a.T) / 2, (b + b.T) / 2, state.multipliers[k] or None)
            if not optimum.feasible:
                break
            state.multipliers[k] = optimum.multiplier
            candidates.append(Candidate(optimum, basis, basis @ optimum.y))
            if basis.shape[1] > 1:
                basis = basis @ complement(optimum.y)
        return candidates

    def _prove(self, candidates: list[Candidate], allowed: int, *, last: bool) -> tuple[list[int], Solve | None]:
        """Prove what gaps can be; return the directions whose gaps stay too wide, and where one was climbed its solve.

        Unless it is the last round, nothing is proved as long as some direction has no plan: the subspace must grow.
        """
        proofs = Proofs(self.space, self.state, self.request, candidates, self.space.squares(self.state.basis))
        plans = proofs.plans(range(len(candidates)))
        wide = [k for k in range(len(candidates)) if not any(k in group for group, _ in plans)]
        shifted: Solve | None = None
        if not wide or last:
            for group, plan in plans:
                wide += proofs.settle(group, plan)
            for k in wide:
                if self.state.factorisations >= allowed or (shifted is not None and not last):
                    break
                shifted = proofs.climb(k)
        return [k for k in wide if candidates[k].gap > self.request.tolerance], shifted

    def _widen(self, wide: list[Candidate], shifted: Solve | None, *, images: bool = False) -> None:
        """Add the residuals of the directions whose gaps are too wide, and their images under B if asked to."""
        space, state = self.space, self.state
        each = max(2, 2 * self.effort.block // len(wide))
        vectors = torch.cat([c.basis @ c.optimum.vectors[:, -each:] for c in wide], 1)  # (k, m)
        values = torch.cat([c.optimum.values[-each:] for c in wide])
        multipliers = torch.cat([torch.full((len(c.optimum.values[-each:]),), c.optimum.multiplier) for c in wide])
        raw = space.residual(state.basis.mix(vectors), values, 1.0, multipliers.double(), state.basis)
        if shifted is None:
            raw = precondition(space, state, median(shift_of(c.optimum, self.request) for c in wide), raw)
        else:  # something of weight lies off the subspace, and the shifted inverse finds it
            raw = shifted(torch.cat([raw, space.random(self.effort.block, self.generator)], 1))
        if images:
            directions = state.basis.mix(torch.stack([c.vector for c in wide], 1))
            nothing = torch.zeros(len(wide), dtype=torch.float64)
            raw = torch.cat([raw, space.residual(directions, nothing, 0.0, -1.0, state.basis)], 1)
        if grow(space, state, raw) == 0:
            grow_at_random(space, state, self.generator, self.effort)

    def _refined(self, c: Candidate) -> Refined:
        """Make the direction and its state out of what was proved."""
        direction = RawDirection(
            x=self.state.basis.mix(c.vector[:, None]).w[:, 0].cpu().numpy(),
            target_energy=c.optimum.target,
            reference_energy=c.optimum.reference,
            multiplier=c.optimum.multiplier,
            upper=c.bound,
            state=self._state(c),
        )
        return Refined(direction, not self.request.no_gain(c.optimum))

    def _state(self, c: Candidate) -> DirectionState:
        """Return what is known of a direction: how its gap compares with the tolerance, and whether the limit binds."""
        if not c.gap <= self.request.tolerance:
            return DirectionState.INEXACT if self.request.prove else DirectionState.UNPROVED
        return DirectionState.INACTIVE if c.optimum.inactive else DirectionState.OPTIMAL
