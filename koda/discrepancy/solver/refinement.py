"""The end of a search: all directions solved again in the whole subspace, with proved gaps.

Solved one after the other while the subspace grew, each direction is right for its own moment. Solved again in
the final subspace, all of them are the exact answer there. What the subspace misses is bounded by
:mod:`koda.discrepancy.solver.bounds`; where a gap is too wide the subspace grows by the residuals, and where
something of weight lies off it, the shifted inverse of a higher bound finds that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import torch

from koda.discrepancy.solver.bounds import Coupling, coupled_bound, is_bound
from koda.discrepancy.solver.direction import DirectionOptimum
from koda.discrepancy.solver.numerics import complement
from koda.discrepancy.solver.outcome import INACTIVE, OPTIMAL, RawDirection
from koda.discrepancy.solver.space import Block, Solve, Space, Squares
from koda.discrepancy.solver.state import Effort, SolverRequest, State, grow, grow_at_random, precondition, shift_of

_ROUNDS = 10
_LADDER = (1e-5, 1e-3, 1e-1, 10.0, 1e4)  # of the value, over the Ritz value
_SEPARATIONS = (0.003, 0.02, 0.1, 0.3)  # of the ceiling from the Ritz values, relative
_ROOM = 0.05  # least room of a proof for several directions: Ritz values off its basis are too low
_COMPANIONS = (0, 4, 12, 24)  # further Ritz vectors that a proof may take into its basis


@dataclass(frozen=True)
class Refined:
    """A direction with its proof, and whether the target ties it together more than the reference does."""

    direction: RawDirection
    gains: bool


@dataclass
class _Candidate:
    """A direction as the whole subspace has it.

    Args:
        optimum: the small solution, in the coordinates of ``basis``.
        basis: (k, m) orthonormal complement of the directions before.
        vector: (k,) the direction.
        bound: of the optimum, proved.
    """

    optimum: DirectionOptimum
    basis: torch.Tensor
    vector: torch.Tensor
    bound: float = float("inf")

    @property
    def gap(self) -> float:
        """Relative gap that is proved."""
        return self.gap_of(self.bound)

    def gap_of(self, bound: float) -> float:
        """Relative gap that a bound would prove."""
        if self.optimum.target <= 0:
            return 0.0 if bound <= 0 else float("inf")
        return max(0.0, (bound - self.optimum.target) / self.optimum.target)


@dataclass(frozen=True)
class _Plan:
    """A factorisation that is to prove the gaps of a group of directions.

    Args:
        vectors: (k, t + j), the directions and some companions: the basis of the bound.
        multiplier: lambda_0.
        mu: the ceiling off that basis.
        room: how far the ceiling lies over the Ritz values that it must hold down, relative.
    """

    vectors: torch.Tensor
    multiplier: float
    mu: float
    room: float


def refine(
    space: Space, state: State, request: SolverRequest, generator: torch.Generator, effort: Effort
) -> tuple[list[Refined], Block]:
    """Solve the locked directions again in the whole subspace until each gap is proved to the tolerance.

    The state is unlocked: its basis becomes the whole subspace.

    Returns:
        the directions, with the gap that could be proved, and the subspace.
    """
    count = len(state.multipliers)
    state.basis, state.locked = state.locked.join(state.basis), space.empty()
    if count == 0:
        return [], state.basis
    state.a, state.b = ((m + m.T) / 2 for m in space.project(state.basis, state.basis))
    allowed = state.factorisations + effort.proofs
    attempt = 0
    while True:
        attempt += 1
        candidates = _resolve(state, request, count)
        if attempt == 1 and not state.whole:  # the directions before bear on each one: sharpen them all
            _widen(space, state, candidates, None, request, generator, effort, images=True)
            continue
        if state.whole and space.spans:
            for c in candidates:
                c.bound = c.optimum.upper
            break
        if not request.prove:
            break
        last = attempt >= _ROUNDS or state.whole
        squares = space.squares(state.basis)
        plans = _plans(state, squares, candidates, range(len(candidates)), request)
        wide = [k for k in range(len(candidates)) if not any(k in group for group, _ in plans)]
        shifted: Solve | None = None
        if not wide or last:
            for group, plan in plans:
                wide += _settle(space, state, squares, candidates, group, plan, request)
            for k in wide:
                if state.factorisations >= allowed or (shifted is not None and not last):
                    break
                shifted = _climb(space, state, squares, candidates, k, request)
        wide = [k for k in wide if candidates[k].gap > request.tolerance]
        if not wide or last or state.factorisations >= allowed:
            break
        _widen(space, state, [candidates[k] for k in wide], shifted, request, generator, effort)
    return [_refined(state, c, request) for c in candidates], state.basis


def _resolve(state: State, request: SolverRequest, count: int) -> list[_Candidate]:
    """Solve the directions one after the other in the subspace, each orthogonal to those before."""
    basis = torch.eye(state.basis.size, dtype=torch.float64)  # (k, k - found)
    found: list[_Candidate] = []
    for k in range(min(count, state.basis.size)):
        a, b = (basis.T @ m @ basis for m in (state.a, state.b))
        optimum = request.solve((a + a.T) / 2, (b + b.T) / 2, state.multipliers[k] or None)
        if not optimum.feasible:
            break
        state.multipliers[k] = optimum.multiplier
        found.append(_Candidate(optimum, basis, basis @ optimum.y))
        if basis.shape[1] > 1:
            basis = basis @ complement(optimum.y)
    return found


def _plans(
    state: State, squares: Squares, candidates: list[_Candidate], group: Sequence[int], request: SolverRequest
) -> list[tuple[list[int], _Plan]]:
    """Return factorisations that should prove the gaps of the group, as few as will do; some may have none."""
    if not group:
        return []
    plan = _plan(state, squares, candidates, group, request)
    if plan is not None:
        return [(list(group), plan)]
    if len(group) == 1:
        return []
    return [found for half in _halves(candidates, group) for found in _plans(state, squares, candidates, half, request)]


def _plan(
    state: State, squares: Squares, candidates: list[_Candidate], group: Sequence[int], request: SolverRequest
) -> _Plan | None:
    """Choose basis, multiplier and ceiling: of those that would prove the gaps, the one most likely to hold."""
    multiplier = min(candidates[k].optimum.multiplier for k in group)
    least = min(candidates[k].optimum.top for k in group)
    value = min(candidates[k].optimum.target for k in group)
    # those before a direction must be in the basis; those after it are no eigenvectors at its multiplier
    directions = torch.stack([c.vector for c in candidates[: max(group) + 1]], 1)  # (k, t)
    # with the images under B in the basis, a direction does not couple to the rest at another's multiplier
    for frame in (_with_images(directions, state.b), directions):
        rest = torch.linalg.qr(frame, mode="complete").Q[:, frame.shape[1] :]  # (k, k - t')
        values, vectors = torch.linalg.eigh(rest.T @ (state.a - multiplier * state.b) @ rest)
        best: _Plan | None = None
        for companions in (*_COMPANIONS, len(values)) if state.whole else _COMPANIONS:
            if companions > len(values):
                continue
            keep = len(values) - companions
            under = float(values[keep - 1]) if keep else -float("inf")
            chosen = torch.cat([frame, rest @ vectors[:, keep:]], 1)
            would_do = _foresight(state, squares, candidates, group, chosen, 0.7 * request.tolerance, request)
            mus = [least * (1 - s) for s in _SEPARATIONS if least > 0]
            for mu in [*mus, least + 0.3 * request.tolerance * value]:
                room = (mu - under) / max(abs(least), 1e-300)
                if room <= (_ROOM if len(group) > 1 else 1e-7) or (best is not None and room <= best.room):
                    continue
                if would_do(mu):
                    best = _Plan(chosen, multiplier, mu, room)
                    break  # the separations further on leave less room
        if best is not None:
            return best
    return None


def _with_images(directions: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the directions (k, t) with an orthonormal basis of what their images under B add to them."""
    images = b @ directions
    images = images / images.norm(dim=0).clamp_min(1e-300)
    for _ in range(2):
        images = images - directions @ (directions.T @ images)
    q, r = torch.linalg.qr(images)
    return torch.cat([directions, q[:, r.diagonal().abs() > 1e-8]], 1)


def _bounds(
    state: State,
    squares: Squares,
    candidates: list[_Candidate],
    group: Sequence[int],
    plan: _Plan,
    mu: float,
    request: SolverRequest,
) -> dict[int, float]:
    """Return the bound of each direction's optimum, if the plan's ceiling holds at mu."""
    bounds = {}
    for k, m, e in _coupled(state, squares, candidates, group, plan.vectors):
        optimum = candidates[k].optimum
        bounds[k] = coupled_bound(m, e, mu) + optimum.multiplier * request.allowance(optimum)
    return bounds


def _foresight(
    state: State,
    squares: Squares,
    candidates: list[_Candidate],
    group: Sequence[int],
    vectors: torch.Tensor,
    wanted: float,
    request: SolverRequest,
) -> Callable[[float], bool]:
    """Return a test whether a ceiling mu off the vectors would prove all gaps of the group to what is wanted."""
    parts = []
    for k, m, e in _coupled(state, squares, candidates, group, vectors):
        optimum = candidates[k].optimum
        parts.append((optimum.target * (1 + wanted) - optimum.multiplier * request.allowance(optimum), m, e))

    def would_do(mu: float) -> bool:
        return all(is_bound(value, m, e, mu) for value, m, e in parts)

    return would_do


def _coupled(
    state: State, squares: Squares, candidates: list[_Candidate], group: Sequence[int], vectors: torch.Tensor
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Yield each direction's number, and A - lambda B on the vectors, less the directions before, with its coupling."""
    a, b = (vectors.T @ m @ vectors for m in (state.a, state.b))
    images = Squares(*(vectors.T @ m @ vectors for m in (squares.aa, squares.ab, squares.bb)))
    coupling = Coupling.of(images, a, b)
    for k in group:
        multiplier = candidates[k].optimum.multiplier
        m = (a - multiplier * b)[k:, k:]  # the directions come first, in their order
        yield k, (m + m.T) / 2, coupling.at(multiplier)[k:, k:]


def _settle(
    space: Space,
    state: State,
    squares: Squares,
    candidates: list[_Candidate],
    group: list[int],
    plan: _Plan,
    request: SolverRequest,
) -> list[int]:
    """Prove the gaps of a group, by parts where the whole cannot be; return the directions that are left."""
    if _prove(space, state, squares, candidates, group, plan, request):
        return []
    if len(group) == 1:
        return group
    left: list[int] = []
    for half in _halves(candidates, group):
        parts = _plans(state, squares, candidates, half, request)
        left += [k for k in half if not any(k in part for part, _ in parts)]
        for part, smaller in parts:
            left += _settle(space, state, squares, candidates, part, smaller, request)
    return left


def _halves(candidates: list[_Candidate], group: Sequence[int]) -> tuple[list[int], list[int]]:
    """Split a group into the directions of smaller and of larger multiplier."""
    ordered = sorted(group, key=lambda k: candidates[k].optimum.multiplier)
    return ordered[: len(ordered) // 2], ordered[len(ordered) // 2 :]


def _prove(
    space: Space,
    state: State,
    squares: Squares,
    candidates: list[_Candidate],
    group: Sequence[int],
    plan: _Plan,
    request: SolverRequest,
) -> bool:
    """Carry a plan out; on success set the bounds of its group."""
    certificate = space.certify(1.0, plan.mu, plan.multiplier, state.basis.mix(plan.vectors))
    state.factorisations += 1
    if not certificate.holds:
        return False
    for k, bound in _bounds(state, squares, candidates, group, plan, certificate.bound, request).items():
        candidates[k].bound = min(candidates[k].bound, bound)
    return True


def _climb(
    space: Space, state: State, squares: Squares, candidates: list[_Candidate], k: int, request: SolverRequest
) -> Solve | None:
    """Raise the ceiling of one direction until it is proved; return the shifted inverse just over the spectrum."""
    optimum = candidates[k].optimum
    directions = torch.stack([c.vector for c in candidates[: k + 1]], 1)
    for goal in _LADDER:
        plan = _Plan(directions, optimum.multiplier, optimum.top + goal * optimum.target, 0.0)
        certificate = space.certify(1.0, plan.mu, plan.multiplier, state.basis.mix(directions))
        state.factorisations += 1
        if certificate.holds:
            bounds = _bounds(state, squares, candidates, [k], plan, certificate.bound, request)
            candidates[k].bound = min(candidates[k].bound, bounds[k])
            return certificate.solve
    return None


def _widen(
    space: Space,
    state: State,
    wide: list[_Candidate],
    shifted: Solve | None,
    request: SolverRequest,
    generator: torch.Generator,
    effort: Effort,
    *,
    images: bool = False,
) -> None:
    """Add the residuals of the directions whose gaps are too wide, and their images under B if asked to."""
    each = max(2, 2 * effort.block // len(wide))
    vectors = torch.cat([c.basis @ c.optimum.vectors[:, -each:] for c in wide], 1)  # (k, m)
    values = torch.cat([c.optimum.values[-each:] for c in wide])
    multipliers = torch.cat([torch.full((len(c.optimum.values[-each:]),), c.optimum.multiplier) for c in wide])
    raw = space.residual(state.basis.mix(vectors), values, 1.0, multipliers.double(), state.basis)
    if shifted is None:
        raw = precondition(space, state, median(shift_of(c.optimum, request) for c in wide), raw)
    else:  # something of weight is missing altogether
        raw = shifted(torch.cat([raw, space.random(effort.block, generator)], 1))
    if images:
        directions = state.basis.mix(torch.stack([c.vector for c in wide], 1))
        nothing = torch.zeros(len(wide), dtype=torch.float64)
        raw = torch.cat([raw, space.residual(directions, nothing, 0.0, -1.0, state.basis)], 1)
    if grow(space, state, raw) == 0:
        grow_at_random(space, state, generator, effort)


def _refined(state: State, c: _Candidate, request: SolverRequest) -> Refined:
    """Make the direction and its status out of what was proved."""
    direction = RawDirection(
        x=state.basis.mix(c.vector[:, None]).w[:, 0].cpu().numpy(),
        target_energy=c.optimum.target,
        reference_energy=c.optimum.reference,
        multiplier=c.optimum.multiplier,
        upper=c.bound,
        status=INACTIVE if c.optimum.inactive else OPTIMAL,
    )
    if not direction.gap <= request.tolerance:
        words = (
            f"within {direction.gap:.1e} of the optimum" if direction.gap < float("inf") else "no bound could be proved"
        )
        status = "inexact: no proof was asked for"
        if request.prove:
            status = (
                f"inexact: {words}, not within the tolerance {request.tolerance:g}; "
                "raise the tolerance, or the limit on the reference"
            )
        direction = RawDirection(**{**vars(direction), "status": status})
    return Refined(direction, not request.no_gain(c.optimum))
