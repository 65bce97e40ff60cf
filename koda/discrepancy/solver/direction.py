"""One direction in a small space, solved exactly, and the small helpers of both solvers.

``max y'Ay`` subject to ``y'By <= eps``, ``||y|| = 1`` (paper 2606.04180, section 4). Strong duality holds, since the
joint numerical range of two quadratic forms on the sphere is convex: the convex ``d(lambda) = lambda_max(A - lambda B)
+ lambda eps`` has the optimum as its minimum over lambda >= 0, and ``d'(lambda) = eps - g(lambda)`` with g the
reference energy of the leading eigenvector. Where that eigenvalue is multiple, g jumps over eps and no single
eigenvector is optimal: two of them are combined.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from koda.discrepancy.limits import FixedWeight, SolverLimit
from koda.discrepancy.solver.numerics import UNIT, one_thread

_GAP = 1e-13  # relative gap at which the search for lambda stops
_MAX_EVALUATIONS = 200  # values of lambda that are tried for one direction
_GAIN_TOLERANCE = 1e-9  # a direction whose quotient exceeds 1 by no more is no discrepancy


@dataclass(frozen=True)
class DirectionOptimum:
    """The solution of one direction in a small space.

    Args:
        y: (k,) optimal vector, or the vector of least reference energy where ``feasible`` is false.
        target, reference: its two energies.
        multiplier: lambda of the best dual bound.
        top: lambda_max(A - lambda B) there.
        upper: the dual bound, rounding included.
        feasible, inactive: whether any x meets eps; whether eps does not bind.
        values, vectors: eigenvalues (k,), ascending, and eigenvectors (k, k) of A - lambda B
            (of B where infeasible).
        evaluations: eigendecompositions made.
    """

    y: torch.Tensor
    target: float
    reference: float
    multiplier: float
    top: float
    upper: float
    feasible: bool
    inactive: bool
    values: torch.Tensor
    vectors: torch.Tensor
    evaluations: int

    def gains(self, weight: float) -> bool:
        """Tell whether the target ties the direction together more than ``weight`` times what the reference does."""
        return not self.target <= weight * self.reference * (1 + _GAIN_TOLERANCE)


@dataclass(frozen=True)
class _Point:
    """The dual at one lambda: the least and the largest reference energy in the top eigenspace."""

    multiplier: float
    top: float
    bound: float
    noise: float
    least: float
    largest: float
    v_least: torch.Tensor
    v_largest: torch.Tensor
    partner: torch.Tensor
    slope: float
    values: torch.Tensor
    vectors: torch.Tensor


def solve_direction(
    a: torch.Tensor, b: torch.Tensor, limit: SolverLimit, *, start: float | None = None, accuracy: float = _GAP
) -> DirectionOptimum:
    """Solve one direction in a small space, on one thread: under a limit or with a fixed weight.

    See :func:`constrained_optimum` and :func:`weighted_optimum`.
    """
    with one_thread():
        if isinstance(limit, FixedWeight):
            return weighted_optimum(a, b, limit.eta)
        return constrained_optimum(a, b, limit.eps, start=start, accuracy=accuracy)


def constrained_optimum(
    a: torch.Tensor, b: torch.Tensor, eps: float, *, start: float | None = None, accuracy: float = _GAP
) -> DirectionOptimum:
    """Solve one direction exactly: ``max y'Ay``, ``y'By <= eps``, ``||y|| = 1``, for small (k, k) matrices.

    The minimum of the dual is bracketed and met by Newton steps on log g in log lambda, by the crossing of
    the tangents (exact where g jumps), and by bisection; the primal candidates are closed-form optima on
    planes: of the leading eigenvector and its derivative in lambda (its partner, near a crossing), and of the
    eigenvectors at the ends of the bracket. It stops where the two meet.

    Args:
        start: a multiplier to begin with, from a problem nearby.
        accuracy: relative gap at which to stop.
    """
    search = _SmallSearch(a, b, eps)
    low = high = None  # points with least > eps (lambda too small), and with largest <= eps
    if start is None:
        zero = search.at(0.0)
        if zero.least <= eps:
            return search.optimum(zero, zero.v_least, inactive=True)
        low = zero
        floor = search.floor()
        if floor.least >= eps - floor.noise:
            if floor.least > eps + floor.noise:
                return search.infeasible(floor)
            return search.on_the_edge(floor, search.at(1e6 * _scale(a, b)))
        start = _first_multiplier(zero, eps)
    best: _Point | None = None
    plane: Plane | None = None  # the best feasible one
    multiplier = start
    scale = _scale(a, b)
    for step in range(_MAX_EVALUATIONS):
        if multiplier < 1e-14 * scale:
            multiplier = 0.0
        point = search.at(multiplier)
        if best is None or point.bound < best.bound:
            best = point
        if multiplier == 0.0 and point.least <= eps:
            return search.optimum(point, point.v_least, inactive=True)
        planes = [(point.v_least, point.partner)]
        if point.least <= eps <= point.largest:
            planes = [(point.v_least, point.v_largest)]
        elif point.least > eps:
            low = point
        else:
            high = point
        if low is not None and high is not None:
            planes.append((high.v_least, low.v_largest))
        candidates = [planar_optimum(a, b, eps, p, q) for p, q in planes]
        for candidate in candidates:
            if candidate is not None and (plane is None or candidate.target > plane.target):
                plane = candidate
        if plane is not None and best.bound - plane.target <= accuracy * abs(plane.target) + best.noise:
            break
        if high is None and (multiplier > 1e18 * scale or step > 60):
            floor = search.floor()
            if floor.least > eps + floor.noise:
                return search.infeasible(floor)
            return search.on_the_edge(floor, best)
        if low is not None and high is not None and high.multiplier - low.multiplier <= 4 * UNIT * high.multiplier:
            break
        tangent = candidates[0].multiplier if candidates[0] is not None else math.nan
        multiplier = _next(low, high, point, eps, step, tangent)
    assert best is not None and plane is not None  # every exit of the loop has both
    return search.optimum(best, plane.y, inactive=False)


def weighted_optimum(a: torch.Tensor, b: torch.Tensor, eta: float) -> DirectionOptimum:
    """Return the leading eigenvector of A - eta B: optimal for the limit that is its own reference energy."""
    values, vectors = torch.linalg.eigh(a - eta * b)
    y = vectors[:, -1]
    reference = float(y @ b @ y)
    return DirectionOptimum(
        y=y,
        target=float(y @ a @ y),
        reference=reference,
        multiplier=eta,
        top=float(values[-1]),
        upper=float(values[-1]) + eta * reference + _noise(values),
        feasible=True,
        inactive=False,
        values=values,
        vectors=vectors,
        evaluations=1,
    )


@dataclass(frozen=True)
class Plane:
    """The optimum on a plane.

    Args:
        y: (k,) the vector.
        target: its target energy.
        multiplier: lambda at which it is stationary on the plane.
    """

    y: torch.Tensor
    target: float
    multiplier: float


def planar_optimum(a: torch.Tensor, b: torch.Tensor, eps: float, p: torch.Tensor, q: torch.Tensor) -> Plane | None:
    """Solve the direction problem on the plane of p (of norm 1) and q in closed form; None where infeasible.

    On the circle y = cos t p + sin t q' both energies are a mean plus a cosine of 2t, so that the optimum
    is the top of the target's cosine where that is feasible, and else one of the two points where the
    reference's equals eps.
    """
    q = q - p * (p @ q)
    q = q - p * (p @ q)
    norm = float(q.norm())
    if norm < 1e-15:
        return Plane(p, float(p @ a @ p), math.nan) if float(p @ b @ p) <= eps else None
    basis = torch.stack([p, q / norm], dim=1)  # (k, 2)
    a2, b2 = basis.T @ a @ basis, basis.T @ b @ basis  # (2, 2)

    def cosine(m: torch.Tensor) -> tuple[float, float, float]:
        c, s = float(m[0, 0] - m[1, 1]) / 2, float(m[0, 1] + m[1, 0]) / 2
        return float(m[0, 0] + m[1, 1]) / 2, math.hypot(c, s), math.atan2(s, c)

    mean_a, radius_a, phase_a = cosine(a2)
    mean_b, radius_b, phase_b = cosine(b2)
    if mean_b - radius_b > eps:
        return None
    angles = [phase_a]
    if mean_b + radius_b * math.cos(phase_a - phase_b) > eps:
        reach = math.acos(min(1.0, max(-1.0, (eps - mean_b) / radius_b))) if radius_b > 0 else 0.0
        angles = [phase_b + reach, phase_b - reach]
    best = max(angles, key=lambda angle: mean_a + radius_a * math.cos(angle - phase_a))
    y = basis @ torch.tensor([math.cos(best / 2), math.sin(best / 2)], dtype=a.dtype)
    y = y / y.norm()
    slope = radius_b * math.sin(best - phase_b)
    multiplier = radius_a * math.sin(best - phase_a) / slope if slope != 0 else math.nan
    return Plane(y, float(y @ a @ y), multiplier)


@dataclass(frozen=True)
class _Floor:
    """All eigenvalues of B (k,), ascending, with the eigenvectors (k, k): what can be feasible at all."""

    values: torch.Tensor
    vectors: torch.Tensor

    @property
    def least(self) -> float:
        """The smallest reference energy."""
        return float(self.values[0])

    @property
    def noise(self) -> float:
        """What rounding may move it by."""
        return _noise(self.values)


@dataclass
class _SmallSearch:
    """The two forms (k, k) and the limit of one small problem, and the eigendecompositions made for it so far."""

    a: torch.Tensor
    b: torch.Tensor
    eps: float
    evaluations: int = 0

    def at(self, multiplier: float) -> _Point:
        """Evaluate the dual at one lambda."""
        self.evaluations += 1
        values, vectors = torch.linalg.eigh(self.a - multiplier * self.b)
        top, noise = float(values[-1]), _noise(values)
        size = int((values >= top - 2 * noise).sum())
        v = vectors[:, -1]
        bv = vectors.T @ (self.b @ v)  # (k,)
        least = largest = float(bv[-1])
        v_least = v_largest = v
        if size > 1:
            space = vectors[:, -size:]  # (k, size)
            energies, mix = torch.linalg.eigh(space.T @ self.b @ space)
            least, largest = float(energies[0]), float(energies[-1])
            v_least, v_largest = space @ mix[:, 0], space @ mix[:, -1]
        gaps = (top - values[:-size]).clamp_min(1e-300)
        slope = -2 * float((bv[:-size] ** 2 / gaps).sum())  # of g, where the eigenvalue is simple
        partner = vectors[:, :-size] @ (bv[:-size] / gaps)  # along the derivative of the eigenvector
        partner = partner / partner.norm().clamp_min(1e-300)
        bound = top + multiplier * self.eps
        return _Point(
            multiplier, top, bound, noise, least, largest, v_least, v_largest, partner, slope, values, vectors
        )

    def floor(self) -> _Floor:
        """Return the spectrum of B."""
        self.evaluations += 1
        return _Floor(*torch.linalg.eigh(self.b))

    def optimum(self, point: _Point, y: torch.Tensor, *, inactive: bool) -> DirectionOptimum:
        """Return y as the optimum, with the bound of the point."""
        return DirectionOptimum(
            y=y,
            target=float(y @ self.a @ y),
            reference=float(y @ self.b @ y),
            multiplier=point.multiplier,
            top=point.top,
            upper=point.bound + point.noise,
            feasible=True,
            inactive=inactive,
            values=point.values,
            vectors=point.vectors,
            evaluations=self.evaluations,
        )

    def infeasible(self, floor: _Floor) -> DirectionOptimum:
        """Return the vector of least reference energy where that exceeds eps."""
        y = floor.vectors[:, 0]
        return DirectionOptimum(
            y=y,
            target=float(y @ self.a @ y),
            reference=floor.least,
            multiplier=math.inf,
            top=-math.inf,
            upper=-math.inf,
            feasible=False,
            inactive=False,
            values=floor.values,
            vectors=floor.vectors,
            evaluations=self.evaluations,
        )

    def on_the_edge(self, floor: _Floor, point: _Point) -> DirectionOptimum:
        """Solve where eps is the least eigenvalue of B to rounding: only its eigenspace is feasible."""
        size = int((floor.values <= self.eps + floor.noise).sum())
        space = floor.vectors[:, :size]  # (k, size)
        _, mix = torch.linalg.eigh(space.T @ self.a @ space)
        return self.optimum(point, space @ mix[:, -1], inactive=False)


def _next(low: _Point | None, high: _Point | None, last: _Point, eps: float, step: int, tangent: float) -> float:
    """Return the next multiplier, inside the bracket where there is one.

    The optimum on the plane of the leading eigenvector and its derivative has a multiplier of its own: right to
    second order, and exact where two eigenvalues cross, or nearly do.
    """
    left, right = low.multiplier if low else 0.0, high.multiplier if high else math.inf
    if step % 4 != 3 and left < tangent < right:
        return tangent
    newton = math.nan
    if last.multiplier > 0 and last.slope < 0 and last.least > 0:
        exponent = -math.log(last.least / eps) * last.least / (last.multiplier * last.slope)
        newton = last.multiplier * math.exp(max(-7.0, min(7.0, exponent)))
    if high is None:
        return max(newton if math.isfinite(newton) else 0.0, 2 * last.multiplier)
    if low is None:
        return min(newton if math.isfinite(newton) else math.inf, high.multiplier / 2)
    if step % 4 != 3:
        if step % 4 != 2 and left < newton < right:
            return newton
        # where the tangents at the two ends cross
        rise, fall = eps - high.largest, eps - low.least
        crossing = (low.bound - high.bound + right * rise - left * fall) / (rise - fall) if rise != fall else math.nan
        if left < crossing < right:
            return crossing
    middle = math.sqrt(left * right) if left > 0 else right / 16
    return middle if left < middle < right else (left + right) / 2


def _first_multiplier(zero: _Point, eps: float) -> float:
    """Guess lambda from the point at 0: the dual is at most its value there, and falls by g - eps a unit."""
    return max(abs(zero.top), 1e-300) / max(zero.least, 2 * eps)


def _scale(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the multiplier at which the two matrices weigh the same."""
    return max(float(a.norm()), 1e-300) / max(float(b.norm()), 1e-300)


def _noise(values: torch.Tensor) -> float:
    """Return what rounding may move an eigenvalue by."""
    return 4 * UNIT * math.sqrt(len(values)) * float(values.abs().max()) * 4
