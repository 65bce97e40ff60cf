"""The leading eigenvalues of a model's kernel."""

from __future__ import annotations

import numpy as np
import pytest

from koda.embeddings import EmbeddingTable
from koda.kernels import Kernel
from koda.metrics.spectra import leading_eigenvalues


def test_eigenvalues_equal_those_of_the_dense_matrix():
    x = np.random.default_rng(0).normal(size=(80, 4))
    table = EmbeddingTable([f"k{i}" for i in range(80)], image=x)
    dense = np.exp(-((x[:, None] - x[None]) ** 2).sum(2) / 2)
    want = np.linalg.eigvalsh(dense / 80)[::-1]
    assert leading_eigenvalues(table, Kernel({"image": 1.0})) == pytest.approx(want[:50], abs=1e-9)
    assert sum(leading_eigenvalues(table, Kernel({"image": 1.0}), count=80)) == pytest.approx(1)


def test_samples_that_are_all_alike_have_one_eigenvalue():
    table = EmbeddingTable([f"k{i}" for i in range(6)], image=np.ones((6, 3)))
    assert leading_eigenvalues(table, Kernel({"image": 1.0})) == pytest.approx([1, 0, 0, 0, 0, 0], abs=1e-9)
    assert min(leading_eigenvalues(table, Kernel({"image": None}, kind="cosine"))) >= 0
    assert leading_eigenvalues(table.take([0]), Kernel({"image": 1.0})) == [1.0]
