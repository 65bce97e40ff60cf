"""COCO captions: several captions an image, and entries that fit nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from koda.config import DataConfig
from koda.datasets import PairDataset, read_dataset
from koda.errors import DataError

IMAGES = [{"id": 7, "file_name": "a.png", "width": 5, "licence": {"not": "scalar"}}, {"id": "8", "file_name": "b.png"}]
ANNOTATIONS = [
    {"id": 3, "image_id": 7, "caption": "third"},
    {"id": 1, "image_id": 7, "caption": "first"},
    {"id": 2, "image_id": "7", "caption": "second"},
    {"id": 4, "image_id": 8, "caption": "other"},
]


@pytest.fixture(autouse=True)
def _images(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(name.encode())


def read(folder: Path, images: Any = IMAGES, annotations: Any = ANNOTATIONS, **settings: Any) -> PairDataset:
    path = folder / "captions.json"
    path.write_text(json.dumps({"info": {}, "images": images, "annotations": annotations}), encoding="utf-8")
    return read_dataset(DataConfig(path=str(path), max_rejected=99, **settings))


def captions(dataset: PairDataset) -> dict[str, str]:
    return {pair.key: pair.caption for pair in dataset.pairs}


def test_first_is_by_the_ids_of_the_captions_not_by_their_place(tmp_path: Path) -> None:
    dataset = read(tmp_path)
    assert captions(dataset) == {"7": "first", "8": "other"}
    assert read(tmp_path, IMAGES[::-1], ANNOTATIONS[::-1]).digest == dataset.digest
    assert dataset.ledger.notes == ["left out, since they hold lists or objects: 'licence'"]
    assert dataset.pairs[0].metadata == {"annotation_id": "1", "file_name": "a.png", "width": 5}
    assert dataset.pairs[1].metadata == {"annotation_id": "4", "file_name": "b.png", "width": None}


def test_all_captions_are_pairs_of_their_own(tmp_path: Path) -> None:
    dataset = read(tmp_path, captions="all")
    assert captions(dataset) == {"7#0": "first", "7#1": "second", "7#2": "third", "8#0": "other"}
    assert dataset.n_source == 4
    assert dataset.n_duplicate_images == 2
    assert read(tmp_path, captions="all", annotations=ANNOTATIONS[::-1]).digest == dataset.digest


def test_random_is_drawn_with_the_seed(tmp_path: Path) -> None:
    found = {captions(read(tmp_path, captions="random", seed=seed))["7"] for seed in range(20)}
    assert found == {"first", "second", "third"}
    assert read(tmp_path, captions="random", seed=2).digest == (
        read(tmp_path, annotations=ANNOTATIONS[::-1], captions="random", seed=2).digest
    )


def test_nothing_is_lost_without_a_word(tmp_path: Path) -> None:
    images = [*IMAGES, {"id": 9, "file_name": "c.png"}, {"id": 7, "file_name": "b.png"}, {"id": 10}, 5, {"id": True}]
    strays = [{"image_id": 99, "caption": "x"}, {"image_id": 7}, {"caption": "x"}, None]
    dataset = read(tmp_path, images, [*ANNOTATIONS, *strays, {"image_id": 10, "caption": "ten"}])
    assert captions(dataset) == {"7": "first", "8": "other"}
    assert {rejection.key: rejection.reason for rejection in dataset.rejections} == {
        "9": "the image has no caption",
        "7": "duplicate key: an earlier image has it",
        "10": "malformed image: no file_name",
        "image 6": "malformed image: an entry without an id",
        "image 7": "malformed image: an entry without an id",
        "annotation 5": "the image of the annotation is not in the file: 99",
        "annotation 6": "malformed annotation: an entry without a caption",
        "annotation 7": "malformed annotation: an entry without an image_id",
        "annotation 8": "malformed annotation: an entry without an image_id",
    }
    assert dataset.n_source == 11


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "captions.json is not JSON: line 1"),
        ('{"images": []}', "not a COCO captions file: it has no list 'annotations'"),
        ("[]", "no list 'images'"),
        ("[" * 100_000, "not JSON: it is nested too deeply"),
        ('{"images": [], "annotations": []}', "it has no rows"),
        ('"\udcff"', "line 1: not UTF-8"),
    ],
)
def test_other_files_are_refused_in_words(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "captions.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=words):
        read_dataset(DataConfig(path=str(path)))


def test_a_list_of_captions_in_an_annotation_is_several_captions(tmp_path: Path) -> None:
    lists = [{"id": 1, "image_id": 7, "caption": ["one", "nan", "two"]}, {"id": 2, "image_id": 8, "caption": ["None"]}]
    dataset = read(tmp_path, annotations=lists, captions="all")
    assert captions(dataset) == {"7#0": "one", "7#1": "two"}
    assert {item.key: item.kind for item in dataset.rejections} == {
        "8": "the image has no caption",
        "annotation 2": "malformed annotation",
    }
    assert (dataset.ledger.n_source, dataset.ledger.n_split) == (3, 1)


def test_half_a_character_is_a_rejection(tmp_path: Path) -> None:
    dataset = read(tmp_path, annotations=[{"image_id": 7, "caption": "\ud83d"}, ANNOTATIONS[3]])
    assert [rejection.reason.split(":")[0] for rejection in dataset.rejections] == ["the caption is not text"]


def test_the_image_folder_is_there(tmp_path: Path) -> None:
    read(tmp_path)
    with pytest.raises(DataError, match=r"image folder \S+no does not exist(.|\n)*data\.images"):
        read_dataset(DataConfig(path=str(tmp_path / "captions.json"), images=str(tmp_path / "no")))
