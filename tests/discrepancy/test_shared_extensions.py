"""Extensions of both questions together: the values that each has alone, from kernels that are made once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import koda.discrepancy.extension as module
from koda.config import DiscrepancyConfig
from koda.discrepancy import find_discrepancies
from koda.discrepancy.blocks import SampledKernel, kernels_of
from koda.discrepancy.extension import Extension, extensions
from koda.embeddings import EmbeddingTable

N, SEARCHED = 240, 120
CONFIG = DiscrepancyConfig(modality="image", n_directions=3, device="cpu")


@pytest.fixture(scope="module")
def both():
    """Both questions on two models that group other samples: solutions and kernels by side, and the keys."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(N, 6))
    old, new = base.copy(), base.copy()
    old[:30] = 3 + 0.3 * base[:30]
    new[40:80] = -3 + 0.3 * base[40:80]
    keys = tuple(f"{row:03}" for row in rng.permutation(N))
    a, b = (EmbeddingTable(keys, image=values) for values in (old, new))
    lost = find_discrepancies(a.select(keys[:SEARCHED]), b.select(keys[:SEARCHED]), CONFIG)
    gained = find_discrepancies(b.select(keys[:SEARCHED]), a.select(keys[:SEARCHED]), CONFIG)
    of_a, of_b = kernels_of(lost, a, b)
    return {"lost": lost, "gained": gained}, {"lost": (of_a, of_b), "gained": (of_b, of_a)}, keys


@pytest.fixture
def made(monkeypatch):
    """Count the samples of which products with a kernel are made."""
    count: Counter[int] = Counter()
    times = SampledKernel.times

    def counted(self, rows, columns, weights):
        count[id(self)] += len(rows)
        return times(self, rows, columns, weights)

    monkeypatch.setattr(SampledKernel, "times", counted)
    return count


def test_the_values_are_those_of_each_alone_and_the_kernels_are_made_once(both, made):
    solutions, kernels, keys = both
    alone = {side: Extension(solutions[side], kernels[side]).values(keys) for side in solutions}
    separate = sum(made.values())
    made.clear()
    shared = extensions(solutions, kernels)
    for side, values in alone.items():
        np.testing.assert_allclose(shared[side].values(keys), values, rtol=1e-9, atol=1e-12)
    assert sum(made.values()) == separate / 2


def test_beyond_the_exact_inner_products_the_same_few_rows_serve_both(both, made, monkeypatch):
    solutions, kernels, keys = both
    exact = {side: Extension(solutions[side], kernels[side]).values(keys) for side in solutions}
    monkeypatch.setattr(module, "_EXACT_ROWS", 100)
    monkeypatch.setattr(module, "_DRAWN_ROWS", 60)
    made.clear()
    shared = extensions(solutions, kernels)
    for side, values in exact.items():
        # directions of the exact kernels span what these make of them, so that few rows tell it without error
        np.testing.assert_allclose(shared[side].values(keys), values, rtol=0, atol=1e-4 * np.abs(values).max())
    assert max(made.values()) <= 60 + (N - SEARCHED)  # once the drawn rows, once the new samples


def test_a_side_that_found_nothing_or_searched_others_leaves_the_other_alone(both):
    solutions, kernels, keys = both
    expected = Extension(solutions["lost"], kernels["lost"]).values(keys)
    nothing = replace(solutions["gained"], directions=())
    found = extensions({**solutions, "gained": nothing}, kernels)
    assert found["gained"].values(keys).shape == (0, N)
    np.testing.assert_allclose(found["lost"].values(keys), expected, rtol=1e-9, atol=1e-12)
    a, b = (kernel.table for kernel in kernels["lost"])
    others = find_discrepancies(b.select(keys[60:]), a.select(keys[60:]), CONFIG)
    found = extensions({"lost": solutions["lost"], "gained": others}, kernels)
    np.testing.assert_allclose(found["lost"].values(keys), expected, rtol=1e-9, atol=1e-12)
    alone = Extension(others, kernels["gained"]).values(keys)
    np.testing.assert_allclose(found["gained"].values(keys), alone, rtol=1e-9, atol=1e-12)
