"""The production solver against the dense reference, and its certificate against false claims."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from koda.discrepancy.limits import EnergyLimit
from koda.discrepancy.solver.dense import solve_dense
from koda.discrepancy.solver.outcome import DirectionState, Ending
from koda.discrepancy.solver.sample_space import SampleSpace
from koda.discrepancy.solver.state import Effort, SolverRequest
from koda.discrepancy.solver.subspace import solve_subspace
from tests.discrepancy.problems import commuting, kernel, wishart

SMALL = Effort(most=72, kept=28, start=12)  # a basis far under the dimension, so that restarts happen


def space_of(a, b) -> SampleSpace:
    return SampleSpace(torch.tensor(a), torch.tensor(b))


def duplicates(n: int) -> tuple[np.ndarray, np.ndarray]:
    twice = np.kron(np.eye(n // 2), np.full((2, 1), 2**-0.5))
    return tuple(twice @ m @ twice.T for m in (kernel(n // 2, 3), kernel(n // 2, 3, moved=True)))


PROBLEMS = {
    "kernels": lambda: (kernel(180, 0), kernel(180, 0, moved=True)),
    "wide kernels": lambda: (kernel(150, 1, scale=1.0), kernel(150, 1, scale=1.0, moved=True)),
    "full rank": lambda: (wishart(120, 300, 0), wishart(120, 300, 1)),
    "low rank": lambda: (wishart(140, 30, 2), wishart(140, 20, 3)),
    "commuting": lambda: commuting(130, 4)[:2],
    "commuting, multiple eigenvalues": lambda: commuting(130, 5, rounded=True)[:2],
    "duplicates": lambda: duplicates(160),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_it_gives_what_the_dense_solver_gives(name):
    a, b = PROBLEMS[name]()
    n = len(a)
    quantile = float(np.quantile(np.linalg.eigvalsh(b).clip(1e-7), 0.6))
    for eps in ((1 + 0.0005 * (n - 1)) / n, quantile):
        exact = solve_dense(a, b, SolverRequest(EnergyLimit(eps), 4))
        found = solve_subspace(space_of(a, b), SolverRequest(EnergyLimit(eps), 4, tolerance=1e-10), effort=SMALL)
        assert (len(found.directions), found.ending) == (len(exact.directions), exact.ending)
        x = np.stack([d.x for d in found.directions], axis=1)
        assert np.abs(x.T @ x - np.eye(x.shape[1])).max() < 1e-12
        for d in found.directions:
            assert d.gap <= 1e-9
            assert d.x @ b @ d.x <= eps + 1e-10
            assert d.x @ a @ d.x == pytest.approx(d.target_energy, rel=1e-10)
        # where an optimum is not unique, so are the problems of those after it
        unique = len(found.directions) if "multiple" not in name and name != "low rank" else 1
        for d, e in list(zip(found.directions, exact.directions, strict=True))[:unique]:
            assert d.target_energy == pytest.approx(e.target_energy, rel=1e-8)


def test_a_limit_that_does_not_bind_gives_the_leading_eigenvectors():
    a, b = kernel(150, 6), kernel(150, 6, moved=True)
    found = solve_subspace(space_of(a, b), SolverRequest(EnergyLimit(1.0), 3), effort=SMALL)
    values = np.linalg.eigvalsh(a)[::-1]
    for d, value in zip(found.directions, values, strict=False):
        assert d.state is DirectionState.INACTIVE
        assert d.target_energy == pytest.approx(value, rel=1e-8)


def test_an_infeasible_limit_is_proved_and_the_least_energy_named():
    b = 0.5 * wishart(120, 200, 7) + 0.5 * np.eye(120) / 120
    least = np.linalg.eigvalsh(b)[0]
    found = solve_subspace(space_of(wishart(120, 100, 8), b), SolverRequest(EnergyLimit(0.8 * least), 2), effort=SMALL)
    assert (found.directions, found.ending) == ((), Ending.INFEASIBLE)
    assert found.lambda_min == pytest.approx(least, rel=0.1)
    assert found.lambda_min >= least * (1 - 1e-9)


def test_directions_end_where_the_space_does():
    a, b = wishart(6, 9, 0), wishart(6, 9, 1)
    found = solve_subspace(space_of(a, b), SolverRequest(EnergyLimit(0.9), 10))
    assert (len(found.directions), found.ending) == (6, Ending.EXHAUSTED)


def test_equal_forms_have_no_direction_of_gain():
    a = kernel(130, 2)
    found = solve_subspace(space_of(a, a), SolverRequest(EnergyLimit(2 / 130), 3, stop_without_gain=True), effort=SMALL)
    assert (found.directions, found.ending) == ((), Ending.NO_DISCREPANCY)


def test_the_same_seed_gives_the_same_bits_and_another_the_same_answer():
    a, b = kernel(160, 9), kernel(160, 9, moved=True)
    runs = [
        solve_subspace(space_of(a, b), SolverRequest(EnergyLimit(1.5 / 160), 3), seed=seed, effort=SMALL)
        for seed in (0, 0, 1)
    ]
    for first, second, other in zip(*(run.directions for run in runs), strict=True):
        assert np.array_equal(first.x, second.x)
        assert abs(first.x @ other.x) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_the_certificate_holds_over_the_spectrum_and_rejects_a_lowered_value(seed):
    a, b = wishart(90, 120, seed), wishart(90, 120, 50 + seed)
    space = space_of(a, b)
    u = np.linalg.qr(np.random.default_rng(seed).normal(size=(90, 3)))[0]
    locked = space.extend(torch.tensor(u), [])
    for multiplier in (0.0, 0.7, 30.0):
        m = a - multiplier * b
        rest = np.linalg.svd(u)[0][:, 3:]
        top = np.linalg.eigvalsh(rest.T @ m @ rest)[-1]
        above = space.certify(1.0, top + 1e-9, multiplier, locked)
        assert above.holds
        assert top < above.bound < top + 1e-8
        assert not space.certify(1.0, top - 1e-3 * abs(top), multiplier, locked).holds


def test_the_inverse_is_what_it_says():
    b = kernel(60, 4)
    space = space_of(b, b)
    raw = torch.eye(60, dtype=torch.float64)[:, :5]
    assert np.allclose(space.inverse(0.01)(raw), np.linalg.solve(b + 0.01 * np.eye(60), raw.numpy()), atol=1e-9)


def test_kernels_next_to_the_identity_keep_directions_orthonormal():
    """A bandwidth far too narrow leaves K = I but for rounding: residuals hold nothing but that."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(30, 50))
        a, b = ((np.eye(n) + 1e-6 * (e + e.T)) / n for e in rng.normal(size=(2, n, n)))
        found = solve_subspace(
            SampleSpace(torch.tensor(a), torch.tensor(b)), SolverRequest(EnergyLimit(1.08 / n), 4, tolerance=1e-8)
        )
        exact = solve_dense(a, b, SolverRequest(EnergyLimit(1.08 / n), 4))
        x = np.stack([d.x for d in found.directions])
        assert np.abs(x @ x.T - np.eye(4)).max() < 1e-12
        assert found.directions[0].target_energy == pytest.approx(exact.directions[0].target_energy, rel=1e-10)
