"""Held-out shares under narrower and wider kernels."""

from __future__ import annotations

import numpy as np
import pytest

from koda.config import DiscrepancyConfig
from koda.discrepancy import find_discrepancies
from koda.discrepancy.blocks import kernels_of
from koda.discrepancy.extension import extend
from koda.discrepancy.sensitivity import TIES, bandwidth_sensitivity
from koda.discrepancy.significance import held_out_shares
from koda.embeddings import EmbeddingTable

N = 600
IMAGE = DiscrepancyConfig(modality="image", n_directions=2, device="cpu")


@pytest.fixture(scope="module")
def planted():
    """The target holds a group of 8 % together, the reference does not."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(N, 8))
    inside = rng.random(N) < 0.08
    target = np.where(inside[:, None], 2.0 + 0.3 * base, base)
    keys = [f"{row:03}" for row in range(N)]
    tables = EmbeddingTable(keys, image=target), EmbeddingTable(keys, image=base)
    return keys, tables, find_discrepancies(*(table.select(keys[:300]) for table in tables), IMAGE)


def test_a_planted_group_holds_at_every_bandwidth(planted):
    keys, tables, solution = planted
    kernels = kernels_of(solution, *tables)
    f = extend(solution, *tables, keys[300:]).T
    found = bandwidth_sensitivity(f, keys[300:], solution.keys, kernels, 0.003)
    assert tuple(at.tie for at in found) == TIES
    differences = [at.shares[0].difference.value for at in found]
    assert min(differences) > 0.02
    assert max(differences) < 3 * min(differences)  # a tight group: alike under any kernel, over a tie that grows
    # at the tie of the search it is the test's own figure
    (own,) = (at for at in found if at.tie == 0.3)
    expected = held_out_shares(f, keys[300:], kernels, 0.003)
    assert own.shares[0].difference.value == pytest.approx(expected[0].difference.value, rel=0.01)


def test_kernels_without_a_bandwidth_have_none(planted):
    keys, tables, _ = planted
    solution = find_discrepancies(
        *(table.select(keys[:300]) for table in tables), IMAGE.model_copy(update={"kernel": "cosine"})
    )
    f = np.ones((300, 1))
    assert bandwidth_sensitivity(f, keys[300:], solution.keys, kernels_of(solution, *tables), 0.003) == ()


def test_kernels_that_are_kept_on_the_tested_samples_give_the_same(planted):
    keys, tables, solution = planted
    kernels = kernels_of(solution, *tables)
    f = extend(solution, *tables, keys[300:]).T
    kept = tuple(kernel.kept_on(keys[300:]) for kernel in kernels)
    assert all(kernel.matrix.shape == (300, 300) for kernel in kept)
    slow = bandwidth_sensitivity(f, keys[300:], solution.keys, kernels, 0.003)
    quick = bandwidth_sensitivity(f, keys[300:], solution.keys, kernels, 0.003, tested=kept)
    for one, other in zip(slow, quick, strict=True):
        for a, b in zip(one.shares, other.shares, strict=True):
            assert b.difference.value == pytest.approx(a.difference.value, rel=1e-4)
            assert b.difference.se == pytest.approx(a.difference.se, rel=1e-4)
