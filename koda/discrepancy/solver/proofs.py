"""Proofs of the gaps of several directions: which factorisations to make, and what each of them shows.

One factorisation proves the gaps of a group of directions (see :mod:`koda.discrepancy.solver.bounds`): it shows that
``A - lambda_0 B`` is at most a ceiling off a part of the subspace, mostly off all of it. How high the ceiling may be
follows from the small matrices, and whether it is likely to hold from the Ritz values that it must be over, so that few
factorisations fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from koda.discrepancy.solver.bounds import Coupling, coupled_bound, highest_ceiling
from koda.discrepancy.solver.direction import DirectionOptimum
from koda.discrepancy.solver.numerics import one_thread
from koda.discrepancy.solver.outcome import relative_gap
from koda.discrepancy.solver.space import Solve, Space, Squares
from koda.discrepancy.solver.state import SolverRequest, State

_CEILINGS = (1e-5, 1e-3, 1e-1, 10.0, 1e4)  # heights over the Ritz value, in target energies, at which a proof is tried
_ROOM = 0.05  # least room of a proof for several directions: Ritz values off its frame are too low
_COMPANIONS = (0, 4, 12, 24)  # further Ritz vectors that a proof may take into its frame
_FOUND = 24  # Ritz values beside the directions that are about right
_WANTED = 0.7  # of the tolerance, which a proof is planned for


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
class Frame:
    """A part of the subspace, and the small forms over it.

    Args:
        vectors: (k, m) orthonormal; the directions come first, in their order.
        a, b: (m, m) the forms.
        coupling: what couples it to the rest of the space.
    """

    vectors: torch.Tensor
    a: torch.Tensor
    b: torch.Tensor
    coupling: Coupling

    def at(self, k: int, multiplier: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return A - lambda B off the directions before the k-th, and the square of its coupling."""
        m = (self.a - multiplier * self.b)[k:, k:]
        return (m + m.T) / 2, self.coupling.at(multiplier)[k:, k:]


@dataclass(frozen=True)
class Plan:
    """A factorisation that is to prove the gaps of a group of directions.

    Args:
        frame: what the ceiling holds off.
        multiplier: lambda_0, the least of the group.
        mu: the ceiling of A - lambda_0 B.
    """

    frame: Frame
    multiplier: float
    mu: float


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
        basis = self.state.basis
        certificate = self.space.certify_off(plan.mu, plan.multiplier, basis.mix(plan.frame.vectors), basis)
        self.state.factorisations += 1
        if certificate.holds:
            for k in group:
                self._bound(k, plan.frame, certificate.bound)
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
            mu = optimum.top + goal * optimum.target
            certificate = self.space.certify(1.0, mu, optimum.multiplier, self.state.basis.mix(directions))
            self.state.factorisations += 1
            if certificate.holds:
                self._bound(k, self._frame(directions), certificate.bound)
                return certificate.solve
        return None

    def _plan(self, group: Sequence[int]) -> Plan | None:
        """Return the proof of the gaps of a group that is the most likely to hold; None where none is."""
        multiplier = min(self.candidates[k].optimum.multiplier for k in group)
        least = _ROOM if len(group) > 1 else 1e-7
        best: tuple[float, Plan] | None = None
        for vectors, under in self._frames(group, multiplier):
            frame = self._frame(vectors)
            mu = self._ceiling(group, frame)
            room = (mu - under) / max(abs(mu), 1e-300)
            if room > least and (best is None or room > best[0]):
                best = room, Plan(frame, multiplier, mu)
            if best is not None and vectors.shape[0] == vectors.shape[1]:
                break  # off the whole subspace: what remains is the least there can be
        return best[1] if best is not None else None

    def _frames(self, group: Sequence[int], multiplier: float) -> Iterator[tuple[torch.Tensor, float]]:
        """Yield frames, the whole subspace first, and the largest Ritz value of A - lambda_0 B off each of them."""
        state = self.state
        # those before a direction must be in the frame; those after it are no eigenvectors at its multiplier
        directions = torch.stack([c.vector for c in self.candidates[: max(group) + 1]], 1)  # (k, t)
        whole = torch.linalg.qr(directions, mode="complete").Q
        whole[:, : directions.shape[1]] = directions
        values = torch.linalg.eigvalsh(state.a - multiplier * state.b)
        found = len(self.candidates) + _FOUND
        # what lies off the subspace is not known: about what is in it after the Ritz values that are right
        yield whole, -float("inf") if state.whole or len(values) <= found else float(values[-found])
        # with the images under B in the frame, a direction does not couple to the rest at another's multiplier
        for start in (_with_images(directions, state.b), directions):
            rest = torch.linalg.qr(start, mode="complete").Q[:, start.shape[1] :]  # (k, k - t')
            values, vectors = torch.linalg.eigh(rest.T @ (state.a - multiplier * state.b) @ rest)
            for companions in _COMPANIONS:
                if companions < len(values):
                    keep = len(values) - companions
                    yield torch.cat([start, rest @ vectors[:, keep:]], 1), float(values[keep - 1])

    def _ceiling(self, group: Sequence[int], frame: Frame) -> float:
        """Return the highest ceiling off the frame that would prove the gaps of a group."""
        ceilings = []
        with one_thread():
            for k in group:
                optimum = self.candidates[k].optimum
                value = optimum.target * (1 + _WANTED * self.request.tolerance)
                value -= optimum.multiplier * self.request.allowance(optimum)
                ceilings.append(highest_ceiling(value, *frame.at(k, optimum.multiplier)))
        return min(ceilings)

    def _bound(self, k: int, frame: Frame, mu: float) -> None:
        """Lower the bound of a direction to what a ceiling mu off the frame shows."""
        candidate = self.candidates[k]
        optimum = candidate.optimum
        with one_thread():
            top = coupled_bound(*frame.at(k, optimum.multiplier), mu)
        candidate.bound = min(candidate.bound, top + optimum.multiplier * self.request.allowance(optimum))

    def _frame(self, vectors: torch.Tensor) -> Frame:
        """Return the frame of orthonormal combinations of the basis."""
        a, b = (vectors.T @ m @ vectors for m in (self.state.a, self.state.b))
        squares = self.squares
        images = Squares(*(vectors.T @ m @ vectors for m in (squares.aa, squares.ab, squares.bb)))
        return Frame(vectors, a, b, Coupling.of(images, a, b))

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
