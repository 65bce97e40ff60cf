"""Shards: their names, what is missing of them, and what is left of a damaged one."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from koda.config import DataConfig
from koda.datasets import PairDataset, read_dataset, read_image
from koda.datasets.shards import MAX_SHARDS, expand, name_of
from koda.errors import DataError
from tests.datasets.layouts import entries, members, tar


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three shards of two samples in a folder."""
    samples = entries()
    for number in range(3):
        part = samples[2 * number : 2 * number + 2]
        (tmp_path / f"{number:05d}.tar").write_bytes(tar([member for entry in part for member in members(entry)]))
    return tmp_path


def read(path: Path | str, **settings: Any) -> PairDataset:
    return read_dataset(DataConfig(path=str(path), **{"max_rejected": 99, **settings}))


def test_every_way_to_name_shards_is_the_same_data_set(shards: Path) -> None:
    digest = read(shards).digest
    assert read(shards / "{00000..00002}.tar").digest == digest
    assert read(shards / "{00002..00000}.tar").digest == digest
    assert read(shards / "{00000,00001,00002}.tar").digest == digest
    assert read(f"{shards}/00000.tar::{shards}/{{00001..00002}}.tar").digest == digest
    assert len(read(shards / "00001.tar").pairs) == 2
    assert [read(path).name for path in (shards / "00001.tar", shards, shards / "{00000..00001}.tar")] == [
        "00001",
        shards.name,
        shards.name,
    ]


def test_missing_shards_are_listed(shards: Path) -> None:
    (shards / "00001.tar").unlink()
    with pytest.raises(DataError, match=r"2 of 4 shards are missing: \S*00001\.tar, \S*00003\.tar\.\n"):
        read(shards / "{00000..00003}.tar")
    with pytest.raises(DataError, match=r"and 15 more\."):
        read(shards / "{00003..00027}.tar")
    with pytest.raises(DataError, match=r"The shard \S*x\.tar is missing"):
        read(shards / "x.tar")
    with pytest.raises(DataError, match="empty entry"):
        read(f"{shards}/00000.tar::")
    (shards / "none").mkdir()
    with pytest.raises(DataError, match=r"no \.tar files"):
        read(shards / "none", format="webdataset")


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("a.tar", ["a.tar"]),
        ("{08..11}.tar", ["08.tar", "09.tar", "10.tar", "11.tar"]),
        ("{9..10}", ["9", "10"]),
        ("{2..1}", ["2", "1"]),
        ("{a,b}{0..1}", ["a0", "a1", "b0", "b1"]),
        ("{photos}/{}/a.tar", ["{photos}/{}/a.tar"]),
        ("s3://b/{0..1}.tar", ["s3://b/0.tar", "s3://b/1.tar"]),
    ],
)
def test_braces(text: str, places: list[str]) -> None:
    assert expand(text) == places


@pytest.mark.parametrize("text", ["{0..999999999999}", "{0..999}{0..999}", "{0..99999999999999999}{a,b}"])
def test_absurd_ranges_are_refused_at_once(text: str) -> None:
    with pytest.raises(DataError, match=f"more than {MAX_SHARDS}"):
        expand(text)


@pytest.mark.parametrize("text", ["{{0..1},5}", "{0..1}{", "{0..1}}"])
def test_braces_within_braces_are_refused(text: str) -> None:
    with pytest.raises(DataError, match="braces within braces"):
        expand(text)


def test_names_of_data_sets() -> None:
    assert name_of("s3://b/laion/{00..10}.tar::s3://b/x.tar") == "laion"
    assert name_of("{00..10}.tar") == "shards"


def test_keys_captions_and_metadata(tmp_path: Path) -> None:
    about = {"caption": "from json", "width": 5, "sizes": [1], "key": "x", "nan": None}
    path = tmp_path / "a.tar"
    path.write_bytes(
        tar(
            [
                ("./train/1.JPG", b"1"),
                ("./train/1.json", json.dumps(about).encode()),
                ("train/2.png", b"2"),
                ("train/2.seg.png", b"no image of a sample"),
                ("train/2.txt", b" spaces \n"),
                ("train/2.json", b'{"height": 3}'),
                ("README", b"no sample"),
                ("._2.png", b"no sample"),
            ]
        )
    )
    dataset = read(path)
    assert {pair.key: (pair.caption, pair.metadata) for pair in dataset.pairs} == {
        "train/1": ("from json", {"width": 5, "nan": None, "height": None}),
        "train/2": ("spaces", {"width": None, "nan": None, "height": 3}),
    }
    assert [read_image(pair) for pair in dataset.pairs] == [b"1", b"2"]
    assert not dataset.rejections


def test_long_and_foreign_names(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(path, "w", format=kind) as archive:
            for name in (f"{'long/' * 40}é.png", f"{'long/' * 40}é.txt"):
                info = tarfile.TarInfo(name)
                info.size = 1
                archive.addfile(info, io.BytesIO(b"x"))
        assert [pair.key for pair in read(path).pairs] == [f"{'long/' * 40}é"]


def test_samples_that_lack_something(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    files = [("0.png", b"0"), ("0.txt", b"ok"), ("1.txt", b"x"), ("2.png", b"x"), ("3.png", b"x"), ("3.json", b"{")]
    path.write_bytes(tar([*files, ("4.png", b""), ("4.txt", b"x"), ("0.png", b"again"), ("0.txt", b"again")]))
    dataset = read(path)
    assert [(pair.key, pair.caption) for pair in dataset.pairs] == [("0", "ok")]
    assert {rejection.key: rejection.reason.split(":")[0] for rejection in dataset.rejections} == {
        "0": "duplicate key",
        "1": "the sample has no image",
        "2": "the sample has no caption",
        "3": "malformed sample",
        "4": "the image cannot be read",
    }
    assert dataset.n_source == 6


def test_the_same_key_in_two_shards_is_a_duplicate(shards: Path) -> None:
    (shards / "00003.tar").write_bytes((shards / "00000.tar").read_bytes())
    dataset = read(shards)
    assert len(dataset.pairs) == 6
    assert [rejection.key for rejection in dataset.rejections] == ["000000000", "000000001"]


def test_what_stands_before_a_cut_is_used_and_the_loss_recorded(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    data = tar([(f"{n}.{suffix}", b"x") for n in range(3) for suffix in ("png", "txt")])  # two blocks a member
    for cut, used, words in [
        (12 * 512, 3, "it ends early, without its end mark"),
        (11 * 512, 2, "it ends early, in '2.txt'"),
        (10 * 512 + 7, 2, ""),
        (8 * 512, 2, "it ends early, without its end mark"),
        (2 * 512 + 9, 0, ""),
    ]:
        path.write_bytes(data[:cut])
        if used:
            dataset = read(path)
            assert len(dataset.pairs) == used
            reasons = {rejection.key: rejection.reason for rejection in dataset.rejections}
            assert reasons["a.tar"].startswith(f"the shard is damaged: {words}")
            assert dataset.n_source == used + len(reasons)
        else:
            with pytest.raises(DataError, match=r"no usable pair.*1 x the shard is damaged"):
                read(path)


def test_a_shard_cut_in_the_middle_or_overwritten(shards: Path) -> None:
    path = shards / "00001.tar"
    data = path.read_bytes()
    path.write_bytes(data[: 6 * 512 + 100])  # json, txt and image of the first take two blocks each
    dataset = read(shards)
    assert len(dataset.pairs) == 5
    assert [rejection.key for rejection in dataset.rejections] == ["00001.tar"]
    assert dataset.rejections[0].reason.startswith("the shard is damaged: ")
    path.write_bytes(data[: 6 * 512] + b"\x01" * 512 + data[7 * 512 :])
    dataset = read(shards)
    assert len(dataset.pairs) == 5
    assert dataset.rejections[0].reason == "the shard is damaged: the header at byte 3072 is not one"
    for settings in ({"limit": 2}, {"limit": 1, "pick": "first"}, {"where": "caption IS NOT NULL"}):
        assert [rejection.key for rejection in read(shards, **settings).rejections] == ["00001.tar"]


def test_headers_that_lead_backwards_end(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    data = bytearray(tar([("1.png", b"1"), ("1.txt", b"x"), ("2.png", b"2")]))
    size = (-1024).to_bytes(12, "big", signed=True)
    data[1024 + 124 : 1024 + 136] = size
    data[1024 + 148 : 1024 + 156] = b" " * 8
    data[1024 + 148 : 1024 + 156] = b"%06o\0 " % sum(data[1024 : 1024 + 512])
    path.write_bytes(data)
    with pytest.raises(DataError, match="no usable pair"):
        read(path)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_other_files_are_refused_in_words(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(tar([("1.png", b"1")])))
    with pytest.raises(DataError, match=r"compressed with gzip(.|\n)*Decompress"):
        read(path)
    for data in (b"", b"no tar", b"x" * 2000):
        path.write_bytes(data)
        with pytest.raises(DataError, match="is not a tar file"):
            read(path)
    path.write_bytes(bytes(1024))
    with pytest.raises(DataError, match="no rows"):
        read(path)
