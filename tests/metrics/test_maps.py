"""Maps of the same samples under two models: what is near stays near, and the same samples give the same maps."""

from __future__ import annotations

import numpy as np
import pytest

from koda.embeddings import EmbeddingTable
from koda.metrics.maps import maps


def _tables(n=90, seed=0):
    """Return three groups under the baseline, of which the candidate holds two together."""
    rng = np.random.default_rng(seed)
    centres = 4 * np.eye(3, 6)
    merged = centres[[0, 1, 1]]
    keys = [f"k{i:03d}" for i in range(n)]
    group = np.arange(n) % 3
    noise = rng.normal(size=(2, n, 6)) * 0.3
    text = rng.normal(size=(n, 4)) * 0.1 + 1
    tables = [
        EmbeddingTable(keys, image=place[group] + part, text=text)
        for place, part in ((centres, noise[0]), (merged, noise[1]))
    ]
    return tables[0], tables[1], group


def _apart(points, group, a, b):
    """Return the distance between two groups over their spread."""
    first, second = points[group == a], points[group == b]
    spread = sum(np.linalg.norm(part - part.mean(0), axis=1).mean() for part in (first, second))
    return np.linalg.norm(first.mean(0) - second.mean(0)) / spread


@pytest.fixture(scope="module")
def mapped():
    baseline, candidate, group = _tables()
    return maps(baseline, candidate, ("image", "text"), seed=0), group


def test_groups_that_a_model_holds_apart_lie_apart(mapped):
    found, group = mapped
    assert min(_apart(found.baseline, group, a, b) for a, b in ((0, 1), (0, 2), (1, 2))) > 1.5
    assert _apart(found.candidate, group, 0, 1) > 1.5
    assert _apart(found.candidate, group, 1, 2) < 0.7


def test_the_candidate_lies_upon_the_baseline(mapped):
    found, group = mapped
    own = np.array([found.baseline[group == a].mean(0) for a in range(3)])
    other = np.array([found.candidate[group == a].mean(0) for a in range(3)])
    assert (own[0] @ other[0]) / (np.linalg.norm(own[0]) * np.linalg.norm(other[0])) > 0.8


def test_the_same_samples_give_the_same_map_and_the_method_is_stated(mapped):
    found, _ = mapped
    baseline, candidate, _ = _tables()
    again = maps(baseline, candidate, ("image", "text"), seed=0)
    assert again.baseline.tobytes() == found.baseline.tobytes()
    assert again.candidate.tobytes() == found.candidate.tobytes()
    assert (np.round(found.baseline, 4) == found.baseline).all()
    assert "image and text embeddings" in found.method and "perplexity 29" in found.method


@pytest.mark.parametrize("n", [10, 11, 31])
def test_few_samples_that_are_all_alike_have_a_map_without_nan(n):
    same = EmbeddingTable([f"k{i}" for i in range(n)], image=np.ones((n, 3)))
    other = EmbeddingTable(same.keys, image=np.random.default_rng(0).normal(size=(n, 3)))
    for first, second in ((same, same), (same, other), (other, same)):
        found = maps(first, second, ("image",), seed=0)
        assert found is not None
        assert np.isfinite(found.baseline).all() and np.isfinite(found.candidate).all()
        assert found.baseline.shape == found.candidate.shape == (n, 2)


def test_embeddings_in_one_dimension_have_a_map():
    line = EmbeddingTable([f"k{i}" for i in range(20)], image=np.where(np.arange(20) % 2, 1.0, -1.0)[:, None])
    found = maps(line, line, ("image",), seed=0)
    assert found is not None and np.isfinite(found.baseline).all()


def test_under_ten_samples_there_is_no_map():
    few = EmbeddingTable([f"k{i}" for i in range(9)], image=np.eye(9))
    assert maps(few, few, ("image",), seed=0) is None
