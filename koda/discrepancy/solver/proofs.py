"""Proofs of the gaps of several directions: which factorisations to make, and what each of them shows.

One factorisation proves the gaps of a group of directions (see :mod:`koda.discrepancy.solver.bounds`). Which group, and
over which basis, is foreseen from the small matrices, so that few factorisations fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from koda.discrepancy.solver.bounds import Coupling, coupled_bound, is_bound
from koda.discrepancy.solver.direction import DirectionOptimum
from koda.discrepancy.solver.outcome import relative_gap
from koda.discrepancy.solver.space import Solve, Space, Squares
from koda.discrepancy.solver.state import SolverRequest, State

_CEILINGS = (1e-5, 1e-3, 1e-1, 10.0, 1e4)  # heights over the Ritz value, in target energies, at which a proof is tried
_SEPARATIONS = (0.003, 0.02, 0.1, 0.3)  # how far a ceiling lies under the Ritz values of the group, relative
_ROOM = 0.05  # least room of a proof for several directions: Ritz values off its basis are too low
_COMPANIONS = (0, 4, 12, 24)  # further Ritz vectors that a proof may take into its basis


@dataclass
class Candidate:
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
        return relative_gap(self.optimum.target, self.bound)


@dataclass(frozen=True)
class Plan:
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


@dataclass(frozen=True)
class Proofs:
    """The proofs in one subspace: what they are over, and the candidates whose bounds they lower.

    Args:
        space: the two forms.
        state: the subspace; nothing but its number of factorisations is changed.
        request: what is asked.
        candidates: all directions, in order.
        squares: inner products of the images of the basis.
    """

    space: Space
    state: State
    request: SolverRequest
    candidates: list[Candidate]
    squares: Squares

    def plans(self, group: Sequence[int]) -> list[tuple[list[int], Plan]]:
        """Return factorisations that should prove the gaps of the group, as few as will do; some may have none."""
        if not group:
            return []
        plan = self._plan(group)
        if plan is not None:
            return [(list(group), plan)]
        if len(group) == 1:
            return []
        return [part for half in self._halves(group) for part in self.plans(half)]

    def settle(self, group: list[int], plan: Plan) -> list[int]:
        """Prove the gaps of a group, by parts where the whole cannot be; return the directions that are left."""
        if self._prove(group, plan):
            return []
        if len(group) == 1:
            return group
        left: list[int] = []
        for half in self._halves(group):
            parts = self.plans(half)
            left += [k for k in half if not any(k in part for part, _ in parts)]
            for part, smaller in parts:
                left += self.settle(part, smaller)
        return left

    def climb(self, k: int) -> Solve | None:
        """Raise the ceiling of one direction until it is proved; return the shifted inverse just over the spectrum."""
        optimum = self.candidates[k].optimum
        directions = torch.stack([c.vector for c in self.candidates[: k + 1]], 1)
        for goal in _CEILINGS:
            plan = Plan(directions, optimum.multiplier, optimum.top + goal * optimum.target, 0.0)
            certificate = self.space.certify(1.0, plan.mu, plan.multiplier, self.state.basis.mix(directions))
            self.state.factorisations += 1
            if certificate.holds:
                bounds = self._bounds([k], plan, certificate.bound)
                self.candidates[k].bound = min(self.candidates[k].bound, bounds[k])
                return certificate.solve
        return None

    def _plan(self, group: Sequence[int]) -> Plan | None:
        """Choose basis, multiplier and ceiling: of those that would prove the gaps, the one most likely to hold."""
        candidates, state, tolerance = self.candidates, self.state, self.request.tolerance
        multiplier = min(candidates[k].optimum.multiplier for k in group)
        least = min(candidates[k].optimum.top for k in group)
        value = min(candidates[k].optimum.target for k in group)
        # those before a direction must be in the basis; those after it are no eigenvectors at its multiplier
        directions = torch.stack([c.vector for c in candidates[: max(group) + 1]], 1)  # (k, t)
        # with the images under B in the basis, a direction does not couple to the rest at another's multiplier
        for frame in (_with_images(directions, state.b), directions):
            rest = torch.linalg.qr(frame, mode="complete").Q[:, frame.shape[1] :]  # (k, k - t')
            values, vectors = torch.linalg.eigh(rest.T @ (state.a - multiplier * state.b) @ rest)
            best: Plan | None = None
            for companions in (*_COMPANIONS, len(values)) if state.whole else _COMPANIONS:
                if companions > len(values):
                    continue
                keep = len(values) - companions
                under = float(values[keep - 1]) if keep else -float("inf")
                chosen = torch.cat([frame, rest @ vectors[:, keep:]], 1)
                would_do = self._foresight(group, chosen, 0.7 * tolerance)
                mus = [least * (1 - s) for s in _SEPARATIONS if least > 0]
                for mu in [*mus, least + 0.3 * tolerance * value]:
                    room = (mu - under) / max(abs(least), 1e-300)
                    if room <= (_ROOM if len(group) > 1 else 1e-7) or (best is not None and room <= best.room):
                        continue
                    if would_do(mu):
                        best = Plan(chosen, multiplier, mu, room)
                        break  # the separations further on leave less room
            if best is not None:
                return best
        return None

    def _prove(self, group: Sequence[int], plan: Plan) -> bool:
        """Carry a plan out; on success set the bounds of its group."""
        certificate = self.space.certify(1.0, plan.mu, plan.multiplier, self.state.basis.mix(plan.vectors))
        self.state.factorisations += 1
        if not certificate.holds:
            return False
        for k, bound in self._bounds(group, plan, certificate.bound).items():
            self.candidates[k].bound = min(self.candidates[k].bound, bound)
        return True

    def _bounds(self, group: Sequence[int], plan: Plan, mu: float) -> dict[int, float]:
        """Return the bound of each direction's optimum, if the plan's ceiling holds at mu."""
        bounds = {}
        for k, m, e in self._coupled(group, plan.vectors):
            optimum = self.candidates[k].optimum
            bounds[k] = coupled_bound(m, e, mu) + optimum.multiplier * self.request.allowance(optimum)
        return bounds

    def _foresight(self, group: Sequence[int], vectors: torch.Tensor, wanted: float) -> Callable[[float], bool]:
        """Return a test whether a ceiling mu off the vectors would prove all gaps of the group to what is wanted."""
        parts = []
        for k, m, e in self._coupled(group, vectors):
            optimum = self.candidates[k].optimum
            value = optimum.target * (1 + wanted) - optimum.multiplier * self.request.allowance(optimum)
            parts.append((value, m, e))

        def would_do(mu: float) -> bool:
            return all(is_bound(value, m, e, mu) for value, m, e in parts)

        return would_do

    def _coupled(self, group: Sequence[int], vectors: torch.Tensor) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """Yield of each direction its number, A - lambda B on the vectors less those before it, and the coupling."""
        a, b = (vectors.T @ m @ vectors for m in (self.state.a, self.state.b))
        squares = self.squares
        images = Squares(*(vectors.T @ m @ vectors for m in (squares.aa, squares.ab, squares.bb)))
        coupling = Coupling.of(images, a, b)
        for k in group:
            multiplier = self.candidates[k].optimum.multiplier
            m = (a - multiplier * b)[k:, k:]  # the directions come first, in their order
            yield k, (m + m.T) / 2, coupling.at(multiplier)[k:, k:]

    def _halves(self, group: Sequence[int]) -> tuple[list[int], list[int]]:
        """Split a group into the directions of smaller and of larger multiplier."""
        ordered = sorted(group, key=lambda k: self.candidates[k].optimum.multiplier)
        return ordered[: len(ordered) // 2], ordered[len(ordered) // 2 :]


def _with_images(directions: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the directions (k, t) with an orthonormal basis of what their images under B add to them."""
    images = b @ directions
    images = images / images.norm(dim=0).clamp_min(1e-300)
    for _ in range(2):
        images = images - directions @ (directions.T @ images)
    q, r = torch.linalg.qr(images)
    return torch.cat([directions, q[:, r.diagonal().abs() > 1e-8]], 1)
