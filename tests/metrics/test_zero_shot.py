"""Zero-shot: the vectors and ranks by hand, and what cannot be classified, in words."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import koda.metrics.zero_shot
from koda.config import DataConfig, ZeroShotConfig
from koda.datasets import read_dataset
from koda.errors import ConfigError, DataError
from koda.metrics.zero_shot import class_vectors, classes_of, classify

CPU = torch.device("cpu")


def _ranks(*given):
    return classify(*given)[0]


def test_a_class_is_the_mean_of_its_unit_embeddings():
    seen = []

    def encode(texts):
        seen.extend(texts)
        return np.array([[len(text), text.count("cat") * 9.0, 1.0] for text in texts])

    found = class_vectors(encode, ["cat", "dog"], ["a {}", "one {} here"])
    assert seen == ["a cat", "one cat here", "a dog", "one dog here"]
    rows = encode(["a cat", "one cat here"])
    mean = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).mean(axis=0)
    assert found[0] == pytest.approx(mean / np.linalg.norm(mean))


@pytest.mark.parametrize("chunk", [1, 50, 10_000_000])
def test_ranks_equal_a_loop(monkeypatch, chunk):
    monkeypatch.setattr(koda.metrics.zero_shot, "_CHUNK_ELEMENTS", chunk)
    rng = np.random.default_rng(0)
    images, right = rng.normal(size=(40, 6)), rng.integers(0, 7, 40)
    vectors = class_vectors(lambda texts: rng.normal(size=(len(texts), 6)), list("abcdefg"), ["{}"])
    want = []
    for image, own in zip(images, right, strict=True):
        scores = vectors @ (image / np.linalg.norm(image))
        want.append(1 + sum(scores[c] >= scores[own] - 1e-6 for c in range(7) if c != own))
    assert _ranks(images, vectors, right, CPU).tolist() == want


def test_classes_that_are_all_alike_are_never_right():
    vectors = np.repeat(np.eye(1, 4), 3, axis=0)
    assert _ranks(np.ones((5, 4)), vectors, np.zeros(5, dtype=np.int64), CPU).tolist() == [3] * 5


def test_embeddings_without_direction_are_refused():
    with pytest.raises(DataError, match="'a dog' is zero"):
        class_vectors(lambda texts: np.array([[1.0, 0], [0, 0]]), ["cat", "dog"], ["a {}"])
    with pytest.raises(DataError, match="'cat'"):
        class_vectors(lambda texts: np.array([[1.0, 0], [-1, 0], [0, 1], [0, 1]]), ["cat", "dog"], ["{}", "a {}"])


def test_the_classes_are_a_list_or_the_values_of_a_column(pairs_folder):
    data = read_dataset(DataConfig(path=str(pairs_folder(6))))
    classes, right = classes_of(ZeroShotConfig(column="colour"), data)
    assert classes == ("blue", "red")
    assert sorted(right.values()) == [0, 0, 0, 1, 1, 1]
    classes, right = classes_of(ZeroShotConfig(classes=("green", "red"), label_column="colour"), data)
    assert classes == ("green", "red")
    assert len(right) == 3  # the blue ones are left out
    with pytest.raises(ConfigError, match=r"(?s)no column 'color'.*Did you mean 'colour'"):
        classes_of(ZeroShotConfig(column="color"), data)
    with pytest.raises(ConfigError, match="no sample's colour is one of the classes"):
        classes_of(ZeroShotConfig(classes=("cat", "dog"), label_column="colour"), data)


def test_a_column_of_one_value_tells_nothing_apart(pairs_folder):
    rows = ["filepath\ttitle\tcolour"] + [f"{i:03d}.png\tcaption {i}\tred" for i in range(4)]
    data = read_dataset(DataConfig(path=str(pairs_folder(4, rows))))
    with pytest.raises(ConfigError, match="1 value;"):
        classes_of(ZeroShotConfig(column="colour"), data)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "either classes"),
        ({"classes": ["a", "b"], "column": "c"}, "either classes"),
        ({"classes": ["a", "b"]}, "label_column names"),
        ({"classes": ["a", "a"], "label_column": "c"}, "stands twice"),
        ({"column": "c", "templates": ["a photo"]}, "needs {} once"),
        ({"column": "c", "templates": ["{} and {}"]}, "needs {} once"),
    ],
)
def test_settings_that_contradict_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        ZeroShotConfig.model_validate(settings)


def test_a_class_without_a_sample_stays_in_the_race(pairs_folder):
    data = read_dataset(DataConfig(path=str(pairs_folder(6))))
    classes, right = classes_of(ZeroShotConfig(classes=("blue", "green", "red"), label_column="colour"), data)
    assert classes == ("blue", "green", "red")
    assert set(right.values()) == {0, 2}
    vectors = np.eye(3)
    image = np.array([[0.5, 0.9, 0.1]])  # nearest to the class that no sample has
    assert _ranks(image, vectors, np.array([0]), CPU).tolist() == [2]


def test_one_image_two_classes_and_copies_of_an_image():
    vectors = np.eye(2)
    assert _ranks(np.array([[3.0, 1.0]]), vectors, np.array([0]), CPU).tolist() == [1]
    copies = np.repeat([[3.0, 1.0]], 5, axis=0)
    assert _ranks(copies, vectors, np.array([0, 1, 0, 1, 0]), CPU).tolist() == [1, 2, 1, 2, 1]
    assert _ranks(copies[:0], vectors, np.array([], dtype=np.int64), CPU).tolist() == []


def test_an_image_without_direction_is_wrong_for_every_class():
    assert _ranks(np.zeros((1, 3)), np.eye(3), np.array([1]), CPU).tolist() == [3]


def test_one_template_and_one_dimension_make_vectors_too():
    found = class_vectors(lambda texts: np.array([[float(len(text))] for text in texts]), ["a", "bbb"], ["{}"])
    assert found.tolist() == [[1.0], [1.0]]
    with pytest.raises(DataError, match="zero or not finite"):
        class_vectors(lambda texts: np.full((len(texts), 2), np.nan), ["a", "b"], ["{}"])


def test_labels_that_are_absent_are_left_out(pairs_folder):
    rows = ["filepath\ttitle\tcolour"] + [
        f"{i:03d}.png\tcaption {i}\t{c}" for i, c in enumerate(["red", "", "blue", ""])
    ]
    data = read_dataset(DataConfig(path=str(pairs_folder(4, rows))))
    classes, right = classes_of(ZeroShotConfig(column="colour"), data)
    assert classes == ("blue", "red")
    assert len(right) == 2
