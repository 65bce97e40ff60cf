"""Extensions of both questions together: the values that each has alone, from kernels that are made once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

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


@pytest.mark.parametrize("kernel", ["gaussian", "cosine"])
def test_after_a_search_with_features_a_direction_is_the_same_function_of_all_samples(both, kernel):
    _, kernels, _ = both
    a, b = (one.table for one in kernels["lost"])
    rng = np.random.default_rng(1)
    n = 1200
    rows = rng.integers(0, N, size=n)  # every sample stands several times in both halves, by a little noise apart
    tables = [
        EmbeddingTable([f"{row:04}" for row in range(n)], image=table.image[rows] + 1e-4 * rng.normal(size=(n, 6)))
        for table in (a, b)
    ]
    names = tables[0].keys
    features = {"features": "orf" if kernel == "gaussian" else "sketch", "n_features": 20, "kernel": kernel}
    if kernel == "gaussian":
        features["sigma"] = 2.0  # copies would have it choose one of their own distance
    config = CONFIG.model_copy(update=features)
    searched = [table.select(names[:800]) for table in tables]
    solutions = {"lost": find_discrepancies(*searched, config), "gained": find_discrepancies(*searched[::-1], config)}
    of_a, of_b = kernels_of(solutions["lost"], *tables)
    shared = extensions(solutions, {"lost": (of_a, of_b), "gained": (of_b, of_a)})
    for side, solution in solutions.items():
        assert solution.directions
        values = shared[side].values(names)  # (k, n)
        first = {row: values[0, place] for place, row in reversed(list(enumerate(rows[:800])))}
        new = [place for place in range(800, n) if rows[place] in first]
        # a copy of a sample has one term more than the sample itself, which scales all of them alike
        assert np.corrcoef(values[0, new], [first[rows[place]] for place in new])[0, 1] > 0.999
        alone = Extension(solution, (of_a, of_b) if side == "lost" else (of_b, of_a)).values(names)
        np.testing.assert_allclose(values, alone, rtol=1e-9, atol=1e-12)


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
