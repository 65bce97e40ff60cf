"""The ledger: every row of a source is accounted for, in numbers that add up."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from koda.config import DataConfig
from koda.datasets import ImageDigests, PairDataset, read_dataset, subsample
from koda.errors import DataError
from koda.records import Ledger
from tests.datasets.layouts import LAYOUTS, entries


def read(folder: Path, rows: list[str], header: str = "filepath,title", **settings: Any) -> PairDataset:
    for number in range(6):
        (folder / f"{number}.png").write_bytes(b"%d" % number)
    (folder / "t.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    return read_dataset(DataConfig(path=str(folder / "t.csv"), **{"max_rejected": 99, **settings}))


FLICKR = [f"{image}.png,caption {image} {which}" for image in range(4) for which in range(5)]


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    rows = [*FLICKR, "5.png,nan", "gone.png,x", "gone2.png,x", "1.png", "/etc/hostname,x"]
    dataset = read(tmp_path, rows, where="key <> '0.png'", limit=4, pick="first")
    ledger = dataset.ledger
    assert ledger.lines("pairs") == [
        ("rows in the source", 25),
        ("part of another row's sample: another caption of the same image", 16),
        ("not asked for by data.where", 1),
        ("beyond data.limit", 3),
        ("left out, since they cannot be used", 2),
        ("pairs", 3),
    ]
    assert [(item.kind, item.count, item.key) for item in ledger.rejected] == [
        ("the caption is missing", 1, "5.png"),
        ("the image cannot be read", 1, "gone.png"),
    ]
    assert ledger.rejected[1].reason == f"the image cannot be read: no such file or directory: {tmp_path}/gone.png"
    assert dataset.n_source == ledger.n_asked == 5


def test_the_limit_draws_the_same_samples_whatever_the_order_of_the_source(tmp_path: Path) -> None:
    good = [f"{number}.png,x" for number in range(6)]
    faulty = ["a,b,c", "a,b,c", "a,b,c,d", ",x", "/etc/hostname,x", "1.png,nan"]
    found = set()
    for number in range(60):
        rows = [*good, *faulty]
        random.Random(number).shuffle(rows)
        dataset = read(tmp_path, rows, limit=3)
        kinds = sorted((item.kind, item.reason, item.count) for item in dataset.ledger.rejected)
        found.add((dataset.digest, dataset.ledger.n_outside_limit, str(kinds)))
    assert len(found) == 1
    assert (len(dataset.pairs), dataset.ledger.n_rejected, dataset.ledger.n_outside_limit) == (3, 3, 6)


def test_faulty_rows_take_no_place_of_the_limit(tmp_path: Path) -> None:
    good = [f"{number}.png,x" for number in range(6)]
    for seed in range(20):
        assert read(tmp_path, good, limit=3, seed=seed).digest == (
            read(tmp_path, ["a,b,c", *good, "a"], limit=3, seed=seed, max_rejected=0.25).digest
        )
    assert len(read(tmp_path, ["a,b,c", *good], limit=6).rejections) == 1
    first = read(tmp_path, ["a,b,c", *good, "a,b,c,d"], limit=3, pick="first")
    assert ([pair.key for pair in first.pairs], len(first.rejections)) == (["0.png", "1.png", "2.png"], 1)


def test_a_condition_that_no_usable_row_satisfies_is_what_is_told_of(tmp_path: Path) -> None:
    rows = [f"{number}.png,x,{number}" for number in range(5)]
    with pytest.raises(DataError) as told:
        read(tmp_path, [*rows, "a,b,c,d"], "filepath,title,n", where="n < 0")
    assert str(told.value).startswith(
        f"None of the 5 usable rows of {tmp_path}/t.csv satisfies data.where; beside them 1 cannot be used: "
        "1 x malformed row, such as 'line 7' (4 fields where the header has 3)."
    )
    with pytest.raises(DataError, match=r"None of the 5 rows of \S+ satisfies data\.where\."):
        read(tmp_path, rows, "filepath,title,n", where="n < 0")
    with pytest.raises(DataError, match="all 1 rows were rejected: 1 x malformed row"):
        read(tmp_path, ["a,b,c,d"], "filepath,title,n", where="n < 0")


def test_a_row_for_each_caption_is_as_a_list_of_captions(tmp_path: Path) -> None:
    lists = [[f"caption {image} {which}" for which in range(5)] for image in range(4)]
    pq.write_table(pa.table({"filepath": [f"{i}.png" for i in range(4)], "title": lists}), tmp_path / "t.parquet")
    for settings in ({}, {"captions": "all"}, {"captions": "random"}, {"captions": "random", "seed": 3}):
        by_row = read(tmp_path, FLICKR, **settings)
        by_list = read_dataset(DataConfig(path=str(tmp_path / "t.parquet"), **settings))
        assert by_row.digest == by_list.digest
        assert not by_row.rejections
    every = read(tmp_path, FLICKR, captions="all")
    assert [pair.key for pair in every.pairs][:2] == ["0.png#0", "0.png#1"]
    assert (len(every.pairs), every.ledger.n_source, every.ledger.n_merged) == (20, 20, 0)
    assert (by_list.ledger.n_source, by_list.ledger.n_split) == (4, 0)
    split = read_dataset(DataConfig(path=str(tmp_path / "t.parquet"), captions="all"))
    assert (split.ledger.n_source, split.ledger.n_split, split.ledger.n_compared) == (4, 16, 20)


def test_the_same_key_of_another_image_is_a_duplicate(tmp_path: Path) -> None:
    rows = ["a,0.png,x", "a,1.png,y", "a,0.png,z", "b,2.png,w"]
    dataset = read(tmp_path, rows, "key,filepath,title")
    assert {pair.key: pair.caption for pair in dataset.pairs} == {"a": "x", "b": "w"}
    assert dataset.ledger.merged == {"another caption of the same image": 1}
    assert [item.reason for item in dataset.rejections] == ["duplicate key: an earlier row has it"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("settings", [{}, {"limit": 3}, {"where": "key <> '000000001'", "limit": 2}])
def test_the_ledger_of_every_layout_adds_up(layout: str, settings: dict[str, Any], tmp_path: Path) -> None:
    samples = entries()
    dataset = read_dataset(DataConfig(**LAYOUTS[layout](str(tmp_path), samples), **settings))
    assert dataset.ledger.n_source == 6
    assert dataset.ledger.n_compared == len(dataset.pairs)
    assert dataset.ledger.n_outside_where == ("where" in settings)


def test_numbers_that_do_not_add_up_are_no_ledger() -> None:
    with pytest.raises(ValueError, match="do not add up"):
        Ledger(n_source=5, n_compared=4)


def test_what_the_models_leave_out_moves_in_the_ledger(tmp_path: Path) -> None:
    before = read(tmp_path, [*FLICKR, "gone.png,x"]).ledger
    rejections = [("the image cannot be read", "gone.png", "..."), ("the image is too large", "1.png", "it is")]
    after = before.compared(rejections, {"16 bit scaled": 2})
    assert (after.n_source, after.n_merged, after.n_rejected, after.n_compared) == (21, 16, 2, 3)
    assert after.altered == {"16 bit scaled": 2}


def test_the_ledger_of_a_subsample_adds_up(tmp_path: Path) -> None:
    part = subsample(read(tmp_path, FLICKR), 2, (0, 0))
    assert (part.ledger.n_source, part.ledger.n_outside_limit, part.ledger.n_compared) == (20, 2, 2)


def test_a_refused_data_set_shows_one_row_of_each_kind_in_full(tmp_path: Path) -> None:
    with pytest.raises(DataError) as told:
        read(tmp_path, ["images\\0.png,x", "images\\1.png,x", "/etc/hostname,x"])
    assert "2 x the image cannot be read, such as 'images\\\\0.png'" in str(told.value)
    assert f"(no such file or directory: {tmp_path}/images\\0.png)" in str(told.value)
    assert "1 x the image lies outside data.images, such as '/etc/hostname'" in str(told.value)
    assert "write them with slashes" in str(told.value)
    with pytest.raises(DataError, match=r"1 unusable rows of 2, more than(.|\n)*such as 'no: colon\.png' \(no such"):
        read(tmp_path, ["0.png,x", "no: colon.png,x"], max_rejected=0)


@pytest.mark.parametrize(
    ("layout", "setting", "words"),
    [
        ("folder", {"captions": "all"}, r"data\.captions: all has no meaning for a folder of images"),
        ("folder", {"images": "x"}, r"data\.images: x has no meaning"),
        ("coco", {"caption_column": "x"}, r"data\.caption_column: x has no meaning for a COCO file"),
        ("coco", {"delimiter": ";"}, r"data\.delimiter: ; has no meaning"),
        ("parquet", {"delimiter": ";"}, r"data\.delimiter has no meaning for \S+parquet"),
        ("webdataset", {"urls": "allow"}, r"data\.urls: allow has no meaning for shards"),
        ("huggingface", {"delimiter": ","}, r"data\.delimiter: , has no meaning"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(
    layout: str, setting: dict[str, Any], words: str, tmp_path: Path
) -> None:
    written = LAYOUTS[layout](str(tmp_path), entries(2))
    with pytest.raises(DataError, match=words):
        read_dataset(DataConfig(**{**written, **setting}))


def test_a_picture_that_is_replaced_with_its_size_and_time_is_read_again(tmp_path: Path) -> None:
    digests = ImageDigests()
    rows = [f"{number}.png,x" for number in range(6)]

    def digest() -> str:
        (tmp_path / "t.csv").write_text("\n".join(["filepath,title", *rows]), encoding="utf-8")
        return read_dataset(DataConfig(path=str(tmp_path / "t.csv")), digests).digest

    first = read(tmp_path, rows).digest
    assert digest() == first
    picture = tmp_path / "3.png"
    times = (picture.stat().st_atime_ns, picture.stat().st_mtime_ns)
    picture.write_bytes(b"9")
    os.utime(picture, ns=times)
    in_place = digest()
    assert in_place != first
    (tmp_path / "new").write_bytes(b"8")
    os.utime(tmp_path / "new", ns=times)
    (tmp_path / "new").replace(picture)
    assert digest() not in {first, in_place}


def test_a_damaged_index_of_digests_is_made_again(tmp_path: Path) -> None:
    digests = ImageDigests()
    rows = [f"{number}.png,x" for number in range(6)]
    first = read(tmp_path, rows)
    read_dataset(DataConfig(path=str(tmp_path / "t.csv")), digests)
    stored = digests.to_json()
    assert ImageDigests.from_json(stored).known == digests.known
    content = json.loads(stored)
    name = next(iter(content["images"]))
    content["images"][name][1] = "0" * 64
    damaged = ImageDigests.from_json(json.dumps(content).encode())
    assert read_dataset(DataConfig(path=str(tmp_path / "t.csv")), damaged).digest == first.digest
    for other in (b"", b"[", b"[]", b"[" * 100_000, b'{"images": 3}', b"\xff", json.dumps(content["images"]).encode()):
        assert not ImageDigests.from_json(other).known
