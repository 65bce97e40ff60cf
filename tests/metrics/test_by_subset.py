"""Figures of several models on parts of the samples: the same as asking about each part alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from koda.datasets import Pair
from koda.embeddings import EmbeddingTable
from koda.errors import DataError
from koda.metrics.identity import image_ids, with_captions_and_images
from koda.metrics.intervals import paired_difference, wilson
from koda.metrics.retrieval import SubsetRecalls, recall, recall_difference, retrieval_by_subset
from koda.metrics.zero_shot import zero_shot_by_subset
from koda.records import ALL, REST, Subset

PART, OTHER = Subset("lost", 1, "positive"), Subset("lost", 1, "negative")
KEYS = [f"k{i}" for i in range(24)]
BOTH = ("new", "old")


def _pairs(keys: Sequence[str]) -> dict[str, Pair]:
    """Pairs of which each two in a row are one image, but for the last, whose digest is not known."""
    return {
        key: Pair(key, None, f"caption {row}", None if key == keys[-1] else f"image {row // 2}")
        for row, key in enumerate(keys)
    }


def _table(seed: int, n: int = 24) -> EmbeddingTable:
    base = np.random.default_rng(0).normal(size=(n, 6))
    image, text = (base + 0.8 * np.random.default_rng([seed, part]).normal(size=(n, 6)) for part in (0, 1))
    return with_captions_and_images(EmbeddingTable(KEYS[:n], image, text), _pairs(KEYS[:n]))


def _by(parts: Sequence[SubsetRecalls[str]]) -> dict[Subset, SubsetRecalls[str]]:
    return {part.subset: part for part in parts}


def test_the_same_bytes_under_several_keys_are_one_image() -> None:
    table = _table(1, 5)
    assert image_ids(table.keys, _pairs(KEYS[:5])) == ["image 0", "image 0", "image 1", "image 1", "k4"]
    assert list(table.metadata) == ["caption", "image"] and table.metadata["caption"][3] == "caption 3"


def test_retrieval_of_a_part_is_that_of_asking_only_these() -> None:
    tables = {"old": _table(1), "new": _table(2), "third": _table(3)}
    asked = [KEYS[row] for row in (5, 0, 9, 2)]
    measured = retrieval_by_subset(tables, {PART: asked, REST: []}, BOTH, seed=4)
    assert [part.subset for part in measured] == [ALL, PART]
    for part, queries in zip(measured, (None, asked), strict=True):
        alone = {name: recall(table, groups="image", queries=queries) for name, table in tables.items()}
        assert {name: result.estimates() for name, result in part.recalls.items()} == {
            name: result.estimates() for name, result in alone.items() if result is not None
        }
        assert alone["new"] is not None and alone["old"] is not None and part.difference is not None
        expected = recall_difference(alone["new"], alone["old"], seed=4)
        assert part.difference.image_to_text == expected["image_to_text"]
        assert part.difference.text_to_image == expected["text_to_image"]
    assert (measured[1].difference.n, measured[1].difference.n_images) == (4, 4)  # type: ignore[union-attr]


def test_a_part_that_is_the_whole_set_has_no_others() -> None:
    tables = {"old": _table(1, 6), "new": _table(2, 6)}
    keys = KEYS[:6]
    parts = _by(retrieval_by_subset(tables, {PART: keys, OTHER: keys[:2]}, BOTH, rests={PART: keys, OTHER: keys[:2]}))
    assert list(parts) == [ALL, PART, OTHER, OTHER.others]
    assert parts[PART].recalls["old"].estimates() == parts[ALL].recalls["old"].estimates()
    assert parts[OTHER.others].recalls["new"].text_to_image.keys == tuple(keys[2:])


def test_the_rest_of_a_part_may_leave_out_more_than_the_part() -> None:
    """The held-out members of a slice are asked; its rest is all that is not in the slice."""
    tables = {"old": _table(1, 6), "new": _table(2, 6)}
    parts = _by(retrieval_by_subset(tables, {PART: KEYS[:2], OTHER: KEYS[:1]}, BOTH, rests={PART: KEYS[:4]}))
    assert list(parts) == [ALL, PART, PART.others, OTHER]
    assert parts[PART.others].recalls["new"].text_to_image.keys == tuple(KEYS[4:6])


def test_one_sample_is_a_set_without_others() -> None:
    parts = retrieval_by_subset({"old": _table(1, 1)}, {PART: KEYS[:1]}, BOTH, rests={PART: KEYS[:1]})
    assert [part.subset for part in parts] == [ALL, PART]


def test_models_that_cannot_retrieve_have_no_parts_to_measure() -> None:
    table = _table(1).only(["image"])
    assert retrieval_by_subset({"old": table, "new": table}, {PART: KEYS[:1]}, BOTH) == []
    (whole,) = retrieval_by_subset({"old": table, "new": _table(2)}, {}, BOTH)
    assert (list(whole.recalls), whole.difference) == (["new"], None)


def test_a_part_with_an_unknown_sample_is_refused() -> None:
    with pytest.raises(DataError, match="not in the table"):
        retrieval_by_subset({"old": _table(1)}, {PART: ["other"]}, BOTH)


def test_zero_shot_of_a_part_counts_its_labelled_samples() -> None:
    tables = {"old": _table(1), "new": _table(2)}
    names = np.random.default_rng(8).normal(size=(6, 6))
    vectors = {name: names / np.linalg.norm(names, axis=1, keepdims=True) for name in tables}
    labels = {key: row % 6 for row, key in enumerate(KEYS) if row % 4}
    subsets = {PART: KEYS[:9], OTHER: KEYS[:1]}  # the one sample of the last has no label
    measured = zero_shot_by_subset(tables, vectors, labels, subsets, _pairs(KEYS), BOTH, seed=4)
    assert [(part.subset, part.n) for part in measured] == [(ALL, 18), (PART, 6)]
    for part, keys in zip(measured, (KEYS, KEYS[:9]), strict=True):
        asked = [key for key in keys if key in labels]
        hits = {}
        for name, table in tables.items():
            assert table.image is not None
            scores = table.image @ vectors[name].T  # (n, c)
            ranks = (scores >= scores[np.arange(24), [labels.get(key, 0) for key in KEYS]][:, None]).sum(axis=1)
            hits[name] = ranks[[KEYS.index(key) for key in asked]] == 1
            assert part.tops[name]["top-1"] == wilson(int(hits[name].sum()), len(asked))
            assert list(part.tops[name]) == ["top-1", "top-5"]
        groups = np.array([KEYS.index(key) // 2 if key != KEYS[-1] else 99 for key in asked])
        expected = paired_difference(hits["new"], hits["old"], groups, seed=4)
        assert part.difference is not None and part.difference.top["top-1"].value == expected.value


def test_a_depth_of_all_classes_is_left_out_and_without_vectors_nothing_is_measured() -> None:
    tables = {"old": _table(1), "new": _table(2)}
    labels = dict.fromkeys(KEYS, 0)
    (whole,) = zero_shot_by_subset(tables, {"old": np.eye(3, 6)}, labels, {}, _pairs(KEYS), BOTH)
    assert (list(whole.tops), list(whole.tops["old"]), whole.difference) == (["old"], ["top-1"], None)
    assert zero_shot_by_subset(tables, {}, labels, {}, _pairs(KEYS), BOTH) == []
    assert zero_shot_by_subset(tables, {"old": np.eye(3, 6)}, {}, {}, _pairs(KEYS), BOTH) == []


def test_drawn_queries_stand_for_all_and_the_parts_are_asked_beside_them() -> None:
    tables = {"old": _table(1), "new": _table(2)}
    drawn, outside = KEYS[4:16], KEYS[14:20]  # the part is drawn in part
    whole = _by(retrieval_by_subset(tables, {PART: outside}, BOTH, rests={PART: outside}))
    parts = _by(retrieval_by_subset(tables, {PART: outside}, BOTH, drawn=drawn, rests={PART: outside}))
    assert parts[ALL].recalls["old"].estimates() == whole[ALL].recalls["old"].among(drawn).estimates()
    assert parts[PART].recalls["new"].estimates() == whole[PART].recalls["new"].estimates()
    assert parts[PART.others].recalls["new"].text_to_image.keys == tuple(KEYS[4:14])
    assert parts[ALL].difference is not None and parts[ALL].difference.n == 12
    assert parts[ALL].recalls["old"].text_to_image.n_gallery == whole[ALL].recalls["old"].text_to_image.n_gallery
