"""Products with a kernel over many samples, against the dense matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import koda.discrepancy.blocks
from koda.discrepancy.blocks import SampledKernel
from koda.embeddings import EmbeddingTable
from koda.errors import ConfigError, DataError
from koda.kernels import Kernel

N = 70


@pytest.fixture
def table() -> EmbeddingTable:
    rng = np.random.default_rng(0)
    return EmbeddingTable(
        [f"{row:02}" for row in range(N)], image=rng.normal(size=(N, 4)), text=rng.normal(size=(N, 3))
    )


KERNEL = Kernel({"image": 1.3, "text": 0.9})


def dense(table: EmbeddingTable) -> np.ndarray:
    total = sum(
        ((x[:, None] - x[None]) ** 2).sum(-1) / (2 * sigma**2)
        for x, sigma in ((np.asarray(table.image), 1.3), (np.asarray(table.text), 0.9))
    )
    return np.exp(-total)


@pytest.fixture(params=["made", "kept"])
def sampled(request: pytest.FixtureRequest, table: EmbeddingTable, monkeypatch: pytest.MonkeyPatch) -> SampledKernel:
    monkeypatch.setattr(koda.discrepancy.blocks, "_BLOCK_ROWS", 16)
    monkeypatch.setattr(koda.discrepancy.blocks, "_BLOCK_COLUMNS", 32)
    make = SampledKernel.kept if request.param == "kept" else SampledKernel.of
    return make(table, KERNEL, 0.3)


def close(sampled: SampledKernel) -> float:
    return 1e-6 if sampled.dtype == torch.float32 else 1e-13


def test_products_are_those_with_the_dense_matrix(table, sampled):
    k, rng = dense(table), np.random.default_rng(1)
    mixed = rng.permutation(N)[:30], rng.permutation(N)[:41]
    for rows, columns in ((np.arange(N), np.arange(10, 60)), mixed, (np.array([3]), np.array([3]))):
        weights = rng.normal(size=(len(columns), 3))
        expected = k[np.ix_(rows, columns)] @ weights
        np.testing.assert_allclose(sampled.times(rows, columns, weights), expected, atol=60 * close(sampled))
        assert sampled.mean(rows, columns) == pytest.approx(k[np.ix_(rows, columns)].mean(), abs=close(sampled))


def test_projections_and_means_leave_out_the_sample_itself(table, sampled):
    k, rows = dense(table) - np.eye(N), np.arange(20, 65)
    f = np.random.default_rng(2).normal(size=(45, 2))
    expected = f * (k[np.ix_(rows, rows)] @ f) / 44 / 0.3
    np.testing.assert_allclose(sampled.projections(rows, f), expected, atol=60 * close(sampled))
    off = k[np.ix_(rows, rows)].sum() / (45 * 44)
    assert sampled.mean(rows) == pytest.approx(off, abs=close(sampled))
    assert sampled.mean(rows[:1]) is None
    assert sampled.mean(rows[:0], rows) is None


def test_a_rescaled_kernel_is_that_of_other_bandwidths(table, sampled):
    rows = np.arange(N)
    wide = sampled.rescaled(2.0, sampled.nearest(rows))
    k = dense(table) ** 0.25  # exp(-d^2 / 2 (2 sigma)^2)
    weights = np.eye(N)
    np.testing.assert_allclose(wide.times(rows, rows, weights), k, atol=1e-5)
    off = k - np.eye(N)
    count = 1  # 1 % of 69 others
    assert wide.tie == pytest.approx(np.sort(off, axis=1)[:, -count:].mean(), rel=1e-4)


def test_samples_that_cannot_be_used_are_named(table):
    values = np.array(table.image)
    values[5] = np.nan
    broken = SampledKernel.of(EmbeddingTable(table.keys, image=values), Kernel({"image": 1.0}), 0.3)
    assert len(broken.rows(table.keys[:5])) == 5
    with pytest.raises(DataError, match="1 samples cannot be used, the first is '05'"):
        broken.rows(table.keys)
    with pytest.raises(DataError, match="not in the table"):
        broken.rows(["no such key"])
    with pytest.raises(ConfigError, match="text embeddings"):
        SampledKernel.of(EmbeddingTable(table.keys, image=values), KERNEL, 0.3)
    with pytest.raises(DataError, match="'05'"):
        SampledKernel.kept(EmbeddingTable(table.keys, image=values), Kernel({"image": 1.0}), 0.3)
