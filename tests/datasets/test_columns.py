"""Columns of every type: carried as text and numbers, or left out with a note."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from koda.config import DataConfig
from koda.datasets import PairDataset, read_dataset
from koda.errors import DataError

FILES = ["0.png", "1.png", "2.png"]
TITLES = ["a", "b", "c"]
DAY = datetime.date(2026, 1, 2)
MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5)


def read(folder: Path, columns: dict[str, Any], **settings: Any) -> PairDataset:
    for name in FILES:
        (folder / name).write_bytes(name.encode())
    pq.write_table(pa.table({"filepath": FILES, "title": TITLES, **columns}), folder / "t.parquet")
    return read_dataset(DataConfig.model_validate({"path": str(folder / "t.parquet"), "max_rejected": 99, **settings}))


@pytest.mark.parametrize(
    ("values", "carried"),
    [
        (pa.array([b"x", b"\xc3\xa9", None]), ["x", "é", None]),
        (pa.array([DAY, None, DAY]), ["2026-01-02", None, "2026-01-02"]),
        (pa.array([MOMENT] * 3, pa.timestamp("ns")), ["2026-01-02 03:04:05"] * 3),
        (pa.array([MOMENT] * 3, pa.timestamp("us", "Europe/Berlin")), ["2026-01-02 03:04:05Z"] * 3),
        (pa.array([datetime.time(1, 2)] * 3), ["01:02:00"] * 3),
        (pa.array([5, None, 7], pa.duration("s")), ["5 s", None, "7 s"]),
        (pa.array([Decimal("1.20"), None, Decimal("3.00")]), ["1.20", None, "3.00"]),
        (pa.array([0.5, float("nan"), None]), [0.5, None, None]),
        (pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "y", "x"]),
        (pa.array([True, None, False]), [True, None, False]),
        (pa.array([2**63, 1, None], pa.uint64()), [2**63, 1, None]),
        (pa.nulls(3), [None, None, None]),
    ],
)  # fmt: skip
def test_values_are_carried_as_text_and_numbers(tmp_path: Path, values: Any, carried: list[Any]) -> None:
    dataset = read(tmp_path, {"extra": values})
    assert [pair.metadata["extra"] for pair in dataset.pairs] == carried
    json.dumps([pair.metadata for pair in dataset.pairs], allow_nan=False)
    assert not dataset.ledger.notes


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (pa.array([[1], [2], None]), "list"),
        (pa.array([{"a": 1}] * 3), "struct"),
        (pa.array([b"\xff", b"", None]), "bytes that are no text"),
    ],
)
def test_what_cannot_be_carried_is_left_out_with_a_note(tmp_path: Path, values: Any, words: str) -> None:
    dataset = read(tmp_path, {"extra": values, "kept": [1, 2, 3]})
    assert dataset.metadata_columns == ("kept",)
    assert all(set(pair.metadata) == {"kept"} for pair in dataset.pairs)
    (note,) = dataset.ledger.notes
    assert "'extra' is left out: it holds" in note
    assert words in note


@pytest.mark.parametrize("of_text", [False, True])
def test_dates_are_in_the_order_of_time_and_text_all_the_same(tmp_path: Path, of_text: bool) -> None:
    days = [DAY, DAY + datetime.timedelta(30), None]
    column = pa.array([day and day.isoformat() for day in days] if of_text else days)
    for condition in (
        "day > DATE '2026-01-10'",
        "day > '2026-01-10'",
        "day >= '2026-02'",
        "day LIKE '2026-02%'",
        "month(day) = 2",
    ):
        assert [pair.key for pair in read(tmp_path, {"day": column}, where=condition).pairs] == ["1.png"]


def test_a_key_among_which_one_is_missing_is_the_number_that_was_meant(tmp_path: Path) -> None:
    dataset = read(tmp_path, {"id": [0.0, None, 2.0]}, key_column="id")
    assert [pair.key for pair in dataset.pairs] == ["0", "2"]
    assert [(item.key, item.reason) for item in dataset.rejections] == [("row 2", "the column 'id' is empty")]
    path = tmp_path / "t.csv"
    path.write_text("filepath,title,id\n0.png,a,0.0\n1.png,b,\n2.png,c,2.0\n", encoding="utf-8")
    dataset = read_dataset(DataConfig(path=str(path), key_column="id", max_rejected=9))
    assert [pair.key for pair in dataset.pairs] == ["0", "2"]
    assert dataset.ledger.notes == ["the keys in the column 'id' are whole numbers: 7.0 is read as 7"]
    path.write_text("filepath,title,id\n0.png,a,1.0\n1.png,b,1.5\n2.png,c,2.0\n", encoding="utf-8")
    assert [p.key for p in read_dataset(DataConfig(path=str(path), key_column="id")).pairs] == ["1.0", "1.5", "2.0"]


@pytest.mark.parametrize("nothing", ["nan", "NaN", "None", "null", "<NA>", " nan "])
def test_what_programs_write_for_a_missing_caption_is_no_caption(tmp_path: Path, nothing: str) -> None:
    dataset = read(tmp_path, {"title": ["a", nothing, "none of them"]})
    assert [pair.caption for pair in dataset.pairs] == ["a", "none of them"]
    assert dataset.rejections[0].reason == f"the caption is missing: {nothing.strip()} stands for it"


def test_captions_that_are_bytes_numbers_and_lists(tmp_path: Path) -> None:
    for titles, read_as in (
        (pa.array([b"a", b"\xc3\xa9", b"c"]), ["a", "é", "c"]),
        (pa.array([1.5, float("nan"), 2.0]), ["1.5", "2.0"]),
        (pa.array([[b"a", b"x"], [None, b"nan"], [b"c"]]), ["a", "c"]),
    ):
        assert [pair.caption for pair in read(tmp_path, {"title": titles}).pairs] == read_as
    dataset = read(tmp_path, {"title": pa.array([b"a", b"\xff", b"c"])})
    assert [item.reason for item in dataset.rejections] == ["the caption is not text: bytes that are no text"]


def test_a_column_that_is_called_as_one_of_kodas_own_keeps_its_values(tmp_path: Path) -> None:
    columns = {"caption": ["x", "y", "z"], "Key": [1, 2, 3], "image_path": ["p", "q", "r"]}
    dataset = read(tmp_path, columns, where="caption_2 <> 'y' AND Key_2 < 3 OR caption = 'c'")
    assert dataset.metadata_columns == ("caption_2", "Key", "image_path")
    assert [pair.metadata["caption_2"] for pair in dataset.pairs] == ["x", "z"]
    assert [pair.caption for pair in dataset.pairs] == ["a", "c"]
    assert dataset.ledger.notes == ["the column 'caption' is called 'caption_2' here: koda has a caption of its own"]


def test_a_column_keeps_its_name_where_koda_has_none_of_just_that_name(tmp_path: Path) -> None:
    columns = {"Key": ["x", "y", "z"], "Caption": ["p", "q", "r"], "image_path": ["1", "2", "3"]}
    dataset = read(tmp_path, columns, where="Caption_2 = 'q' OR image_path = '3' OR caption = 'p'")
    assert dataset.metadata_columns == ("Key", "Caption", "image_path")
    assert [pair.metadata for pair in dataset.pairs] == [
        {"Key": "y", "Caption": "q", "image_path": "2"},
        {"Key": "z", "Caption": "r", "image_path": "3"},
    ]
    assert not dataset.ledger.notes


def test_images_within_a_table_are_told_of_and_their_paths_are_used(tmp_path: Path) -> None:
    inside = pa.array([{"bytes": b"\x89PNG\r\n", "path": None}] * 3)
    for images in (inside, pa.array([b"\x89PNG\xff"] * 3)):
        with pytest.raises(DataError, match=r"holds the images themselves(.|\n)*save_to_disk"):
            read(tmp_path, {"filepath": images})
    paths = pa.array(
        [{"bytes": None, "path": name} for name in FILES], pa.struct({"bytes": pa.binary(), "path": "str"})
    )
    assert [pair.key for pair in read(tmp_path, {"filepath": paths}).pairs] == FILES
    assert [pair.key for pair in read(tmp_path, {"filepath": [name.encode() for name in FILES]}).pairs] == FILES


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.table([FILES, TITLES, TITLES], names=["filepath", "title", "title"])
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match="two columns named 'title'"):
        read_dataset(DataConfig(path=str(tmp_path / "t.parquet")))
