"""The bound that a few vectors and a ceiling on the rest give: a bound always, and tight to second order."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from koda.discrepancy.solver.bounds import Coupling, coupled_bound, highest_ceiling
from koda.discrepancy.solver.sample_space import SampleSpace
from tests.discrepancy.problems import kernel, wishart


def blocks(seed: int, *, k: int = 4, rest: int = 12, coupling: float = 0.1, ceiling: float = 0.3):
    """[[M, E'], [E, N]] with the largest eigenvalue of N at the ceiling."""
    rng = np.random.default_rng(seed)
    m, n = (x + x.T for x in (rng.normal(size=(k, k)), rng.normal(size=(rest, rest))))
    n += (ceiling - np.linalg.eigvalsh(n)[-1]) * np.eye(rest)
    e = coupling * rng.normal(size=(rest, k))
    return m, e, np.block([[m, e.T], [e, n]])


@pytest.mark.parametrize("coupling", [0.0, 1e-8, 1e-3, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("ceiling", [-3.0, 0.3, 8.0])
def test_it_is_a_bound_and_never_far_off(coupling, ceiling):
    for seed in range(40):
        m, e, whole = blocks(seed, coupling=coupling, ceiling=ceiling, k=1 + seed % 6)
        bound = coupled_bound(torch.tensor(m), torch.tensor(e.T @ e), ceiling)
        top = np.linalg.eigvalsh(whole)[-1]
        assert bound >= top - 1e-13 * (1 + abs(ceiling))  # what making the matrix rounded
        # no worse than that of the triangle inequality
        assert bound <= max(np.linalg.eigvalsh(m)[-1], ceiling) + np.linalg.norm(e, 2) + 1e-12


def test_it_exceeds_the_ritz_value_by_the_square_of_the_coupling():
    for seed in range(10):
        m, _, _ = blocks(seed)
        top = np.linalg.eigvalsh(m)[-1]
        ceiling = top - 1.0
        for coupling in (1e-2, 1e-4):
            _, e, _ = blocks(seed, coupling=coupling)
            size = np.linalg.norm(e, 2) ** 2
            bound = coupled_bound(torch.tensor(m), torch.tensor(e.T @ e), ceiling)
            assert top <= bound <= top + 1.001 * size + 1e-13


def test_the_worst_rest_attains_it():
    """One vector coupled to one at the ceiling: the bound is the eigenvalue."""
    for gap, coupling in ((1.0, 0.5), (0.1, 1e-3), (-1.0, 0.2)):
        whole = np.array([[1.0, coupling], [coupling, 1.0 - gap]])
        one, e = (torch.full((1, 1), value, dtype=torch.float64) for value in (1.0, coupling**2))
        assert coupled_bound(one, e, 1.0 - gap) == pytest.approx(np.linalg.eigvalsh(whole)[-1], rel=1e-12)


def test_under_the_highest_ceiling_a_value_is_a_bound_and_over_it_not():
    """The worst rest at the ceiling has the value as its eigenvalue."""
    for seed in range(10):
        m, e, _ = blocks(seed, coupling=0.3)
        value = np.linalg.eigvalsh(m)[-1] + 0.5
        ceiling = highest_ceiling(value, torch.tensor(m), torch.tensor(e.T @ e))
        assert ceiling < value

        def top(mu: float, m=m, e=e) -> float:
            return float(np.linalg.eigvalsh(np.block([[m, e.T], [e, mu * np.eye(len(e))]]))[-1])

        assert top(ceiling) <= value
        assert top(ceiling + 0.02 * (value - ceiling)) > value


def test_a_value_under_the_ritz_values_has_no_ceiling():
    one = torch.eye(2, dtype=torch.float64)
    assert highest_ceiling(0.9, one, one) == -math.inf
    assert highest_ceiling(2.0, one, one * math.nan) == -math.inf


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_proves_nothing(bad):
    one, wrong = torch.eye(2, dtype=torch.float64), torch.full((2, 2), bad, dtype=torch.float64)
    assert coupled_bound(wrong, one, 0.0) == math.inf
    assert coupled_bound(one, wrong, 0.0) == math.inf


@pytest.mark.parametrize("seed", range(6))
def test_one_ceiling_bounds_every_larger_multiplier(seed):
    """A ceiling that holds off the basis at lambda_0 holds for lambda >= lambda_0, with the coupling there."""
    n, k = 50, 6
    pairs = (kernel(n, seed), kernel(n, seed, moved=True)), (wishart(n, 20, seed), wishart(n, 30, 90 + seed))
    for a, b in pairs:
        space = SampleSpace(torch.tensor(a), torch.tensor(b))
        least = 0.5
        vectors = np.linalg.eigh(a - least * b)[1][:, -k:]
        vectors = np.linalg.qr(vectors + 1e-3 * np.random.default_rng(seed).normal(size=(n, k)))[0]
        block = space.extend(torch.tensor(vectors), [])
        small_a, small_b = space.project(block, block)
        coupling = Coupling.of(space.squares(block), small_a, small_b)
        q = block.w.numpy()
        rest = np.linalg.svd(q)[0][:, k:]
        ceiling = np.linalg.eigvalsh(rest.T @ (a - least * b) @ rest)[-1]
        for multiplier in (least, 0.8, 3.0, 40.0):
            m = small_a - multiplier * small_b
            e = coupling.at(multiplier)
            exact = rest.T @ (a - multiplier * b) @ q
            assert np.allclose(e, exact.T @ exact, atol=1e-12)
            bound = coupled_bound((m + m.T) / 2, e, ceiling)
            assert bound >= np.linalg.eigvalsh(a - multiplier * b)[-1]


def test_the_coupling_allows_for_rounding():
    """Eigenvectors are not coupled at all, yet the bound stays over the eigenvalue."""
    for seed in range(10):
        a, b = wishart(60, 90, seed), np.zeros((60, 60))
        values, vectors = np.linalg.eigh(a)
        space = SampleSpace(torch.tensor(a), torch.tensor(b))
        block = space.extend(torch.tensor(vectors[:, -3:].copy()), [])
        small_a, small_b = space.project(block, block)
        e = Coupling.of(space.squares(block), small_a, small_b).at(0.0)
        bound = coupled_bound(small_a, e, float(values[-4]) * (1 + 1e-12))
        assert values[-1] <= bound <= values[-1] * (1 + 1e-10)
