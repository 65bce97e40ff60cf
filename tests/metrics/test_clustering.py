"""Cluster scores, near-duplicates and lifts: what is planted is measured."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from koda.embeddings import EmbeddingTable
from koda.errors import DataError
from koda.metrics.clustering import cluster_scores, tops
from koda.slicing.duplicates import near_duplicate_share
from koda.slicing.words import lift_interval


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
    import koda.slicing.duplicates

    table = _table(noise=0.02)
    want = near_duplicate_share(table.keys, [None] * 60, [table, table], ["image"])
    monkeypatch.setattr(koda.slicing.duplicates, "_CHUNK_ROWS", 7)
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


def test_no_ranking_and_empty_rankings_have_no_tops():
    assert tops([]) == tops([[], []]) == {}
    assert tops([[], ["a"]]) == {"a": 1}


def test_as_many_directions_as_samples_are_all_told_apart():
    table = _table(groups=3, each=1)
    found = cluster_scores(table, {key: row for row, key in enumerate(table.keys)}, ["image"])
    assert (found.ami, found.nmi, found.ari) == pytest.approx((1.0, 1.0, 1.0))
    two = cluster_scores(table, {table.keys[0]: 0, table.keys[1]: 1}, ["image"])
    assert np.isfinite([two.ami, two.nmi, two.ari]).all()


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_samples_that_are_all_the_same_tell_no_direction_from_another():
    table = EmbeddingTable([f"k{i}" for i in range(12)], image=np.ones((12, 4)))
    labels = {key: row % 3 for row, key in enumerate(table.keys)}
    found = cluster_scores(table, labels, ["image"])
    assert (found.ami, found.nmi, found.ari) == pytest.approx((0.0, 0.0, 0.0))
    assert cluster_scores(table, labels, ["image"]) == found


def test_a_model_beside_itself_has_the_same_scores():
    table = _table(noise=0.5)
    labels = {key: row // 20 for row, key in enumerate(table.keys)}
    scaled = EmbeddingTable(table.keys, image=4 * table.image)
    assert cluster_scores(table, labels, ["image"]) == cluster_scores(scaled, labels, ["image"])


def test_scores_of_samples_that_cannot_be_used_are_refused():
    table = _table(groups=2, each=3)
    broken = table.image.copy()
    broken[4] = 0
    labels = {key: row // 3 for row, key in enumerate(table.keys)}
    with pytest.raises(DataError, match="zero or not finite, the first is that of 'k004'"):
        cluster_scores(EmbeddingTable(table.keys, image=broken), labels, ["image"])
    with pytest.raises(DataError, match="'nobody'"):
        cluster_scores(table, {**labels, "nobody": 0}, ["image"])
    with pytest.raises(DataError, match="zero or not finite"):
        near_duplicate_share(table.keys, [None] * 6, [EmbeddingTable(table.keys, image=broken)], ["image"])


def test_members_that_are_all_the_same_are_all_twins():
    keys = [f"k{i}" for i in range(7)]
    table = EmbeddingTable(keys, image=np.full((7, 3), 2.0))
    assert near_duplicate_share(keys, [None] * 7, [table, table], ["image"]) == 1.0
    assert near_duplicate_share(keys, ["same"] * 7, [table, table], ["image"]) == 1.0
    opposite = EmbeddingTable(keys[:2], image=np.array([[1.0, 0], [-1, 0]]))
    assert near_duplicate_share(keys[:2], [None] * 2, [opposite, opposite], ["image"]) == 0.0


def test_of_very_many_members_the_first_are_looked_at(monkeypatch):
    import koda.slicing.duplicates

    keys = [f"k{i}" for i in range(9)]
    rows = np.eye(9)
    rows[8] = rows[7]  # twins that are not among the first five
    table = EmbeddingTable(keys, image=rows)
    assert near_duplicate_share(keys, [None] * 9, [table], ["image"]) == pytest.approx(2 / 9)
    monkeypatch.setattr(koda.slicing.duplicates, "MAX_MEMBERS", 5)
    assert near_duplicate_share(keys, [None] * 9, [table], ["image"]) == 0.0
