"""Folders that Hugging Face's own library saved."""

from __future__ import annotations

import json
import pickle
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from koda.config import DataConfig
from koda.datasets import PairDataset, decode_image, read_dataset, read_image
from koda.errors import DataError
from tests.datasets.layouts import entries, write_huggingface

datasets = pytest.importorskip("datasets")


def read(path: Path | str, **settings: Any) -> PairDataset:
    return read_dataset(DataConfig(path=str(path), **{"max_rejected": 99, **settings}))


def save(folder: Path, columns: dict[str, Any], **features: Any) -> Path:
    given = datasets.Features(features) if features else None
    datasets.Dataset.from_dict(columns, features=given).save_to_disk(folder / "saved")
    return folder / "saved"


IMAGES = [{"bytes": entry.image, "path": None} for entry in entries(3)]
TEXT = datasets.Value("string")


def test_columns_are_found_by_what_they_hold(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        {
            "picture": IMAGES,
            "text": ["a", "b", "c"],
            "label": [1, 0, 1],
            "score": [0.5, None, 2.0],
            "tags": [["x"]] * 3,
        },
        picture=datasets.Image(),
        text=TEXT,
        label=datasets.ClassLabel(names=["cat", "dog"]),
        score=datasets.Value("float32"),
        tags=datasets.Sequence(TEXT),
    )
    dataset = read(path)
    assert [pair.key for pair in dataset.pairs] == ["000000000", "000000001", "000000002"]
    assert [pair.caption for pair in dataset.pairs] == ["a", "b", "c"]
    assert [pair.metadata for pair in dataset.pairs] == [
        {"label": "dog", "score": 0.5},
        {"label": "cat", "score": None},
        {"label": "dog", "score": 2.0},
    ]
    assert [pair.key for pair in read(path, where="label = 'dog' AND score > 1").pairs] == ["000000002"]
    assert decode_image(pickle.loads(pickle.dumps(dataset.pairs[2]))).size == (5, 6)


def test_lists_of_captions(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        {"key": ["x", "y", "z"], "image": IMAGES, "captions": [["a", "b"], ["c"], []]},
        key=TEXT,
        image=datasets.Image(),
        captions=datasets.Sequence(TEXT),
    )
    assert {pair.key: pair.caption for pair in read(path).pairs} == {"x": "a", "y": "c"}
    dataset = read(path, captions="all")
    assert {pair.key: pair.caption for pair in dataset.pairs} == {"x#0": "a", "x#1": "b", "y": "c"}
    assert {rejection.key: rejection.reason for rejection in dataset.rejections} == {"z": "the caption is missing"}
    assert {read(path, captions="random", seed=seed).pairs[0].caption for seed in range(9)} == {"a", "b"}


def test_rows_of_the_same_key_and_image_are_captions_of_one_image(tmp_path: Path) -> None:
    images = [IMAGES[0], IMAGES[0], IMAGES[1], IMAGES[2]]
    features = {"id": datasets.Value("float64"), "image": datasets.Image(), "caption": TEXT}
    columns = {"id": [1.0, 1.0, 1.0, None], "image": images, "caption": ["a", "b", "c", "d"]}
    path = save(tmp_path, columns, **features)
    first = read(path, key_column="id")
    assert {pair.key: pair.caption for pair in first.pairs} == {"1": "a"}
    assert first.ledger.merged == {"another caption of the same image": 1}
    assert [item.kind for item in first.rejections] == ["duplicate key", "the column 'id' is empty"]
    every = read(path, key_column="id", captions="all")
    assert {"1#0": "a", "1#1": "b"}.items() <= {pair.key: pair.caption for pair in every.pairs}.items()
    assert every.ledger.n_source == 4


def test_columns_of_dates_and_lists(tmp_path: Path) -> None:
    features = {
        "image": datasets.Image(),
        "caption": TEXT,
        "day": datasets.Value("date32"),
        "v": datasets.Sequence(TEXT),
    }
    columns = {"image": IMAGES, "caption": ["a", "b", "c"], "day": [date(2026, 1, 2)] * 3, "v": [["x"]] * 3}
    dataset = read(save(tmp_path, columns, **features))
    assert [pair.metadata for pair in dataset.pairs] == [{"day": "2026-01-02"}] * 3
    assert [note.partition(":")[0] for note in dataset.ledger.notes] == ["the column 'v' is left out"]


def test_rows_are_numbered_through_all_files_whatever_their_captions(tmp_path: Path) -> None:
    columns = {"image": IMAGES, "caption": [["a", "b"], ["c", "d"], ["e"]], "filepath": ["x", "y", "z"]}
    features = datasets.Features(image=datasets.Image(), caption=datasets.Sequence(TEXT), filepath=TEXT)
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(tmp_path / "saved", num_shards=3)
    keys = [pair.key for pair in read(tmp_path / "saved", captions="all").pairs]
    assert keys == ["000000000#0", "000000000#1", "000000001#0", "000000001#1", "000000002"]
    assert [pair.metadata["filepath"] for pair in read(tmp_path / "saved").pairs] == ["x", "y", "z"]


def test_images_as_bare_bytes_slices_and_files(tmp_path: Path) -> None:
    whole = datasets.Dataset.from_dict({"image": [image["bytes"] for image in IMAGES], "title": ["a", "b", "c"]})
    whole.select([2, 0]).save_to_disk(tmp_path / "picked")
    dataset = read(tmp_path / "picked")
    assert [read_image(pair) for pair in dataset.pairs] == [IMAGES[2]["bytes"], IMAGES[0]["bytes"]]
    (tmp_path / "a.png").write_bytes(IMAGES[0]["bytes"])
    path = save(tmp_path, {"image": [str(tmp_path / "a.png")], "title": ["a"]}, image=datasets.Image(), title=TEXT)
    assert [read_image(pair) for pair in read(path).pairs] == [IMAGES[0]["bytes"]]


def test_a_folder_of_splits_asks_for_one(tmp_path: Path) -> None:
    one = datasets.Dataset.from_dict({"image": [b"x"], "title": ["a"]})
    datasets.DatasetDict({"train": one, "val": one}).save_to_disk(tmp_path / "both")
    with pytest.raises(DataError, match=r"splits train, val(.|\n)*both/train"):
        read(tmp_path / "both")
    assert len(read(tmp_path / "both" / "val", image_column="image").pairs) == 1


def test_unclear_columns_are_asked_for(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        {"a": IMAGES, "b": IMAGES, "words": ["x"] * 3},
        a=datasets.Image(),
        b=datasets.Image(),
        words=TEXT,
    )
    with pytest.raises(DataError, match=r"sure to be the image_column; its columns are 'a', 'b', 'words'"):
        read(path)
    with pytest.raises(DataError, match=r"sure to be the caption_column(.|\n)*data\.caption_column"):
        read(path, image_column="a")
    with pytest.raises(DataError, match="no column 'titles'"):
        read(path, image_column="a", caption_column="titles")
    with pytest.raises(DataError, match=r"no column 'id' \(data\.key_column\)"):
        read(path, image_column="a", caption_column="words", key_column="id")
    with pytest.raises(DataError, match="'words' holds string, not images"):
        read(path, image_column="words", caption_column="words")
    assert len(read(path, image_column="a", caption_column="words").pairs) == 3


def test_damaged_folders(tmp_path: Path) -> None:
    path = Path(write_huggingface(str(tmp_path), entries())["path"])
    file = path / "data-00000-of-00002.arrow"
    data = file.read_bytes()
    file.write_bytes(data[:-8])
    dataset = read(path)
    assert len(dataset.pairs) == 6
    assert [rejection.reason for rejection in dataset.rejections] == ["the file is damaged: it ends early"]
    file.write_bytes(data[:-300])
    dataset = read(path)
    assert len(dataset.pairs) == 3
    assert len(dataset.rejections) == 1
    for content in (b"", b"no arrow", data.replace(b"\0caption\0", b"\0\x80aption\0")):
        file.write_bytes(content)
        with pytest.raises(DataError, match="not an Arrow stream"):
            read(path)
    file.unlink()
    with pytest.raises(DataError, match="1 of 2 Arrow files are missing"):
        read(path)
    (path / "state.json").write_text(json.dumps({"_data_files": [{"filename": 3}]}), encoding="utf-8")
    with pytest.raises(DataError, match="does not list the files"):
        read(path)
    (path / "dataset_info.json").unlink()
    with pytest.raises(DataError, match=r"dataset_info\.json is missing|does not list"):
        read(path)
