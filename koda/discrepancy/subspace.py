"""The production solver: one shared subspace for all directions, and a proved bound for each.

Rayleigh-Ritz on a growing orthonormal basis: the two-constraint problem is solved exactly in the basis by
:func:`koda.discrepancy.dense.solve_single`; the basis grows by the residuals of the leading Ritz vectors,
preconditioned by ``(B + tau I)^-1`` with tau = mu / lambda, because ``value = min over tau of (eps + tau)
lambda_max(A, B + tau I)``. A direction is done when a Cholesky factorisation of ``mu I - (A - lambda B)`` off the
locked directions proves the dual bound. Where it fails, the factor of the next higher mu is itself the best
preconditioner there is, a shifted inverse just above the spectrum.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field

import torch

from koda.discrepancy.dense import NO_GAIN, Single, complement, one_thread, solve_single
from koda.discrepancy.solution import INACTIVE, OPTIMAL, RawDirection, RawSolution
from koda.discrepancy.spaces import Block, Solve, Space

_SMALL = 512  # dimensions up to which one thread is quicker than several
_ROUGH = 1e-11  # relative gap of the small problem while the basis grows
_POLISHED = 1e-11  # residual, relative to the value, of a direction before it is locked
TIGHT = 1e-8  # relative gap that is tried for before the tolerance is settled for


@dataclass(frozen=True)
class Effort:
    """How hard the solver tries.

    Args:
        block: vectors added a step.
        start: random vectors of the first block.
        most: size of the basis at which it is restarted.
        kept: leading Ritz vectors that a restart keeps.
        residual: residual, relative to the value, at which a proof is tried.
        steps: block steps for one direction, at most.
        proofs: factorisations for one direction, at most.
    """

    block: int = 8
    start: int = 24
    most: int = 160
    kept: int = 56
    residual: float = 1e-4
    steps: int = 120
    proofs: int = 24


@dataclass
class _State:
    """The search as it stands: basis, small matrices, locked directions, counters."""

    basis: Block
    a: torch.Tensor  # (k, k)
    b: torch.Tensor  # (k, k)
    locked: Block
    tau: float = 0.0
    solve: Solve | None = None
    steps: int = 0
    factorisations: int = 0
    restarts: int = 0
    found: list[RawDirection] = field(default_factory=list)


def solve_subspace(
    space: Space,
    eps: float,
    n_directions: int,
    *,
    tolerance: float = 1e-6,
    seed: int = 0,
    stop_without_gain: bool = False,
    effort: Effort | None = None,
) -> RawSolution:
    """Find directions one after the other in one subspace; every gap is proved by a factorisation.

    Gives what :func:`koda.discrepancy.dense.solve_dense` gives, to the proved gap.

    Args:
        space: the two forms.
        eps: limit on x'Bx.
        n_directions: at most this many.
        tolerance: proved relative gap that is good enough; 1e-8 is tried for first.
        seed: of the first random block.
        stop_without_gain: end at the first direction with a quotient of at most 1.
        effort: limits; the defaults suit a few thousand dimensions.
    """
    with one_thread() if space.dim <= _SMALL else nullcontext():
        return _solve(space, eps, n_directions, tolerance, seed, stop_without_gain, effort or Effort())


def _solve(
    space: Space,
    eps: float,
    n_directions: int,
    tolerance: float,
    seed: int,
    stop_without_gain: bool,
    effort: Effort,
) -> RawSolution:
    generator = torch.Generator().manual_seed(seed)
    state = _start(space, eps, effort, generator)
    ending, lambda_min = "", None
    multiplier: float | None = None
    while len(state.found) < n_directions:
        if state.locked.size >= space.dim:
            ending = "exhausted"
            break
        one, bound, proved = _direction(space, state, eps, tolerance, multiplier, generator, effort)
        if not one.feasible:
            ending, lambda_min = "infeasible", one.reference
            break
        if stop_without_gain and one.target <= one.reference * (1 + NO_GAIN):
            ending = "no discrepancy"
            break
        multiplier = one.multiplier or None
        _lock(space, state, one, bound, proved, tolerance)
    details = {"factorisations": state.factorisations, "restarts": state.restarts, "basis": state.basis.size}
    return RawSolution(tuple(state.found), ending, lambda_min, state.steps, details)


def _start(space: Space, eps: float, effort: Effort, generator: torch.Generator) -> _State:
    """Begin with the range of A, seen through (B + eps I)^-1: where A is large and B is small."""
    none = space.empty()
    empty = torch.empty(0, 0, dtype=torch.float64)
    state = _State(none, empty, empty, none, tau=eps, solve=space.inverse(eps), factorisations=1)
    assert state.solve is not None
    raw = space.apply_target(space.random(effort.start, generator))
    _grow(space, state, state.solve(raw))
    return state


def _grow(space: Space, state: _State, raw: torch.Tensor) -> int:
    """Add what the vectors bring to the basis; return how many they were."""
    new = space.extend(raw, [state.locked, state.basis])
    if new.size == 0:
        return 0
    cross = space.forms(state.basis, new)
    inner = space.forms(new, new)
    state.a, state.b = (
        torch.cat([torch.cat([old, side], 1), torch.cat([side.T, (corner + corner.T) / 2], 1)])
        for old, side, corner in zip((state.a, state.b), cross, inner, strict=True)
    )
    state.basis = state.basis.join(new)
    state.steps += 1
    return new.size


def _turn(state: _State, c: torch.Tensor) -> None:
    """Replace the basis by the combinations c (k, m), orthonormal."""
    state.basis = state.basis.mix(c)
    state.a, state.b = ((m + m.T) / 2 for m in (c.T @ state.a @ c, c.T @ state.b @ c))


def _direction(
    space: Space,
    state: _State,
    eps: float,
    tolerance: float,
    start: float | None,
    generator: torch.Generator,
    effort: Effort,
) -> tuple[Single, float, bool]:
    """Return the next direction in the basis, its proved upper bound, and whether that was proved at all."""
    shifted: Solve | None = None  # the inverse just above the spectrum, from a proof that had to be raised
    uses = proofs = down = 0
    wanted = effort.residual
    best_bound = float("inf")
    last_step = state.steps + effort.steps
    stuck = False
    while True:
        if state.basis.size == 0:
            _grow(space, state, space.random(effort.block, generator))
        one = solve_single(state.a, state.b, eps, start=start, accuracy=_ROUGH)
        whole = state.locked.size + state.basis.size >= space.dim
        if not one.feasible:
            start = None
            final = whole or stuck or state.steps >= last_step
            empty = _prove_infeasible(space, state, eps) if final or down in (2, 6, 18, 54) else False
            down += 1
            if empty or final:
                return one, float("-inf"), empty
            stuck = not _expand_down(space, state, eps, one, generator, effort)
            continue
        start = one.multiplier or None
        m = min(effort.block, state.basis.size)
        y = one.vectors[:, -m:].flip(1)  # (k, m)
        values = one.values[-m:].flip(0)  # (m,)
        ritz = state.basis.mix(y)
        raw = space.residual(ritz, values, 1.0, one.multiplier, state.locked)
        weight = (y.T @ one.y).abs()  # which of them the solution is made of
        size = float((space.norms(raw) * weight).norm())
        value = max(one.target, 1e-300)
        done = size <= wanted * value or whole or stuck or state.steps >= last_step
        if (done and uses == 0) or (uses >= 2):
            goals = (min(tolerance, TIGHT), 1e-5, 1e-3, 1e-1, 10.0, 1e4)
            for goal in goals:
                mu = one.top + goal * value / 2
                proof = space.certify(1.0, mu, one.multiplier, state.locked)
                proofs += 1
                state.factorisations += 1
                if proof.holds:
                    best_bound = min(best_bound, proof.bound + one.multiplier * eps)
                    shifted, uses = proof.solve, 0
                    break
            final = whole or stuck or state.steps >= last_step or proofs >= effort.proofs
            if proof.holds and goal == goals[0]:
                return _polish(space, state, one, eps, proof.solve), best_bound, True
            if final:
                return one, best_bound, best_bound < float("inf")
            wanted *= 0.1
            # random vectors too: a direction that the basis misses altogether has no residual
            raw = torch.cat([raw, space.random(2, generator)], 1)
        _make_room(state, one, effort)
        if shifted is not None:
            grown = _grow(space, state, shifted(raw))
            uses += 1
        else:
            grown = _grow(space, state, _precondition(space, state, one, eps, raw))
        if grown == 0:
            stuck = _grow(space, state, space.random(effort.block, generator)) == 0


def _polish(space: Space, state: _State, one: Single, eps: float, solve: Solve | None) -> Single:
    """Sharpen a proved direction by the inverse just above the spectrum, so that those after it are right too.

    The objective is second order in the error of x, but the problem of the next direction is first order.
    """
    for _ in range(3):
        if solve is None or state.locked.size + state.basis.size >= space.dim:
            break
        m = min(4, state.basis.size)
        ritz = state.basis.mix(one.vectors[:, -m:])
        raw = space.residual(ritz, one.values[-m:], 1.0, one.multiplier, state.locked)
        weight = (one.vectors[:, -m:].T @ one.y).abs()
        if float((space.norms(raw) * weight).norm()) <= _POLISHED * one.target or _grow(space, state, solve(raw)) == 0:
            break
        one = solve_single(state.a, state.b, eps, start=one.multiplier or None)
    return one


def _precondition(space: Space, state: _State, one: Single, eps: float, raw: torch.Tensor) -> torch.Tensor:
    """Apply (B + tau I)^-1 at tau = mu / lambda, refactoring where tau has moved more than fourfold."""
    if one.multiplier == 0:
        return raw
    tau = max(one.top / one.multiplier, eps / 8)
    if state.solve is None or not state.tau / 4 <= tau <= state.tau * 4:
        state.tau, state.solve = tau, space.inverse(tau)
        state.factorisations += 1
    return state.solve(raw)


def _expand_down(
    space: Space, state: _State, eps: float, one: Single, generator: torch.Generator, effort: Effort
) -> bool:
    """Grow the basis towards the smallest reference energies, by inverse iteration at tau = eps."""
    m = min(effort.block, state.basis.size)
    ritz = state.basis.mix(one.vectors[:, :m])
    raw = space.residual(ritz, -one.values[:m], 0.0, 1.0, state.locked)
    if state.solve is None or not eps / 4 <= state.tau <= eps * 4:
        state.tau, state.solve = eps, space.inverse(eps)
        state.factorisations += 1
    if state.basis.size + m > effort.most:
        _turn(state, one.vectors[:, : effort.kept])
        state.restarts += 1
    grown = _grow(space, state, state.solve(raw))
    return grown > 0 or _grow(space, state, space.random(effort.block, generator)) > 0


def _prove_infeasible(space: Space, state: _State, eps: float) -> bool:
    """Try to prove that no x off the locked directions has x'Bx <= eps: lambda_max(-B) <= -eps."""
    state.factorisations += 1
    return space.certify(0.0, -eps, 1.0, state.locked).holds


def _make_room(state: _State, one: Single, effort: Effort) -> None:
    """Restart thick: keep the leading Ritz vectors and the solution itself."""
    if state.basis.size + effort.block + 2 <= effort.most:
        return
    kept = one.vectors[:, -effort.kept :]
    rest = one.y - kept @ (kept.T @ one.y)
    if float(rest.norm()) > 1e-8:
        kept = torch.linalg.qr(torch.cat([kept, rest[:, None]], 1)).Q
    _turn(state, kept)
    state.restarts += 1


def _lock(space: Space, state: _State, one: Single, bound: float, proved: bool, tolerance: float) -> None:
    """Move the solution from the basis to the locked directions."""
    u = state.basis.mix(one.y[:, None])
    raw = RawDirection(
        x=u.w[:, 0].cpu().numpy(),
        target_energy=one.target,
        reference_energy=one.reference,
        multiplier=one.multiplier,
        upper=bound,
        status=INACTIVE if one.inactive else OPTIMAL,
    )
    if not proved or raw.gap > tolerance:
        words = f"within {raw.gap:.1e} of the optimum" if proved else "no bound could be proved"
        raw = RawDirection(
            raw.x,
            raw.target_energy,
            raw.reference_energy,
            raw.multiplier,
            raw.upper,
            f"inexact: {words}, not within the tolerance {tolerance:g}; "
            "raise the tolerance, or the limit on the reference",
        )
    state.found.append(raw)
    state.locked = state.locked.join(u)
    if state.basis.size > 1:
        _turn(state, complement(one.y))
    else:
        state.basis = Block(*(m[:, :0] for m in (u.w, u.aw, u.bw)))
        state.a = state.b = torch.empty(0, 0, dtype=torch.float64)
