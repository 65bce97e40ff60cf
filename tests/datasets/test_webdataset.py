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
from koda.datasets.base import Source
from koda.datasets.shards import MAX_SHARDS, expand, name_of
from koda.datasets.webdataset import read_webdataset
from koda.errors import DataError
from tests.datasets.layouts import entries, members, tar

ABOUT = {"text": "from text", "caption": ["one", "two", 3], "id": 7, "title": "a title"}
TEXT = ("jpg", "txt")


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


# Names: dots, shards that number anew, members that are no files


def write(path: Path, files: list[tuple[str, bytes]]) -> Path:
    path.write_bytes(tar(files))
    return path


def numbered(n: int, mark: str = "") -> list[tuple[str, bytes]]:
    """Samples that are numbered from 0 on; the mark is in image and caption."""
    return [(f"{i:05d}.{s}", f"{mark}{i}{s}".encode()) for i in range(n) for s in ("jpg", "txt")]


def source(path: Path | str, **settings: Any) -> Source:
    return read_webdataset(DataConfig(path=str(path), **settings))


def test_samples_whose_names_have_several_dots_are_not_lost(tmp_path: Path) -> None:
    dotted = [(f"photo.{i:03d}.{suffix}", b"x") for i in range(200) for suffix in ("jpg", "txt")]
    path = write(tmp_path / "a.tar", [*dotted, ("1.jpg", b"x"), ("1.txt", b"x")])
    dataset = read(path)
    assert len(dataset.pairs) == 201 and dataset.pairs[-1].key == "photo.199"
    assert "200 samples have names with several dots, and end at the last one" in source(path).notes[0]
    strict = read(path, key_ends="first_dot", max_rejected=300)
    assert [pair.key for pair in strict.pairs] == ["1"] and strict.n_source == 201
    assert strict.rejections[0].reason.startswith("the name has several dots: by the first it is a part of 'photo'")
    with pytest.raises(DataError, match=r"200 unusable rows of 201(.|\n)*several dots"):
        read(path, key_ends="first_dot", max_rejected=0.25)
    assert read(path, key_ends="last_dot").digest == dataset.digest


def test_samples_that_are_parts_of_a_whole_one_are_counted(tmp_path: Path) -> None:
    more = [(f"cat.{i}.{suffix}", b"x") for i in range(3) for suffix in ("jpg", "txt")]
    path = write(tmp_path / "a.tar", [("cat.jpg", b"x"), ("cat.txt", b"a cat"), ("cat.seg.png", b"x"), *more])
    found = source(path)
    assert [(row.key, row.caption) for row in found.rows] == [("cat", "a cat")]
    assert list(found.merged.values()) == [3] and "data.key_ends: last_dot" in found.notes[0]
    apart = source(path, key_ends="last_dot")
    assert len(apart.rows) == 5 and not apart.merged  # cat, cat.seg without a caption, cat.0 to cat.2


def test_a_file_beside_samples_with_dots_does_not_hide_them(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", [("set.json", b"{}"), *[(f"set.{i}.{s}", b"x") for i in "ab" for s in TEXT]])
    assert [pair.key for pair in read(path).pairs] == ["set.a", "set.b"]
    assert [item.kind for item in read(path).rejections] == ["the sample has no image"]


def test_shards_that_number_anew_have_their_name_in_the_key(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / f"s-{name}.tar", numbered(3, name))
    path = f"{tmp_path}/s-{{a,b}}.tar"
    dataset = read(path)
    assert [pair.key for pair in dataset.pairs] == [f"s-{name}/{i:05d}" for name in "ab" for i in range(3)]
    assert "3 keys stand in several shards for other samples: the name of the shard is part" in source(path).notes[0]
    never = read(path, shard_in_key="never")
    assert [item.kind for item in never.rejections] == ["duplicate key"] * 3
    assert "data.shard_in_key: always" in source(path, shard_in_key="never").notes[0]
    alone = read(tmp_path / "s-a.tar", shard_in_key="always")
    assert [pair.key for pair in alone.pairs] == ["s-a/00000", "s-a/00001", "s-a/00002"]


def test_shards_of_one_name_in_two_folders_are_told_apart(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        write(tmp_path / name / "0.tar", numbered(2, name))
    keys = [pair.key for pair in read(f"{tmp_path}/{{a,b}}/0.tar").pairs]
    assert keys == ["a/0/00000", "a/0/00001", "b/0/00000", "b/0/00001"]


def test_one_key_that_stands_twice_does_not_change_the_others(tmp_path: Path) -> None:
    write(tmp_path / "0.tar", numbered(3, "a"))
    write(tmp_path / "1.tar", [("00002.jpg", b"?"), ("00002.txt", b"?"), *[(f"x{n}", d) for n, d in numbered(3, "b")]])
    dataset = read(tmp_path)
    assert [pair.key for pair in dataset.pairs] == ["00000", "00001", "00002", "x00000", "x00001", "x00002"]
    assert [item.key for item in dataset.rejections] == ["00002"]
    assert source(tmp_path).notes[0].startswith("1 keys stand in several shards")


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "is a link to '/etc/passwd'"),
        ({"type": tarfile.LNKTYPE, "linkname": "0.jpg"}, "is a link to '0.jpg'"),
        ({"type": tarfile.FIFOTYPE}, "is a pipe or a device"),
        ({"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5}, "is a pipe or a device"),
        ({"name": "/1.jpg", "key": "/1"}, "leads out of the shard"),
        ({"name": "a/../../1.jpg", "key": "a/../../1"}, "leads out of the shard"),
    ],
)
def test_members_that_are_no_files_of_their_own_are_rejected(
    tmp_path: Path, member: dict[str, Any], reason: str
) -> None:
    key = member.pop("key", "1")
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name, data in (("0.jpg", b"0"), ("0.txt", b"x"), (f"{key}.txt", b"x")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        info = tarfile.TarInfo("1.jpg")
        for field, value in member.items():
            setattr(info, field, value)
        archive.addfile(info)
    dataset = read(path)
    assert [pair.key for pair in dataset.pairs] == ["0"]
    assert [(item.key, item.kind) for item in dataset.rejections] == [(key, "a member is not a file of its own")]
    assert dataset.rejections[0].reason.endswith(reason)


def test_members_of_absurd_size_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name, size in (("0.jpg", 1), ("0.txt", 17 * 2**20), ("1.jpg", 1), ("1.txt", 1)):
            info = tarfile.TarInfo(name)
            info.size = size
            archive.addfile(info, io.BytesIO(bytes(size)))
    dataset = read(path)
    assert [pair.key for pair in dataset.pairs] == ["1"]
    assert dataset.rejections[0].reason == "a member is too large: '0.txt' has 17825792 bytes"


def test_members_without_samples_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", [("1", b"x"), ("2", b"x")])
    with pytest.raises(DataError, match=r"none of its 2 members(.|\n)*they are 1, 2\."):
        read(path)
    write(path, [("README", b"x"), *numbered(1)])
    assert source(path).notes == ("1 members are part of no sample, such as 'README'",)


def test_a_folder_of_empty_or_compressed_shards_says_so(tmp_path: Path) -> None:
    write(tmp_path / "backup.tar", [])
    with pytest.raises(DataError, match=r"is read as shards(.|\n)*backup\.tar"):
        read(tmp_path)
    write(tmp_path / "0.tar", numbered(2))
    assert source(tmp_path).notes == ("1 shards hold no sample: backup.tar",)
    (tmp_path / "1.tar.gz").write_bytes(gzip.compress(tar(numbered(2))))
    with pytest.raises(DataError, match=r"compressed shards: 1\.tar\.gz"):
        read(tmp_path)


# Settings: which member or entry is the image, the caption, the key


def test_columns_name_members_and_entries(tmp_path: Path) -> None:
    about = ("1.json", json.dumps(ABOUT).encode())
    files = [("1.jpg", b"1"), ("1.edge.png", b"edge"), ("1.txt", b"a"), ("1.alt.txt", b"b"), about]
    path = write(tmp_path / "a.tar", files)
    assert [pair.caption for pair in read(path).pairs] == ["a"]
    for column, caption in [("text", "from text"), ("caption", "one"), ("alt.txt", "b"), (".ALT.txt", "b")]:
        assert [pair.caption for pair in read(path, caption_column=column).pairs] == [caption]
    assert [pair.key for pair in read(path, key_column="id").pairs] == ["7"]
    assert set(source(path, key_column="id").metadata_columns) == {"text", "title"}
    write(tmp_path / "b.tar", [("1.jpg", b"1"), ("1.json", b'{"text": "t", "caption": "c", "key": "k"}')])
    assert set(source(tmp_path / "b.tar", caption_column="text").metadata_columns) == {"caption"}
    assert [read_image(pair) for pair in read(path, image_column="edge.png").pairs] == [b"edge"]
    both = read(path, caption_column="caption", captions="all")
    assert [(pair.key, pair.caption) for pair in both.pairs] == [("1#0", "one"), ("1#1", "two")]
    assert source(path, caption_column="caption", captions="all").n_split == 1


def test_what_programs_write_for_a_missing_caption_is_none_in_a_shard_either(tmp_path: Path) -> None:
    samples = [("0.jpg", b"0"), ("0.txt", b"nan\n"), ("1.jpg", b"1"), ("1.json", b'{"caption": "None"}')]
    more = [("2.jpg", b"2"), ("2.txt", b"NaN"), ("2.json", b'{"caption": "two"}'), ("3.jpg", b"3"), ("3.txt", b"")]
    dataset = read(write(tmp_path / "a.tar", [*samples, *more]))
    assert {pair.key: pair.caption for pair in dataset.pairs} == {"2": "two", "3": ""}
    assert {item.key: item.reason for item in dataset.rejections} == {
        "0": "the caption is missing: nan stands for it",
        "1": "the caption is missing: None stands for it",
    }


def test_a_list_of_captions_and_a_title_are_captions_where_there_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    for about, caption in [
        (ABOUT, "one"),
        ({"captions": ["a"], "text": "b"}, "a"),
        ({"title": "x"}, "x"),
        ({"caption": "", "text": "x"}, "x"),
        ({"caption": "nan", "captions": [None, "None"], "text": " ", "title": "x"}, "x"),
        ({"caption": ["nan", "x"]}, "x"),
        ({"caption": "", "text": None}, ""),
    ]:
        write(path, [("1.jpg", b"1"), ("1.json", json.dumps(about).encode())])
        assert [pair.caption for pair in read(path).pairs] == [caption]
    write(path, [("1.jpg", b"1"), ("1.txt", b"\xef\xbb\xbfmarked\r\n")])
    assert [pair.caption for pair in read(path).pairs] == ["marked"]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("image_column", r"members \.jpg, \.json\."),
        ("caption_column", r"members \.jpg, \.json and entries in their JSON text, caption, id, title"),
        ("key_column", "they have entries in their JSON text, caption, id, title"),
    ],
)
def test_a_column_that_no_sample_has_is_refused_with_those_there_are(tmp_path: Path, setting: str, words: str) -> None:
    path = write(tmp_path / "a.tar", [("1.jpg", b"1"), ("1.json", json.dumps(ABOUT).encode())])
    with pytest.raises(DataError, match=rf"No sample of \S* has 'nope' \(data\.{setting}\); (.|\n)*{words}"):
        read(path, **{setting: "nope"})


def test_a_sample_that_lacks_what_is_named_is_rejected(tmp_path: Path) -> None:
    files = [
        ("1.jpg", b"1"),
        ("1.json", b'{"t": "x", "id": "k"}'),
        ("2.jpg", b"2"),
        ("2.json", b'{"id": null, "t": 5}'),
    ]
    path = write(tmp_path / "a.tar", files)
    assert [item.kind for item in read(path, caption_column="t").rejections] == ["the sample has no caption"]
    named = read(path, caption_column="t", key_column="id")
    assert [pair.key for pair in named.pairs] == ["k"]
    assert [item.reason for item in named.rejections] == ["the JSON of the sample has no entry 'id' that is a key"]


def test_samples_with_several_images_are_counted_with_the_one_that_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    both = [(f"{n}.{suffix}", suffix.encode()) for n in range(3) for suffix in ("png", "jpeg", "txt")]
    path.write_bytes(tar([*both, *(("3.webp", b"webp"), ("3.png", b"png"), ("3.txt", b"x"))]))
    dataset = read(path)
    assert [read_image(pair) for pair in dataset.pairs] == [b"jpeg", b"jpeg", b"jpeg", b"png"]
    assert dataset.ledger.notes == ["4 samples have several images; the .jpeg or .png is taken (data.image_column)"]
    path.write_bytes(tar(both))
    assert read(path).ledger.notes == ["3 samples have several images; the .jpeg is taken (data.image_column)"]
    assert read(path, image_column="png").ledger.notes == []


def test_samples_with_another_caption_in_their_json_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    texts = {"caption": b" same\n", "other": b"text", "list": b"one", "nan": b"nan", "title": b"a"}
    about = {
        "caption": {"caption": "same "},
        "other": {"caption": "json"},
        "list": {"captions": ["one", "two"]},
        "nan": {"caption": "json"},
        "title": {"caption": None, "title": "a title", "text": "a text"},
    }
    parts = [
        (f"{name}.{suffix}", data)
        for name, text in texts.items()
        for suffix, data in (("jpg", b"x"), ("txt", text), ("json", json.dumps(about[name]).encode()))
    ]
    path.write_bytes(tar(parts))
    dataset = read(path)
    assert {pair.key: pair.caption for pair in dataset.pairs}["other"] == "text"
    assert dataset.ledger.notes == [
        "2 samples have another caption in their .json than in their .txt; the .txt is taken (data.caption_column)"
    ]
    assert not any("another caption" in note for note in read(path, caption_column="txt").ledger.notes)
