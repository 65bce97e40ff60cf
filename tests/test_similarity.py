"""Global similarity against independent computations, and at its edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from koda import EmbeddingTable
from koda.errors import DataError
from koda.similarity import global_similarity, linear_cka, mutual_neighbours


def table(x: np.ndarray, y: np.ndarray | None = None) -> EmbeddingTable:
    return EmbeddingTable([f"{i:05d}" for i in range(len(x))], image=x, text=y)


def test_cka_is_that_of_the_centred_gram_matrices() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2100, 6)), rng.normal(size=(2100, 9))
    y[:, :3] += 2 * x[:, :3]
    centre = np.eye(2100) - 1 / 2100
    k, m = (centre @ (z @ z.T) @ centre for z in (x, y))
    expected = (k * m).sum() / np.linalg.norm(k) / np.linalg.norm(m)
    assert linear_cka(torch.tensor(x), torch.tensor(y)) == pytest.approx(expected, rel=1e-9)


def test_neighbours_are_those_of_a_plain_sort() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(1100, 5)), rng.normal(size=(1100, 4))
    y[:, :2] += x[:, :2]

    def near(z: np.ndarray) -> np.ndarray:
        unit = z / np.linalg.norm(z, axis=1, keepdims=True)
        scores = unit @ unit.T
        np.fill_diagonal(scores, -np.inf)
        return np.argsort(-scores, axis=1)[:, :7]

    expected = np.mean([len(set(a) & set(b)) / 7 for a, b in zip(near(x), near(y), strict=True)])
    assert mutual_neighbours(torch.tensor(x), torch.tensor(y), 7) == pytest.approx(expected, abs=1e-12)


def test_a_rotated_and_scaled_model_is_the_same_and_noise_is_not() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(400, 16))
    q = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    same = global_similarity(table(x, x), table(0.1 * x @ q, x))
    assert set(same) == {"image", "text"}
    assert same["image"].cka == pytest.approx(1)
    assert same["image"].neighbours == 1
    other = global_similarity(table(x), table(rng.normal(size=(400, 16)), x))
    assert set(other) == {"image"}
    assert other["image"].cka < 0.1
    assert other["image"].neighbours == pytest.approx(other["image"].by_chance, abs=0.02)


def test_edges() -> None:
    x = np.ones((5, 3))
    found = global_similarity(table(x), table(np.eye(5)))["image"]
    assert (found.cka, found.k, found.n) == (0.0, 4, 5)
    with pytest.raises(DataError, match="same keys"):
        global_similarity(table(np.eye(4)), EmbeddingTable(list("dcba"), image=np.eye(4)))
    with pytest.raises(DataError, match="needs 3"):
        global_similarity(table(np.eye(2)), table(np.eye(2)))
