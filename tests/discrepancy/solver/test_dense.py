"""The dense reference solver against optimisers that share nothing with it, and every edge case."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from koda.discrepancy.limits import EnergyLimit
from koda.discrepancy.solver.dense import solve_dense
from koda.discrepancy.solver.direction import constrained_optimum, planar_optimum
from koda.discrepancy.solver.outcome import DirectionState, Ending
from koda.discrepancy.solver.state import SolverRequest
from koda.errors import ConfigError, DataError
from tests.discrepancy.problems import best_by_dual, best_by_program, commuting, complement, kernel, wishart


def check(a, b, eps, solution):
    """Every direction is feasible, has the energies it claims, and is orthogonal to the others."""
    x = np.stack([d.x for d in solution.directions], axis=1)
    assert np.abs(x.T @ x - np.eye(x.shape[1])).max() < 1e-12
    for d in solution.directions:
        assert d.x @ b @ d.x <= eps + 1e-12
        assert d.target_energy == pytest.approx(d.x @ a @ d.x, abs=1e-13)
        assert d.reference_energy == pytest.approx(d.x @ b @ d.x, abs=1e-13)
        assert d.gap < 1e-9


@pytest.mark.parametrize("seed", range(12))
def test_directions_meet_an_independent_minimiser_of_the_dual(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 25))
    a, b = wishart(n, int(rng.integers(1, n + 4)), seed), wishart(n, int(rng.integers(1, n + 4)), 100 + seed)
    eps = float(10 ** rng.uniform(-3, -0.3))
    solution = solve_dense(a, b, SolverRequest(EnergyLimit(eps), 3))
    if solution.directions:
        check(a, b, eps, solution)
    found = np.zeros((n, 0))
    for d in solution.directions:
        rest = complement(found) if found.shape[1] else np.eye(n)
        best = best_by_dual(rest.T @ a @ rest, rest.T @ b @ rest, eps)
        assert d.target_energy == pytest.approx(best, rel=1e-7, abs=1e-12)
        found = np.column_stack([found, d.x])


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_commuting_forms_meet_the_linear_programme(seed, rounded):
    a, b, alpha, beta = commuting(12, seed, rounded=rounded)
    for eps in (0.5 * (np.sort(beta)[0] + np.sort(beta)[1]) + 1e-4, 0.01, 0.03, 0.2):
        best = best_by_program(alpha, beta, eps)
        solution = solve_dense(a, b, SolverRequest(EnergyLimit(eps), 1))
        if best is None:
            assert solution.ending is Ending.INFEASIBLE
            continue
        check(a, b, eps, solution)
        assert solution.directions[0].target_energy == pytest.approx(best, rel=1e-10)


def test_two_eigenvectors_are_combined_where_neither_is_optimal():
    a, b = np.diag([0.6, 0.3, 0.1]), np.diag([0.8, 0.1, 0.1])
    [d] = solve_dense(a, b, SolverRequest(EnergyLimit(0.45), 1)).directions
    assert d.target_energy == pytest.approx(0.45, rel=1e-12)  # half of each; the best eigenvector has 0.3
    assert d.x**2 == pytest.approx([0.5, 0.5, 0.0], abs=1e-12)
    assert d.multiplier == pytest.approx(3 / 7, rel=1e-9)


def test_a_limit_that_does_not_bind_gives_plain_kernel_pca():
    a, b = wishart(15, 20, 0), wishart(15, 20, 1)
    solution = solve_dense(a, b, SolverRequest(EnergyLimit(1.0), 3))
    values, vectors = np.linalg.eigh(a)
    for i, d in enumerate(solution.directions):
        assert d.state is DirectionState.INACTIVE
        assert d.multiplier == 0
        assert d.target_energy == pytest.approx(values[-1 - i], rel=1e-12)
        assert abs(d.x @ vectors[:, -1 - i]) == pytest.approx(1, abs=1e-9)


def test_the_limit_of_the_leading_eigenvector_itself_is_inactive_and_just_under_it_is_not():
    a, b = wishart(10, 15, 2), wishart(10, 15, 3)
    top = np.linalg.eigh(a)[1][:, -1]
    energy = float(top @ b @ top)
    assert solve_dense(a, b, SolverRequest(EnergyLimit(energy * (1 + 1e-9)), 1)).directions[0].multiplier == 0
    just_under = solve_dense(a, b, SolverRequest(EnergyLimit(energy * (1 - 1e-6)), 1)).directions[0]
    assert just_under.multiplier > 0
    assert just_under.state is DirectionState.OPTIMAL


def test_an_infeasible_limit_names_the_smallest_eigenvalue_and_returns_fewer():
    a, b = np.diag([0.5, 0.3, 0.2]), np.diag([0.1, 0.2, 0.7])
    nothing = solve_dense(a, b, SolverRequest(EnergyLimit(0.05), 2))
    assert nothing.directions == ()
    assert (nothing.ending, nothing.lambda_min) == (Ending.INFEASIBLE, pytest.approx(0.1))
    fewer = solve_dense(a, b, SolverRequest(EnergyLimit(0.15), 3))
    # the first direction takes e1 and half of e2's room: what is left has more reference energy than 0.15
    assert len(fewer.directions) == 1
    assert fewer.ending is Ending.INFEASIBLE
    assert fewer.lambda_min > 0.15


def test_the_least_eigenvalue_itself_as_limit_gives_its_eigenspace():
    a, b = np.diag([0.5, 0.3, 0.2]), np.diag([0.6, 0.2, 0.2])
    [d] = solve_dense(a, b, SolverRequest(EnergyLimit(0.2), 1)).directions
    assert d.target_energy == pytest.approx(0.3, rel=1e-9)


def test_a_vanishing_limit_tends_to_the_null_space_of_the_reference():
    a, b = wishart(12, 20, 4), wishart(12, 7, 5)
    null = np.linalg.svd(b)[0][:, 7:]
    best = np.linalg.eigvalsh(null.T @ a @ null)[-1]
    for eps, close in ((1e-4, 0.2), (1e-8, 2e-3), (1e-11, 1e-4)):
        [d] = solve_dense(a, b, SolverRequest(EnergyLimit(eps), 1)).directions
        assert best <= d.target_energy * (1 + 1e-6)
        assert d.target_energy == pytest.approx(best, rel=close)


def test_equal_forms_have_the_limit_as_value_and_no_direction_of_gain():
    a = wishart(14, 20, 6)
    [d] = solve_dense(a, a, SolverRequest(EnergyLimit(0.05), 1)).directions
    assert d.target_energy == pytest.approx(0.05, rel=1e-9)
    assert d.multiplier == pytest.approx(1, rel=1e-6)
    none = solve_dense(a, a, SolverRequest(EnergyLimit(0.05), 3, stop_without_gain=True))
    assert (none.directions, none.ending) == ((), Ending.NO_DISCREPANCY)


def test_duplicate_samples_and_low_rank_change_nothing():
    a, b = wishart(6, 3, 7), wishart(6, 2, 8)
    twice = np.kron(np.eye(6), np.full((2, 1), 2**-0.5))  # each sample as two equal ones
    for eps in (1e-3, 0.05, 0.3):
        single = solve_dense(a, b, SolverRequest(EnergyLimit(eps), 1)).directions[0]
        double = solve_dense(twice @ a @ twice.T, twice @ b @ twice.T, SolverRequest(EnergyLimit(eps), 1)).directions[0]
        assert double.target_energy == pytest.approx(single.target_energy, rel=1e-9)


def test_more_directions_than_dimensions_and_one_sample():
    solution = solve_dense(wishart(4, 6, 0), wishart(4, 6, 1), SolverRequest(EnergyLimit(0.9), 9))
    assert (len(solution.directions), solution.ending) == (4, Ending.EXHAUSTED)
    alone = solve_dense([[1.0]], [[1.0]], SolverRequest(EnergyLimit(1.0), 3))
    assert (len(alone.directions), alone.ending) == (1, Ending.EXHAUSTED)


@pytest.mark.parametrize("eps", [0.0, -1.0, float("nan"), float("inf")])
def test_a_limit_of_zero_is_refused_with_the_way_out(eps):
    with pytest.raises(ConfigError, match="eps_quantile"):
        solve_dense(np.eye(3) / 3, np.eye(3) / 3, SolverRequest(EnergyLimit(eps), 1))


def test_matrices_that_are_no_forms_are_refused():
    good = np.eye(3) / 3
    for bad, words in (
        (np.full((3, 3), np.nan), "NaN"),
        (np.triu(np.ones((3, 3))), "symmetric"),
        (np.ones(3), "square"),
    ):
        with pytest.raises(DataError, match=words):
            solve_dense(bad, good, SolverRequest(EnergyLimit(0.1), 1))
    with pytest.raises(DataError, match="rows"):
        solve_dense(np.eye(4) / 4, good, SolverRequest(EnergyLimit(0.1), 1))
    with pytest.raises(ConfigError, match="n_directions"):
        solve_dense(good, good, SolverRequest(EnergyLimit(0.1), 0))


@given(st.integers(0, 10_000), st.floats(-6, 6), st.floats(-6, 6))
@settings(max_examples=25, deadline=None)
def test_scaling_either_form_scales_the_answer(seed, log_a, log_b):
    a, b = wishart(8, 10, seed), wishart(8, 10, seed + 1)
    s, t = 10.0**log_a, 10.0**log_b
    plain = solve_dense(a, b, SolverRequest(EnergyLimit(0.08), 1)).directions[0]
    scaled = solve_dense(s * a, t * b, SolverRequest(EnergyLimit(t * 0.08), 1)).directions[0]
    assert scaled.target_energy == pytest.approx(s * plain.target_energy, rel=1e-9)
    assert scaled.multiplier * t == pytest.approx(s * plain.multiplier, rel=1e-4, abs=1e-9 * s)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_permuting_the_samples_permutes_the_directions(seed):
    a, b = kernel(20, seed), kernel(20, seed, moved=True)
    order = np.random.default_rng(seed).permutation(20)
    plain, permuted = (
        solve_dense(a, b, SolverRequest(EnergyLimit(0.055), 1)),
        solve_dense(a[order][:, order], b[order][:, order], SolverRequest(EnergyLimit(0.055), 1)),
    )
    for p, q in zip(plain.directions, permuted.directions, strict=True):
        assert q.target_energy == pytest.approx(p.target_energy, rel=1e-9)


def test_no_feasible_point_beats_the_proved_bound():
    a, b = torch.tensor(wishart(10, 12, 1)), torch.tensor(wishart(10, 12, 2))
    one = constrained_optimum(a, b, 0.07)
    x = torch.nn.functional.normalize(
        torch.randn(10, 50_000, generator=torch.Generator().manual_seed(0)).double(), dim=0
    )
    feasible = (x * (b @ x)).sum(0) <= 0.07
    assert feasible.sum() > 100
    assert float((x * (a @ x)).sum(0)[feasible].max()) <= one.upper


def test_the_closed_form_on_a_plane_meets_a_fine_grid():
    a, b = torch.tensor(wishart(5, 6, 3)), torch.tensor(wishart(5, 6, 4))
    p, q = torch.eye(5, dtype=torch.float64)[0], torch.eye(5, dtype=torch.float64)[3]
    angles = np.linspace(0, np.pi, 200_001)
    y = np.zeros((5, len(angles)))
    y[0], y[3] = np.cos(angles), np.sin(angles)
    target, reference = ((y * (m.numpy() @ y)).sum(0) for m in (a, b))
    for eps in np.quantile(reference, [0.1, 0.5, 0.9, 1.0]):
        found = planar_optimum(a, b, float(eps), p, q)
        assert found is not None
        assert found.target == pytest.approx(target[reference <= eps].max(), abs=1e-5)
        assert float(found.y @ b @ found.y) <= eps + 1e-14
    assert planar_optimum(a, b, float(reference.min()) * 0.99, p, q) is None
