"""Global similarity against independent computations, and at its edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from koda import EmbeddingTable
from koda.errors import DataError
from koda.metrics.similarity import global_similarity, linear_cka, mutual_neighbours


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


def test_a_model_beside_itself_is_alike_whatever_its_rows() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(40, 6))
    x[10:20] = x[0]  # copies, whose neighbours are ties
    x[5] = 0
    found = global_similarity(table(x), table(x.copy()))["image"]
    assert found.cka == pytest.approx(1)
    assert found.neighbours == 1


def test_three_samples_are_the_fewest_and_have_every_other_as_neighbour() -> None:
    rng = np.random.default_rng(4)
    found = global_similarity(table(rng.normal(size=(3, 2))), table(rng.normal(size=(3, 5))))["image"]
    assert (found.k, found.n, found.by_chance, found.neighbours) == (2, 3, 1.0, 1.0)
    assert 0 <= found.cka <= 1


def test_both_constant_and_zero_rows_give_finite_figures() -> None:
    for x, y in ((np.ones((6, 2)), np.ones((6, 3))), (np.zeros((6, 2)), np.eye(6)), (np.zeros((6, 2)),) * 2):
        found = global_similarity(table(x), table(y))["image"]
        assert found.cka == 0.0
        assert 0 <= found.neighbours <= 1


def test_one_dimension_is_enough() -> None:
    x = np.arange(1.0, 8.0)[:, None]
    found = global_similarity(table(x), table(-2 * x))["image"]
    assert found.cka == pytest.approx(1)


def test_the_cka_of_more_rows_than_are_read_at_a_time_is_that_of_all() -> None:
    rng = np.random.default_rng(5)
    x = (rng.normal(size=(70_000, 3)) + np.arange(70_000)[:, None] / 30_000).astype(np.float16)
    y = np.concatenate([x[:, :1], rng.normal(size=(70_000, 1)).astype(np.float16)], axis=1)
    u, v = (part.astype(np.float64) - part.astype(np.float64).mean(axis=0) for part in (x, y))
    expected = np.linalg.norm(u.T @ v) ** 2 / (np.linalg.norm(u.T @ u) * np.linalg.norm(v.T @ v))
    assert linear_cka(torch.tensor(x), torch.tensor(y)) == pytest.approx(expected, rel=1e-9)


def test_models_without_a_common_modality_have_no_figures() -> None:
    x = np.eye(4)
    keys = [f"{i:05d}" for i in range(4)]
    assert global_similarity(table(x), EmbeddingTable(keys, text=x)) == {}


def test_neighbours_of_many_samples_are_those_of_a_seeded_part(monkeypatch: pytest.MonkeyPatch) -> None:
    import koda.metrics.similarity

    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(60, 4)), rng.normal(size=(60, 4))
    whole = global_similarity(table(x), table(y))["image"]
    monkeypatch.setattr(koda.metrics.similarity, "MAX_SAMPLES", 25)
    part, again, other = (global_similarity(table(x), table(y), seed=seed)["image"] for seed in (0, 0, 1))
    assert part == again != other
    assert part.n == 25
    assert part.cka == whole.cka  # of all samples
