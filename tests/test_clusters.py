"""Cluster scores, near-duplicates and lifts: what is planted is measured."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from koda.clusters import cluster_scores, tops
from koda.duplicates import near_duplicate_share
from koda.embeddings import EmbeddingTable
from koda.words import lift_interval


def _table(groups=3, each=20, noise=0.05, d=8, seed=0):
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.eye(groups, d), each, axis=0) + noise * rng.normal(size=(groups * each, d))
    keys = [f"k{i:03d}" for i in range(groups * each)]
    return EmbeddingTable(keys, image=rows, text=rng.permutation(rows))


def test_a_sample_belongs_to_the_direction_that_ranks_it_highest():
    assert tops([["a", "b", "c"], ["c", "d", "a"]]) == {"a": 0, "b": 0, "c": 1, "d": 1}
    assert tops([["a", "b"], ["c", "b"]]) == {"a": 0, "b": 0, "c": 1}  # a tie goes to the first
    assert tops([["a", "b", "c"]], top=2) == {"a": 0, "b": 0}


def test_groups_that_a_model_keeps_apart_score_one_and_others_near_zero():
    table = _table()
    labels = {key: row // 20 for row, key in enumerate(table.keys)}
    kept = cluster_scores(table, labels, ["image"])
    assert (kept.ami, kept.nmi, kept.ari) == pytest.approx((1.0, 1.0, 1.0))
    mixed = cluster_scores(table, labels, ["text"])
    assert abs(mixed.ami) < 0.15
    assert abs(mixed.ari) < 0.15
    both = cluster_scores(table, labels, ["image", "text"])
    assert mixed.ami < both.ami <= kept.ami
    assert both == cluster_scores(table, labels, ["image", "text"])


def test_one_direction_has_no_scores():
    table = _table()
    assert cluster_scores(table, dict.fromkeys(table.keys[:9], 0), ["image"]) is None
    assert cluster_scores(table, {}, ["image"]) is None


def test_twins_are_those_alike_under_both_models_and_in_every_modality():
    rng = np.random.default_rng(0)
    base = rng.normal(size=(10, 16))
    near = base.copy()
    near[1], near[3] = base[0] * 2, base[2] + 0.01  # two pairs of twins
    apart = near.copy()
    apart[3] = rng.normal(size=16)  # which the second model tells apart
    keys = [f"k{i}" for i in range(10)]
    first, second = (EmbeddingTable(keys, image=x, text=near) for x in (near, apart))
    none = [None] * 10
    assert near_duplicate_share(keys, none, [first, first], ["image"]) == pytest.approx(0.4)
    assert near_duplicate_share(keys, none, [first, second], ["image"]) == pytest.approx(0.2)
    assert near_duplicate_share(keys, none, [first, second], ["text"]) == pytest.approx(0.4)
    assert near_duplicate_share(keys, none, [first, second], ["image", "text"]) == pytest.approx(0.2)


def test_the_same_bytes_are_twins_whatever_the_models_say():
    rng = np.random.default_rng(0)
    keys = [f"k{i}" for i in range(5)]
    table = EmbeddingTable(keys, image=rng.normal(size=(5, 16)))
    assert near_duplicate_share(keys, ["a", "a", "b", "c", None], [table, table], ["image"]) == pytest.approx(0.4)
    assert near_duplicate_share(keys, [None] * 5, [table, table], ["image"]) == 0.0
    assert near_duplicate_share([], [], [table, table], ["image"]) is None
    assert near_duplicate_share(keys[:1], ["a"], [table, table], ["image"]) == 0.0


def test_pieces_do_not_matter(monkeypatch):
    import koda.duplicates

    table = _table(noise=0.02)
    want = near_duplicate_share(table.keys, [None] * 60, [table, table], ["image"])
    monkeypatch.setattr(koda.duplicates, "_CHUNK", 7)
    assert near_duplicate_share(table.keys, [None] * 60, [table, table], ["image"]) == want > 0.5


def test_a_lift_has_a_finite_interval_that_covers():
    lift, low, high = lift_interval(18, 20, 10, 100)
    log = np.sqrt(1 / 18.5 - 1 / 21 + 1 / 10.5 - 1 / 101) * norm.ppf(0.975)
    assert (low, high) == pytest.approx((lift * np.exp(-log), lift * np.exp(log)))
    assert all(np.isfinite(lift_interval(20, 20, 0, 500)))
    rng = np.random.default_rng(0)
    covered = 0
    for inside, outside in zip(rng.binomial(60, 0.4, 2000), rng.binomial(900, 0.1, 2000), strict=True):
        _, low, high = lift_interval(int(inside), 60, int(outside), 900)
        covered += low <= 4 <= high
    assert 0.93 <= covered / 2000 <= 0.97
