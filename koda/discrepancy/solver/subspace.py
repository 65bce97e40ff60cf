"""The production solver: one shared subspace for all directions, and a proved bound for each.

Rayleigh-Ritz on a growing orthonormal basis: the two-constraint problem is solved exactly in the basis by
:func:`koda.discrepancy.solver.direction.constrained_optimum`; the basis grows by the residuals of the leading Ritz
vectors, preconditioned by ``(B + tau I)^-1`` with tau = mu / lambda, because ``value = min over tau of (eps + tau)
lambda_max(A, B + tau I)``. When all directions stand to a modest accuracy, :mod:`koda.discrepancy.solver.refinement`
solves them again in the whole subspace, proves their gaps, and goes on until the proof is good enough.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch

from koda.discrepancy.limits import EnergyLimit
from koda.discrepancy.solver.direction import DirectionOptimum
from koda.discrepancy.solver.numerics import complement, one_thread
from koda.discrepancy.solver.outcome import Ending, RawSolution
from koda.discrepancy.solver.refinement import refine
from koda.discrepancy.solver.space import Block, Space
from koda.discrepancy.solver.state import (
    Effort,
    SolverRequest,
    State,
    grow,
    grow_at_random,
    precondition,
    shift_of,
    turn,
)

_ONE_THREAD_SIZE = 512  # dimensions up to which one thread is quicker than several


def solve_subspace(
    space: Space,
    request: SolverRequest,
    *,
    seed: int = 0,
    effort: Effort | None = None,
    warm: Block | None = None,
) -> RawSolution:
    """Find directions one after the other in one subspace; every gap is proved by a factorisation.

    Gives what :func:`koda.discrepancy.solver.dense.solve_dense` gives, to the proved gap.

    Args:
        space: the two forms.
        request: what is asked.
        seed: of the first random block.
        effort: limits; the defaults suit a few thousand dimensions.
        warm: the basis of an earlier solution of the same forms, to start from; of one that asked for more directions
            it is left alone.
    """
    effort = effort or Effort()
    generator = torch.Generator().manual_seed(seed)
    with one_thread() if space.dim <= _ONE_THREAD_SIZE else nullcontext():
        state = _started(space, request, effort, generator, warm)
        return _Search(space, state, request, generator, effort).run()


def _started(
    space: Space, request: SolverRequest, effort: Effort, generator: torch.Generator, warm: Block | None
) -> State:
    """Begin with the range of A, seen through (B + tau I)^-1: where A is large and B is small."""
    none = space.empty()
    empty = torch.empty(0, 0, dtype=torch.float64)
    state = State(none, empty, empty, none)
    if warm is not None and warm.size and (missing := space.dim - len(warm.w)) >= 0:
        # where more directions are asked for, a space of features holds more outside its range: its last coordinates
        state.basis = replace(warm, w=torch.cat([warm.w, warm.w.new_zeros(missing, warm.size)]))
        state.a, state.b = ((m + m.T) / 2 for m in space.project(state.basis, state.basis))
        return state
    raw = space.apply_target(space.random(effort.start, generator))
    if isinstance(request.limit, EnergyLimit):
        state.tau, state.solve, state.factorisations = request.limit.eps, space.inverse(request.limit.eps), 1
        raw = state.solve(raw)
    grow(space, state, raw)
    return state


@dataclass(frozen=True)
class _Search:
    """What a search works on: the space, the search as it stands, what is asked, and how hard to try."""

    space: Space
    state: State
    request: SolverRequest
    generator: torch.Generator
    effort: Effort

    def run(self) -> RawSolution:
        """Find the directions one after the other, then prove them together; see :func:`solve_subspace`."""
        space, state, request = self.space, self.state, self.request
        ending, lambda_min = Ending.COMPLETE, None
        multiplier: float | None = None
        while len(state.multipliers) < request.n_directions:
            if state.locked.size >= space.dim:
                ending = Ending.EXHAUSTED
                break
            optimum = self._direction(multiplier)
            if optimum is None:
                ending = Ending.EXHAUSTED
                break
            if not optimum.feasible:
                ending, lambda_min = Ending.INFEASIBLE, optimum.reference
                break
            multiplier = optimum.multiplier or None
            self._lock(optimum)
            if request.no_gain(optimum):
                ending = Ending.NO_DISCREPANCY
                break
        refined, basis = refine(space, state, request, self.generator, self.effort)
        if ending is Ending.NO_DISCREPANCY and refined and not refined[-1].gains:
            refined = refined[:-1]
        details = {"factorisations": state.factorisations, "restarts": state.restarts, "basis": basis.size}
        return RawSolution(tuple(d.direction for d in refined), ending, lambda_min, state.steps, details, basis)

    def _direction(self, start: float | None) -> DirectionOptimum | None:
        """Return the next direction in the basis, to a small residual; None where the space has no further vector."""
        space, state, request, effort = self.space, self.state, self.request, self.effort
        down = 0
        last_step = state.steps + effort.steps
        while True:
            if state.basis.size == 0 and grow_at_random(space, state, self.generator, effort) == 0:
                return None
            optimum = request.solve(state.a, state.b, start)
            final = state.whole or state.steps >= last_step
            if not optimum.feasible:
                assert isinstance(request.limit, EnergyLimit)  # without a limit everything is feasible
                eps, start = request.limit.eps, None
                if final or (down in (2, 6, 18, 54) and self._prove_infeasible(eps)):
                    return optimum
                down += 1
                self._expand_down(eps, optimum)
                continue
            start = optimum.multiplier or None
            m = min(effort.block, state.basis.size)
            y = optimum.vectors[:, -m:].flip(1)  # (k, m)
            raw = space.residual(state.basis.mix(y), optimum.values[-m:].flip(0), 1.0, optimum.multiplier, state.locked)
            weight = (y.T @ optimum.y).abs()  # which of them the solution is made of
            if final or float((space.norms(raw) * weight).norm()) <= request.residual * max(optimum.target, 1e-300):
                return optimum
            self._make_room(optimum)
            self._grow(precondition(space, state, shift_of(optimum, request), raw))

    def _lock(self, optimum: DirectionOptimum) -> None:
        """Move the direction from the basis to the locked ones."""
        state = self.state
        state.multipliers.append(optimum.multiplier)
        state.locked = state.locked.join(state.basis.mix(optimum.y[:, None]))
        if state.basis.size > 1:
            turn(state, complement(optimum.y))
        else:
            state.basis, state.a, state.b = self.space.empty(), state.a[:0, :0], state.b[:0, :0]

    def _expand_down(self, eps: float, optimum: DirectionOptimum) -> None:
        """Grow the basis towards the smallest reference energies, by inverse iteration at tau = eps."""
        state = self.state
        m = min(self.effort.block, state.basis.size)
        ritz = state.basis.mix(optimum.vectors[:, :m])
        raw = self.space.residual(ritz, -optimum.values[:m], 0.0, 1.0, state.locked)
        if state.solve is None or not eps / 4 <= state.tau <= eps * 4:
            state.tau, state.solve = eps, self.space.inverse(eps)
            state.factorisations += 1
        if state.basis.size + m > self.effort.most:
            self._restart(optimum.vectors[:, : self.effort.kept])
        self._grow(state.solve(raw))

    def _grow(self, raw: torch.Tensor) -> None:
        """Add what the vectors bring to the basis, or random vectors where they bring nothing."""
        if grow(self.space, self.state, raw) == 0:
            grow_at_random(self.space, self.state, self.generator, self.effort)

    def _prove_infeasible(self, eps: float) -> bool:
        """Try to prove that no x off the locked directions has x'Bx <= eps: lambda_max(-B) <= -eps."""
        self.state.factorisations += 1
        return self.space.certify(0.0, -eps, 1.0, self.state.locked).holds

    def _make_room(self, optimum: DirectionOptimum) -> None:
        """Restart thick: keep the leading Ritz vectors and the solution itself."""
        if self.state.basis.size + self.effort.block + 2 <= self.effort.most:
            return
        kept = optimum.vectors[:, -self.effort.kept :]
        rest = optimum.y - kept @ (kept.T @ optimum.y)
        if float(rest.norm()) > 1e-8:
            kept = torch.linalg.qr(torch.cat([kept, rest[:, None]], 1)).Q
        self._restart(kept)

    def _restart(self, c: torch.Tensor) -> None:
        """Replace the basis by fewer combinations of it, c (k, m)."""
        turn(self.state, c)
        self.state.restarts += 1
        self.state.whole = False
