"""200 random problems: the production solver, the dense one and an independent optimiser agree, and the proofs hold."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from koda.discrepancy.limits import EnergyLimit
from koda.discrepancy.solver.dense import solve_dense
from koda.discrepancy.solver.feature_space import FeatureSpace
from koda.discrepancy.solver.outcome import RawSolution
from koda.discrepancy.solver.sample_space import SampleSpace
from koda.discrepancy.solver.state import Effort, SolverRequest
from koda.discrepancy.solver.subspace import solve_subspace
from tests.discrepancy.problems import Matrix, best_by_program, commuting, complement, kernel, wishart

DIRECTIONS = 3
SMALL = Effort(start=8, block=6, most=40, kept=14)  # a basis under the dimension, so that restarts happen
BATCHES, EACH = 10, 20


@dataclass(frozen=True)
class Problem:
    """A pair of PSD matrices of unit trace, with a limit.

    Args:
        weights: the eigenvalues of both, where they have the same eigenvectors.
    """

    kind: str
    a: Matrix
    b: Matrix
    eps: float
    weights: tuple[Matrix, Matrix] | None = None


def kernels(n: int, seed: int) -> tuple[Matrix, Matrix]:
    scale = (0.3, 0.5, 1.0)[seed % 3]
    return kernel(n, seed, scale=scale), kernel(n, seed, scale=scale, moved=True)


def twice(n: int, seed: int) -> tuple[Matrix, Matrix]:
    half = max(n // 2, 3)
    both = np.kron(np.eye(half), np.full((2, 1), 2**-0.5))
    first, second = (both @ m @ both.T for m in kernels(half, seed))
    return (first + first.T) / 2, (second + second.T) / 2


def problem(seed: int) -> Problem:
    """Sizes 5 to 60; limits between the least feasible and one that does not bind."""
    rng = np.random.default_rng(seed)
    n = 5 + int(56 * rng.random() ** 2)  # more small ones than large
    kind = ("full rank", "low rank", "commuting", "commuting, multiple", "duplicates", "kernels")[seed % 6]
    weights = None
    if kind == "full rank":
        a, b = wishart(n, 2 * n, seed), wishart(n, 2 * n, seed + 1000)
    elif kind == "low rank":
        a, b = wishart(n, max(2, n // 3), seed), wishart(n, max(2, n // 4), seed + 1000)
    elif kind.startswith("commuting"):
        a, b, *both = commuting(n, seed, rounded="multiple" in kind)
        weights = (both[0], both[1])
    else:
        a, b = twice(n, seed) if kind == "duplicates" else kernels(n, seed)
    values = np.linalg.eigvalsh(b)
    low = max(float(values[0]), 1e-6)
    leading = np.linalg.eigh(a)[1][:, -1]
    high = float(leading @ b @ leading)
    eps = low * (max(high, 1.01 * low) / low) ** float(rng.uniform(0.05, 1.05))  # a few beyond: the limit is inactive
    return Problem(kind, a, b, eps, weights)


def space_of(p: Problem) -> SampleSpace:
    return SampleSpace(torch.tensor(p.a), torch.tensor(p.b))


def gram_of(p: Problem) -> tuple[FeatureSpace, Matrix]:
    """The same forms as those of feature maps, roots of both matrices.

    Returns:
        the space, and the matrix (n, D + e) that takes its coordinates to samples.
    """
    n = len(p.a)
    roots = []
    for m in (p.a, p.b):
        values, vectors = np.linalg.eigh(m)
        keep = values > 1e-12 * values[-1]
        roots.append(vectors[:, keep] * np.sqrt(values[keep] * n))
    phi = np.column_stack(roots)
    u, s, _ = np.linalg.svd(phi)
    outside = u[:, int((s > 1e-9 * s[0]).sum()) :][:, :DIRECTIONS]
    space = FeatureSpace(torch.tensor(phi.T @ phi / n), roots[0].shape[1], outside.shape[1])
    return space, np.column_stack([phi / np.sqrt(n), outside])


def optimum(a: Matrix, b: Matrix, eps: float) -> float:
    """The minimum of the convex dual by golden sections of log lambda, right to rounding where it has a kink too."""

    def dual(t: float) -> float:
        return float(np.linalg.eigvalsh(a - np.exp(t) * b)[-1] + np.exp(t) * eps)

    ratio = (np.sqrt(5) - 1) / 2
    left, right = -30.0, 30.0
    c, d = right - ratio * (right - left), left + ratio * (right - left)
    at_c, at_d = dual(c), dual(d)
    best = min(float(np.linalg.eigvalsh(a)[-1]), at_c, at_d)
    while right - left > 1e-13 * max(abs(left), 1):
        if at_c < at_d:  # where they are equal lambda is too small to be felt
            right, d, at_d = d, c, at_c
            c = right - ratio * (right - left)
            at_c = dual(c)
        else:
            left, c, at_c = c, d, at_d
            d = left + ratio * (right - left)
            at_d = dual(d)
        best = min(best, at_c, at_d)
    return best


def check(p: Problem, found: RawSolution, dense: RawSolution) -> None:
    """Feasible, orthonormal, proved, as good as it says, and as good as the dense reference.

    An error of 1e-8 in a direction, which moves its own value by 1e-16, moves the next ones' values by 1e-8; and where
    an optimum is not unique the problems of those after it differ altogether. So a direction that is not the dense
    solver's is compared with the dense solution on the complement of the directions before it.
    """
    assert (len(found.directions), found.ending) == (len(dense.directions), dense.ending)
    x = np.stack([d.x for d in found.directions], axis=1)  # (n, t)
    assert np.abs(x.T @ x - np.eye(x.shape[1])).max() < 1e-10
    first = dense.directions[0].target_energy
    for k, (d, e) in enumerate(zip(found.directions, dense.directions, strict=True)):
        assert d.x @ p.b @ d.x <= p.eps + 1e-10
        assert d.x @ p.a @ d.x == pytest.approx(d.target_energy, rel=1e-10, abs=1e-13)
        small = d.target_energy <= 1e-3 * first
        assert small or d.gap < 1e-6
        best = e.target_energy
        if k and abs(d.target_energy / best - 1) > 1e-8:
            basis = complement(x[:, :k])
            best = (
                solve_dense(*(basis.T @ m @ basis for m in (p.a, p.b)), SolverRequest(EnergyLimit(p.eps), 1))
                .directions[0]
                .target_energy
            )
        assert d.target_energy == pytest.approx(best, rel=0 if small else 1e-8, abs=1e-9 * first if small else 0)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_direction_agrees_with_the_dense_reference(batch):
    for seed in range(batch * EACH, (batch + 1) * EACH):
        p = problem(seed)
        exact = solve_dense(p.a, p.b, SolverRequest(EnergyLimit(p.eps), DIRECTIONS))
        found = solve_subspace(
            space_of(p),
            SolverRequest(EnergyLimit(p.eps), DIRECTIONS, tolerance=1e-10),
            effort=SMALL if seed % 7 == 0 else None,
        )
        try:
            check(p, found, exact)
            assert exact.directions[0].gap < 1e-6
            first, best = found.directions[0], optimum(p.a, p.b, p.eps)
            assert first.target_energy == pytest.approx(best, rel=1e-8)
            assert first.upper >= best * (1 - 1e-11)
            if p.weights is not None:
                a, b = p.weights
                program = best_by_program(a, b / p.eps, 1.0)  # scaled, since a programme is feasible to 1e-7
                assert first.target_energy == pytest.approx(program, rel=1e-8)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, {p.kind}, n = {len(p.a)}, eps = {p.eps:g}") from error


@pytest.mark.parametrize("seed", range(6))
def test_later_directions_are_optimal_given_those_before(seed):
    """Each one against the independent optimum on the complement of the solver's own directions."""
    p = problem(seed)
    found = solve_subspace(space_of(p), SolverRequest(EnergyLimit(p.eps), DIRECTIONS, tolerance=1e-10))
    scale = found.directions[0].target_energy
    for k, d in enumerate(found.directions):
        basis = complement(np.stack([e.x for e in found.directions[:k]], 1)) if k else np.eye(len(p.a))
        a, b = basis.T @ p.a @ basis, basis.T @ p.b @ basis
        if p.eps < np.linalg.eigvalsh(b)[0] * (1 + 1e-6):
            continue  # the edge of what is feasible: the dual has its minimum at infinity
        assert d.target_energy == pytest.approx(optimum(a, b, p.eps), rel=1e-7, abs=1e-9 * scale)


@pytest.mark.parametrize("seed", range(18))
def test_a_value_lowered_by_a_thousandth_is_rejected(seed):
    """The same certificate that proves the optimum refuses what is under it, in both spaces."""
    p = problem(seed)
    one = solve_dense(p.a, p.b, SolverRequest(EnergyLimit(p.eps), 1)).directions[0]
    gram, _ = gram_of(p)
    for space in (space_of(p), gram):
        top = float(np.linalg.eigvalsh(p.a - one.multiplier * p.b)[-1])
        value = top + one.multiplier * p.eps  # the dual bound, which the optimum meets
        assert value == pytest.approx(one.target_energy, rel=1e-8)
        mu, wrong = (v - one.multiplier * p.eps for v in (value * (1 + 1e-6), value * (1 - 1e-3)))
        if isinstance(space, SampleSpace) or mu > 1e-4 * value:  # off the range of features nothing under 0 is proved
            certificate = space.certify(1.0, mu, one.multiplier, space.empty())
            assert certificate.holds
            assert top <= certificate.bound <= mu + 1e-4 * value
        assert not space.certify(1.0, wrong, one.multiplier, space.empty()).holds


few = settings(max_examples=6, deadline=None, derandomize=True, database=None)
# of plain integers hypothesis also tries numbers that stand in whatever modules are imported, so others in each worker
seeds = st.sampled_from(range(10_001))


def solve(p: Problem, eps: float | None = None, directions: int = 2) -> RawSolution:
    return solve_subspace(space_of(p), SolverRequest(EnergyLimit(eps or p.eps), directions, tolerance=1e-10))


@few
@given(seeds)
def test_solutions_are_feasible_and_orthonormal(seed):
    p = problem(seed)
    found = solve(p, directions=5)
    x = np.stack([d.x for d in found.directions], axis=1)
    assert np.abs(x.T @ x - np.eye(x.shape[1])).max() < 1e-10
    assert max(d.x @ p.b @ d.x for d in found.directions) <= p.eps + 1e-10
    values = [d.target_energy for d in found.directions]
    assert all(later <= first * (1 + 1e-8) for first, later in pairwise(values))


@few
@given(seeds, st.floats(1.01, 10))
def test_a_larger_limit_never_lowers_the_objective(seed, factor):
    p = problem(seed)
    tight, loose = (solve(p, eps, 1).directions[0].target_energy for eps in (p.eps, factor * p.eps))
    assert loose >= tight * (1 - 1e-9)


@few
@given(seeds, st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_scaling_a_form_scales_its_energies_alone(seed, target, reference):
    p = problem(seed)
    scaled = Problem(p.kind, target * p.a, reference * p.b, reference * p.eps)
    plain, other = (solve(q, directions=1).directions[0] for q in (p, scaled))
    assert other.target_energy == pytest.approx(target * plain.target_energy, rel=1e-8)
    assert other.reference_energy <= reference * p.eps * (1 + 1e-8)


@few
@given(seeds)
def test_permuting_the_samples_permutes_the_directions(seed):
    p = problem(6 * seed)  # of full rank, where the directions are unique
    order = np.random.default_rng(seed).permutation(len(p.a))
    moved = Problem(p.kind, p.a[np.ix_(order, order)], p.b[np.ix_(order, order)], p.eps)
    for d, e in zip(solve(p).directions, solve(moved).directions, strict=True):
        assert e.target_energy == pytest.approx(d.target_energy, rel=1e-8)
        assert abs(e.x @ d.x[order]) == pytest.approx(1, abs=1e-4)


@few
@given(seeds)
def test_coordinates_of_features_and_samples_give_the_same(seed):
    p = problem(seed)
    space, samples = gram_of(p)
    found = solve_subspace(space, SolverRequest(EnergyLimit(p.eps), 1, tolerance=1e-10))
    x = samples @ found.directions[0].x
    assert np.linalg.norm(x) == pytest.approx(1, abs=1e-8)
    assert x @ p.b @ x <= p.eps * (1 + 1e-6)
    assert found.directions[0].target_energy == pytest.approx(optimum(p.a, p.b, p.eps), rel=1e-7)
