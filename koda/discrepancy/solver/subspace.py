"""The production solver: one shared subspace for all directions, and a proved bound for each.

Rayleigh-Ritz on a growing orthonormal basis: the two-constraint problem is solved exactly in the basis by
:func:`koda.discrepancy.solver.direction.constrained_optimum`; the basis grows by the residuals of the leading Ritz
vectors, preconditioned by ``(B + tau I)^-1`` with tau = mu / lambda, because ``value = min over tau of (eps + tau)
lambda_max(A, B + tau I)``. When all directions stand to a modest accuracy, :mod:`koda.discrepancy.solver.refinement`
solves them again in the whole subspace, proves their gaps, and goes on until the proof is good enough.
"""

from __future__ import annotations

from contextlib import nullcontext

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
        warm: the basis of an earlier solution in this space, to start from.
    """
    with one_thread() if space.dim <= _ONE_THREAD_SIZE else nullcontext():
        return _solve(space, request, seed, effort or Effort(), warm)


def _solve(space: Space, request: SolverRequest, seed: int, effort: Effort, warm: Block | None) -> RawSolution:
    generator = torch.Generator().manual_seed(seed)
    state = _start(space, request, effort, generator, warm)
    ending, lambda_min = Ending.COMPLETE, None
    multiplier: float | None = None
    while len(state.multipliers) < request.n_directions:
        if state.locked.size >= space.dim:
            ending = Ending.EXHAUSTED
            break
        optimum = _direction(space, state, request, multiplier, generator, effort)
        if optimum is None:
            ending = Ending.EXHAUSTED
            break
        if not optimum.feasible:
            ending, lambda_min = Ending.INFEASIBLE, optimum.reference
            break
        multiplier = optimum.multiplier or None
        state.multipliers.append(optimum.multiplier)
        state.locked = state.locked.join(state.basis.mix(optimum.y[:, None]))
        if state.basis.size > 1:
            turn(state, complement(optimum.y))
        else:
            state.basis, state.a, state.b = space.empty(), state.a[:0, :0], state.b[:0, :0]
        if request.no_gain(optimum):
            ending = Ending.NO_DISCREPANCY
            break
    refined, basis = refine(space, state, request, generator, effort)
    if ending is Ending.NO_DISCREPANCY and refined and not refined[-1].gains:
        refined = refined[:-1]
    details = {"factorisations": state.factorisations, "restarts": state.restarts, "basis": basis.size}
    return RawSolution(tuple(d.direction for d in refined), ending, lambda_min, state.steps, details, basis)


def _start(
    space: Space, request: SolverRequest, effort: Effort, generator: torch.Generator, warm: Block | None
) -> State:
    """Begin with the range of A, seen through (B + tau I)^-1: where A is large and B is small."""
    none = space.empty()
    empty = torch.empty(0, 0, dtype=torch.float64)
    state = State(none, empty, empty, none)
    if warm is not None and warm.size:
        state.basis = warm
        state.a, state.b = ((m + m.T) / 2 for m in space.project(warm, warm))
        return state
    raw = space.apply_target(space.random(effort.start, generator))
    if isinstance(request.limit, EnergyLimit):
        state.tau, state.solve, state.factorisations = request.limit.eps, space.inverse(request.limit.eps), 1
        raw = state.solve(raw)
    grow(space, state, raw)
    return state


def _restart(state: State, c: torch.Tensor) -> None:
    turn(state, c)
    state.restarts += 1
    state.whole = False


def _direction(
    space: Space,
    state: State,
    request: SolverRequest,
    start: float | None,
    generator: torch.Generator,
    effort: Effort,
) -> DirectionOptimum | None:
    """Return the next direction in the basis, to a small residual; None where the space has no further vector."""
    down = 0
    last_step = state.steps + effort.steps
    while True:
        if state.basis.size == 0 and grow_at_random(space, state, generator, effort) == 0:
            return None
        optimum = request.solve(state.a, state.b, start)
        final = state.whole or state.steps >= last_step
        if not optimum.feasible:
            assert isinstance(request.limit, EnergyLimit)  # without a limit everything is feasible
            eps, start = request.limit.eps, None
            if final or (down in (2, 6, 18, 54) and _prove_infeasible(space, state, eps)):
                return optimum
            down += 1
            _expand_down(space, state, eps, optimum, generator, effort)
            continue
        start = optimum.multiplier or None
        m = min(effort.block, state.basis.size)
        y = optimum.vectors[:, -m:].flip(1)  # (k, m)
        raw = space.residual(state.basis.mix(y), optimum.values[-m:].flip(0), 1.0, optimum.multiplier, state.locked)
        weight = (y.T @ optimum.y).abs()  # which of them the solution is made of
        if final or float((space.norms(raw) * weight).norm()) <= request.residual * max(optimum.target, 1e-300):
            return optimum
        _make_room(state, optimum, effort)
        if grow(space, state, precondition(space, state, shift_of(optimum, request), raw)) == 0:
            grow_at_random(space, state, generator, effort)


def _expand_down(
    space: Space, state: State, eps: float, optimum: DirectionOptimum, generator: torch.Generator, effort: Effort
) -> None:
    """Grow the basis towards the smallest reference energies, by inverse iteration at tau = eps."""
    m = min(effort.block, state.basis.size)
    ritz = state.basis.mix(optimum.vectors[:, :m])
    raw = space.residual(ritz, -optimum.values[:m], 0.0, 1.0, state.locked)
    if state.solve is None or not eps / 4 <= state.tau <= eps * 4:
        state.tau, state.solve = eps, space.inverse(eps)
        state.factorisations += 1
    if state.basis.size + m > effort.most:
        _restart(state, optimum.vectors[:, : effort.kept])
    if grow(space, state, state.solve(raw)) == 0:
        grow_at_random(space, state, generator, effort)


def _prove_infeasible(space: Space, state: State, eps: float) -> bool:
    """Try to prove that no x off the locked directions has x'Bx <= eps: lambda_max(-B) <= -eps."""
    state.factorisations += 1
    return space.certify(0.0, -eps, 1.0, state.locked).holds


def _make_room(state: State, optimum: DirectionOptimum, effort: Effort) -> None:
    """Restart thick: keep the leading Ritz vectors and the solution itself."""
    if state.basis.size + effort.block + 2 <= effort.most:
        return
    kept = optimum.vectors[:, -effort.kept :]
    rest = optimum.y - kept @ (kept.T @ optimum.y)
    if float(rest.norm()) > 1e-8:
        kept = torch.linalg.qr(torch.cat([kept, rest[:, None]], 1)).Q
    _restart(state, kept)
