"""A folder of images with text files, its links and its odd names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from koda.config import DataConfig
from koda.datasets import PairDataset, format_of, read_dataset
from koda.datasets.blobs import list_entries
from koda.datasets.folder import read_folder
from koda.errors import DataError
from tests.datasets.layouts import entries, put, tar, write_huggingface


def read(path: Path, **settings: Any) -> PairDataset:
    return read_dataset(DataConfig(path=str(path), **{"max_rejected": 99, **settings}))


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def test_images_and_texts_at_any_depth(tmp_path: Path) -> None:
    fill(tmp_path, "a.JPG", "a.txt", "sub/a.png", "sub/a.TXT", "b.v2.webp", "b.v2.txt", "Thumbs.db", ".hidden/c.png")
    dataset = read(tmp_path)
    assert {pair.key: pair.caption for pair in dataset.pairs} == {
        "a": "a.txt",
        "b.v2": "b.v2.txt",
        "sub/a": "sub/a.TXT",
    }
    assert not dataset.rejections


def test_what_lacks_its_other_half(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "a.txt", "b.jpg", "c.txt", "a.png", "d.jpg", "d.txt", "e.jpg")
    (tmp_path / "d.txt").write_bytes(b"line\n\xff")
    (tmp_path / "e.txt").symlink_to("gone.txt")
    (tmp_path / "f.jpg").symlink_to("gone.jpg")
    dataset = read(tmp_path)
    assert [pair.key for pair in dataset.pairs] == ["a"]
    assert {rejection.key: rejection.reason for rejection in dataset.rejections} == {
        "a": "duplicate key: an earlier row has it",
        "b": "the image has no caption beside it",
        "c": "the caption has no image beside it",
        "d": "malformed caption: d.txt, line 2: not UTF-8",
        "e": "the caption cannot be read: no such file or directory",
        "f": "the image has no caption beside it",
    }
    assert dataset.n_source == 7


def test_links_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", "a.jpg", "a.txt")
    fill(tmp_path / "data", "b.jpg", "b.txt")
    (tmp_path / "data" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "self").symlink_to("self")
    os.mkfifo(tmp_path / "data" / "pipe.jpg")
    assert [pair.key for pair in read(tmp_path / "data").pairs] == ["b", "more/a"]


def test_odd_names(tmp_path: Path) -> None:
    fill(tmp_path, "a b\n#%.jpg", "a b\n#%.txt", "é.jpg", "é.txt")
    for suffix in (b".jpg", b".txt"):
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff" + suffix))).write_bytes(b"x")
    dataset = read(tmp_path)
    assert [pair.key for pair in dataset.pairs] == ["a b\n#%", "é"]
    assert [rejection.key for rejection in dataset.rejections] == ["\\udcff"]


def test_files_of_other_formats_among_captioned_images_do_not_hide_them(tmp_path: Path) -> None:
    fill(tmp_path, *(f"sub/{name}.{suffix}" for name in "abcd" for suffix in ("jpg", "txt")))
    (tmp_path / "backup.tar").write_bytes(bytes(10240))
    (tmp_path / "state.json").write_text("{}")
    config = DataConfig(path=str(tmp_path))
    assert [pair.key for pair in read_dataset(config).pairs] == ["sub/a", "sub/b", "sub/c", "sub/d"]
    assert read_folder(config).notes == (
        "it is read as a folder of images; 1 tar files in it are left out: backup.tar",
    )


def test_a_captioned_picture_beside_shards_does_not_hide_them(tmp_path: Path) -> None:
    for number in range(3):
        samples = [(f"{number}{i}.{suffix}", b"x") for i in range(5) for suffix in ("jpg", "txt")]
        (tmp_path / f"{number:05d}.tar").write_bytes(tar(samples))
    fill(tmp_path, "preview.png", "preview.txt", ".hidden/a.png", ".hidden/a.txt")
    dataset = read(tmp_path)
    assert dataset.format == "webdataset" and len(dataset.pairs) == 15


def test_a_captioned_picture_beside_a_saved_data_set_does_not_hide_it(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    config = DataConfig(**write_huggingface(str(tmp_path), entries()))
    fill(Path(config.path), "preview.png", "preview.txt")
    dataset = read_dataset(config)
    assert dataset.format == "huggingface" and len(dataset.pairs) == 6


@pytest.mark.parametrize("n_pictures", [1, 3])
def test_a_folder_that_may_be_either_is_asked_about(tmp_path: Path, n_pictures: int) -> None:
    (tmp_path / "a.tar").write_bytes(tar([("1.jpg", b"1"), ("1.txt", b"x")]))
    fill(tmp_path, *(f"sub/{i}.{suffix}" for i in range(n_pictures) for suffix in ("jpg", "txt")))
    words = (
        rf"may be shards \(a\.tar\) or a folder of images \({n_pictures} with captions(.|\n)*"
        r"data\.format to webdataset or to folder"
    )
    with pytest.raises(DataError, match=words):
        read(tmp_path)
    assert len(read(tmp_path, format="webdataset").pairs) == 1
    assert len(read(tmp_path, format="folder").pairs) == n_pictures


def test_what_a_folder_is_is_found_out_without_looking_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = []

    def count(folder: str) -> tuple[list[str], list[str]]:
        listed.append(folder)
        return list_entries(folder)

    monkeypatch.setattr("koda.datasets.folder.list_entries", count)
    fill(tmp_path, "a.tar", *(f"{i}.{suffix}" for i in range(4) for suffix in ("jpg", "txt")))
    fill(tmp_path, *(f"more/{i}/{j}.jpg" for i in range(150) for j in range(2)))
    assert format_of(DataConfig(path=str(tmp_path))) == "folder" and len(listed) == 1
    (tmp_path / "0.txt").unlink()
    listed.clear()
    with pytest.raises(DataError, match="3 with captions beside them, as far as was looked"):
        format_of(DataConfig(path=str(tmp_path)))
    assert len(listed) == 100


def test_folders_behind_a_url_are_told_apart_as_local_ones() -> None:
    for i in range(4):
        for suffix in ("jpg", "txt"):
            put(f"memory://bucket/data/sub/{i}.{suffix}", b"x")
    put("memory://bucket/data/a.tar", b"x")
    config = DataConfig(path="memory://bucket/data")
    assert format_of(config) == "folder"
    put("memory://bucket/data/b.tar", b"x")
    with pytest.raises(DataError, match=r"a\.tar, b\.tar"):
        format_of(config)
    for i in range(3):
        put(f"memory://bucket/data/c{i}.tar", b"x")
    assert format_of(config) == "webdataset"


@pytest.mark.parametrize("nothing", ["nan", "None", " null\n"])
def test_what_programs_write_for_a_missing_caption_is_none_in_a_file_either(tmp_path: Path, nothing: str) -> None:
    fill(tmp_path, "a.jpg", "a.txt", "b.jpg", "c.jpg", "c.txt")
    (tmp_path / "b.txt").write_text(nothing, encoding="utf-8")
    (tmp_path / "c.txt").write_text("", encoding="utf-8")
    dataset = read(tmp_path)
    assert {pair.key: pair.caption for pair in dataset.pairs} == {"a": "a.txt", "c": ""}
    assert [item.reason for item in dataset.rejections] == [f"the caption is missing: {nothing.strip()} stands for it"]


def test_folders_without_captions_point_at_the_table(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "pairs.tsv")
    with pytest.raises(DataError, match=r"images, but no captions(.|\n)*pairs\.tsv\?"):
        read(tmp_path)
    fill(tmp_path / "other", "a.txt")
    with pytest.raises(DataError, match="has no images"):
        read(tmp_path / "other")
