"""A folder of images with text files, its links and its odd names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from koda.config import DataConfig
from koda.datasets import PairDataset, read_dataset
from koda.datasets.folder import read_folder
from koda.errors import DataError


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
    fill(tmp_path, "sub/a.jpg", "sub/a.txt")
    (tmp_path / "backup.tar").write_bytes(bytes(10240))
    (tmp_path / "state.json").write_text("{}")
    config = DataConfig(path=str(tmp_path))
    assert [pair.key for pair in read_dataset(config).pairs] == ["sub/a"]
    assert read_folder(config).notes == (
        "it is read as a folder of images; 1 tar files in it are left out: backup.tar",
    )


def test_folders_without_captions_point_at_the_table(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "pairs.tsv")
    with pytest.raises(DataError, match=r"images, but no captions(.|\n)*pairs\.tsv\?"):
        read(tmp_path)
    fill(tmp_path / "other", "a.txt")
    with pytest.raises(DataError, match="has no images"):
        read(tmp_path / "other")
