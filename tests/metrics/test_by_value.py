"""Figures by metadata value: against a dense count, with a category that was lost, and on data with none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from koda.datasets import Pair
from koda.embeddings import EmbeddingTable
from koda.metrics.by_value import Group, by_value, groups_of
from koda.metrics.intervals import sign_test
from koda.metrics.retrieval import recall
from koda.metrics.zero_shot import zero_shot_by_subset
from koda.statistics import holm
from koda.typing import FloatArray

N = 240
KEYS = tuple(f"k{row:03d}" for row in range(N))
COLOURS = [("red", "green", "blue")[row % 3] for row in range(N)]
TASKS = [(direction, k) for direction in ("image_to_text", "text_to_image") for k in (1, 5, 10)]


def _table(image: FloatArray, text: FloatArray, images: Sequence[str] = KEYS) -> EmbeddingTable:
    return EmbeddingTable(KEYS, image, text, {"caption": [f"caption {k}" for k in KEYS], "image": list(images)})


def _embeddings(seed: int, noise: float = 0.5) -> tuple[FloatArray, FloatArray]:
    base = np.random.default_rng(0).normal(size=(N, 16))
    rng = np.random.default_rng([1, seed])
    return base + noise * rng.normal(size=base.shape), base + noise * rng.normal(size=base.shape)


def _recalls(candidate: EmbeddingTable, baseline: EmbeddingTable) -> dict[Any, Any]:
    return {"candidate": recall(candidate, groups="image"), "baseline": recall(baseline, groups="image")}


def _groups(columns: dict[str, list[Any]], held_out: Sequence[str] = KEYS) -> list[Group]:
    return groups_of(columns, KEYS, KEYS, held_out).kept


def test_every_figure_equals_a_dense_count() -> None:
    candidate, baseline = _embeddings(1, 0.9), _embeddings(2, 0.7)
    held_out = [KEYS[row] for row in range(N) if row % 5]
    measured = by_value(
        _groups({"colour": COLOURS}, held_out), _recalls(_table(*candidate), _table(*baseline)), {}, seed=3
    )
    assert [item.value for item in measured] == ["blue", "green", "red"]

    hits: dict[Any, list[Any]] = {}
    for image, text in (candidate, baseline):
        unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (image, text)]
        scores = unit[0] @ unit[1].T
        for direction, table in (("image_to_text", scores), ("text_to_image", scores.T)):
            ranks = (table >= np.diag(table)[:, None]).sum(axis=1)  # (n,)
            for k in (1, 5, 10):
                hits.setdefault((direction, k), []).append(ranks <= k)
    expected = []
    for item in measured:
        rows = [row for row in range(N) if row % 5 and COLOURS[row] == item.value]
        assert (item.column, item.n, item.n_images) == ("colour", 64, 64)
        for direction, k in TASKS:
            new, old = (part[rows] for part in hits[direction, k])
            seen = getattr(item, direction)[f"R@{k}"]
            assert (seen.candidate, seen.baseline) == (new.mean(), old.mean())
            assert seen.difference.value == pytest.approx(new.mean() - old.mean())
            assert seen.difference.low <= seen.difference.value <= seen.difference.high
            more, fewer = int((new & ~old).sum()), int((old & ~new).sum())
            expected.append(min(1.0, 2 * binom.cdf(min(more, fewer), more + fewer, 0.5)))  # McNemar, exact
    seen = [getattr(item, direction)[f"R@{k}"].p_value for item in measured for direction, k in TASKS]
    assert seen == pytest.approx(holm(expected))
    assert min(seen) < 0.05 < max(seen) < 1


def test_a_lost_category_is_found_and_no_other() -> None:
    image, text = _embeddings(1, 0.2)
    lost = np.array(COLOURS) == "green"
    broken = image.copy()
    broken[lost] = np.roll(broken[lost], 1, axis=0)  # each of its images is taken for the next one
    columns = {"colour": COLOURS, "shape": [("round", "square")[row // 2 % 2] for row in range(N)]}
    measured = by_value(_groups(columns), _recalls(_table(broken, text), _table(image, text)), {})
    (worst, *others) = sorted(measured, key=lambda item: item.image_to_text["R@1"].difference.value)
    assert (worst.column, worst.value) == ("colour", "green")
    assert worst.image_to_text["R@1"].p_value < 1e-10 and worst.image_to_text["R@1"].difference.value < -0.9
    for item in others:
        if item.column == "colour":
            assert min(shares.p_value for shares in item.retrieval.values()) > 0.05


def test_identical_models_differ_nowhere() -> None:
    table = _table(*_embeddings(1))
    measured = by_value(_groups({"colour": COLOURS}), _recalls(table, table), {})
    assert len(measured) == 3
    for item in measured:
        for shares in item.retrieval.values():
            assert (shares.p_value, shares.difference.value, shares.difference.low) == (1, 0, None)
            assert shares.baseline == shares.candidate


def test_independent_noise_is_rarely_significant() -> None:
    """The chance of any false row stays under the level, over many values and figures."""
    false = 0
    for seed in range(20):
        labels = np.random.default_rng([2, seed]).permutation(COLOURS)
        recalls = _recalls(_table(*_embeddings(3 + seed)), _table(*_embeddings(103 + seed)))
        measured = by_value(_groups({"colour": labels.tolist()}), recalls, {})
        false += any(shares.p_value < 0.05 for item in measured for shares in item.retrieval.values())
    assert false <= 3


def test_captions_of_one_image_are_one_trial() -> None:
    image, text = _embeddings(1, 0.2)
    images = [f"i{row // 2}" for row in range(N)]
    image = image[np.arange(N) // 2 * 2]
    text[1::2] = text[::2] + 0.05 * text[1::2]  # both captions are of the image
    broken = -text
    half = ["yes" if row < N // 2 else "no" for row in range(N)]
    recalls = _recalls(_table(image, broken, images), _table(image, text, images))
    (no, yes) = by_value(groups_of({"half": half}, KEYS, images, KEYS).kept, recalls, {})
    assert (yes.n, yes.n_images, yes.value, no.value) == (120, 60, "yes", "no")
    shares = yes.text_to_image["R@1"]
    lost = round(60 * -shares.difference.value)
    assert lost == 60
    assert shares.p_value == pytest.approx(12 * 2 * 0.5**60)  # 60 images, not 120 captions; 12 tests


def test_zero_shot_stands_beside_it_where_enough_samples_have_a_label() -> None:
    classes = np.eye(3, 16)
    right = np.arange(N) % 3
    image = classes[right] + 0.01 * np.random.default_rng(0).normal(size=(N, 16))
    broken = np.where((right == 1)[:, None], classes[0], image)
    tables = {"candidate": _table(broken, image), "baseline": _table(image, image)}
    labels = {key: int(right[row]) for row, key in enumerate(KEYS) if right[row] != 2 or row < 60}
    pairs = {key: Pair(key, None, key, None) for key in KEYS}
    vectors = dict.fromkeys(tables, classes)
    whole = zero_shot_by_subset(tables, vectors, labels, {}, pairs, ("candidate", "baseline"))[0]
    measured = {item.value: item for item in by_value(_groups({"colour": COLOURS}), {}, whole.ranks)}
    assert list(measured) == ["green", "red"]  # 20 of the blue ones have a label
    green, red = measured["green"].zero_shot, measured["red"].zero_shot
    assert green is not None and red is not None and measured["green"].retrieval == {}
    assert (green.baseline, green.candidate, green.difference.value) == (1, 0, -1)
    assert green.p_value == pytest.approx(2 * 2 * 0.5**80) and red.p_value == 1


def test_nothing_is_measured_where_a_model_cannot() -> None:
    groups = _groups({"colour": COLOURS})
    assert by_value(groups, {}, {}) == []
    assert by_value(groups, {"baseline": _recalls(*[_table(*_embeddings(1))] * 2)["baseline"]}, {}) == []
    assert by_value([], _recalls(*[_table(*_embeddings(1))] * 2), {}) == []


def test_columns_that_are_no_categories_say_why() -> None:
    columns: dict[str, list[Any]] = {
        "caption": COLOURS,
        "colour": [*COLOURS[:-4], None, float("nan"), " ", ""],
        "distinct": list(range(N)),
        "same": ["one"] * N,
        "empty": [float("nan")] * N,
        "many": [row % 51 for row in range(N)],
        "rare": [row % 50 for row in range(N)],
        "flag": [row % 2 == 0 for row in range(N)],
    }
    groups = groups_of(columns, KEYS, KEYS, KEYS[:120])
    assert {(group.column, group.value) for group in groups.kept} == {
        *(("colour", value) for value in ("red", "green", "blue")),
        ("flag", "True"),
        ("flag", "False"),
    }
    assert groups.left_out == 0
    assert groups.unmeasured == {
        "distinct": "it has 240 values, and a category has 2 to 50",
        "same": "it has 1 value, and a category has 2 to 50",
        "empty": "it has 0 values, and a category has 2 to 50",
        "many": "it has 51 values, and a category has 2 to 50",
        "rare": "no value of it has 30 held-out images",
    }
    assert groups_of({}, KEYS, KEYS, KEYS).kept == [] and groups_of({"colour": []}, [], [], []).kept == []


def test_a_value_needs_thirty_held_out_images_whatever_its_captions() -> None:
    held_out = [key for row, key in enumerate(KEYS) if COLOURS[row] != "red" or row < 87]
    assert {group.value for group in _groups({"colour": COLOURS}, held_out)} == {"green", "blue"}
    images = [f"i{row // 6}" for row in range(N)]
    assert {group.n_images for group in groups_of({"colour": COLOURS}, KEYS, images, KEYS).kept} == {40}
    assert groups_of({"colour": COLOURS}, KEYS, images, KEYS[:120]).kept == []


def test_the_largest_values_are_kept_and_the_others_counted() -> None:
    columns = {f"c{i:02d}": [row % 7 == 0 for row in range(N)] for i in range(150)}
    groups = groups_of(columns, KEYS, KEYS, KEYS)
    assert (len(groups.kept), groups.left_out) == (200, 100)
    assert [group.value for group in groups.kept[:150]] == ["False"] * 150
    columns = {f"c{i:03d}": [row % 2 == 0 for row in range(N)] for i in range(101)}
    assert groups_of(columns, KEYS, KEYS, KEYS).unmeasured == {
        "c100": "its values are smaller than the 200 that were measured"
    }


def test_the_sign_test_counts_groups_that_differ() -> None:
    ones, zeros = np.ones(10, dtype=bool), np.zeros(10, dtype=bool)
    assert sign_test(ones, ones) == 1 and sign_test(zeros[:0], zeros[:0]) == 1
    assert sign_test(ones, zeros) == pytest.approx(2 * 0.5**10)
    assert sign_test(ones, zeros, np.arange(10) // 2) == pytest.approx(2 * 0.5**5)
    assert sign_test(ones, zeros, np.zeros(10, dtype=np.int64)) == 1
    mixed = np.arange(10) % 2 == 0  # a query won and one lost in each group
    assert sign_test(mixed, ~mixed, np.arange(10) // 2) == 1
