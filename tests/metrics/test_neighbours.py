"""Neighbours by a model's kernel, against the dense matrix."""

from __future__ import annotations

import numpy as np
import pytest

import koda.metrics.neighbours
from koda.embeddings import EmbeddingTable
from koda.errors import DataError
from koda.kernels import Kernel
from koda.metrics.neighbours import looked_among, nearest

SIGMAS = {"image": 2.0, "text": 3.0}


def _table(n=60, seed=0):
    image, text = np.random.default_rng(seed).normal(size=(2, n, 5))
    return EmbeddingTable([f"k{i:03d}" for i in range(n)], image=image, text=text)


def _dense(table):
    """Return the joint kernel, written out."""
    exponent = 0
    for name, sigma in SIGMAS.items():
        z = np.asarray(getattr(table, name))
        exponent = exponent + ((z[:, None] - z[None]) ** 2).sum(2) / (2 * sigma**2)
    return np.exp(-exponent)


@pytest.mark.parametrize("elements", [1, 200, 10_000_000])
def test_neighbours_equal_the_dense_reference(monkeypatch, elements):
    monkeypatch.setattr(koda.metrics.neighbours, "_BLOCK_ELEMENTS", elements)
    table = _table()
    matrix = _dense(table)
    contents = list(range(60))
    contents[7] = contents[3]  # a copy of another sample is no neighbour of it, nor it of the copy
    asked = ["k003", "k059", "k000", "k007"]
    found = nearest(table, Kernel(SIGMAS), asked, table.keys, contents)
    assert list(found) == asked
    for key in asked:
        row = table.keys.index(key)
        values = matrix[row].copy()
        values[[place for place in range(60) if contents[place] == contents[row]]] = -1
        want = np.argsort(-values, kind="stable")[:5]
        assert [near.key for near in found[key]] == [table.keys[place] for place in want]
        assert [near.similarity for near in found[key]] == pytest.approx(values[want], rel=1e-4)


def test_of_samples_that_are_all_alike_the_first_are_the_nearest():
    table = EmbeddingTable([f"k{i}" for i in range(8)], image=np.ones((8, 3)))
    found = nearest(table, Kernel({"image": 1.0}), ["k1"], table.keys, list(range(8)))
    assert [(near.key, near.similarity) for near in found["k1"]] == [(f"k{i}", 1.0) for i in (0, 2, 3, 4, 5)]
    copies = nearest(table, Kernel({"image": 1.0}), ["k1"], table.keys, ["same"] * 8)
    assert copies == {"k1": []}


def test_few_samples_have_few_neighbours():
    table = _table(3)
    found = nearest(table, Kernel(SIGMAS), ["k000"], table.keys, [0, 1, 2])
    assert {near.key for near in found["k000"]} == {"k001", "k002"}
    assert nearest(table, Kernel(SIGMAS), [], table.keys, [0, 1, 2]) == {}
    alone = _table(1)
    assert nearest(alone, Kernel(SIGMAS), ["k000"], alone.keys, [0]) == {"k000": []}


def test_of_very_many_samples_a_draw_stands_for_all(monkeypatch):
    monkeypatch.setattr(koda.metrics.neighbours, "MAX_SAMPLES", 20)
    table = _table()
    among = looked_among(table.keys, 3)
    assert len(among) == 20 and among == looked_among(table.keys, 3) != looked_among(table.keys, 4)
    found = nearest(table, Kernel(SIGMAS), ["k011"], among, list(range(60)))
    assert {near.key for near in found["k011"]} < set(among)


def test_what_no_kernel_can_use_is_refused():
    broken = EmbeddingTable(["a", "b"], image=np.array([[1.0, 2], [np.nan, 1]]))
    with pytest.raises(DataError, match="not finite"):
        nearest(broken, Kernel({"image": 1.0}), ["a"], broken.keys, [0, 1])
