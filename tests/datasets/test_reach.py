"""How far the rows of a table reach, and what is never opened."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import fsspec
import pytest

from koda.config import DataConfig
from koda.datasets import PairDataset, read_dataset
from koda.errors import DataError

OUTSIDE = "the image lies outside data.images"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.png").write_bytes(b"b")
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "a.png").write_bytes(b"a")
    fsspec.filesystem("memory").pipe_file("bucket/x.png", b"x")
    return tmp_path / "data"


def read(folder: Path, *names: str, **settings: object) -> PairDataset:
    table = folder / "pairs.tsv"
    table.write_text("filepath\ttitle\n" + "".join(f"{name}\tx\n" for name in names), encoding="utf-8")
    return read_dataset(DataConfig.model_validate({"path": str(table), "max_rejected": 99, **settings}))


def test_rows_reach_no_further_than_the_folder_of_the_images(folder: Path) -> None:
    outside = ["../secret", "sub/../../secret", f"{folder.parent}/secret", f"file://{folder.parent}/secret"]
    urls = ["memory://bucket/x.png", "http://127.0.0.1:9/x.png", "http://169.254.169.254/latest", "local:///etc/passwd"]
    dataset = read(folder, "a.png", *outside, *urls)
    assert [pair.key for pair in dataset.pairs] == ["a.png"]
    assert {item.key: item.kind for item in dataset.rejections} == dict.fromkeys([*outside, *urls], OUTSIDE)
    (kind,) = dataset.ledger.rejected
    assert f"is not below {folder}; to allow it, set data.roots" in kind.reason


def test_paths_within_the_folder_are_what_they_were(folder: Path) -> None:
    inside = ["a.png", "sub/../a.png", f"{folder}/a.png", f"file://{folder}/a.png", "./a.png"]
    assert len(read(folder, *inside).pairs) == len(inside)


def test_what_is_allowed_is_opened(folder: Path) -> None:
    other = str(folder.parent / "other" / "b.png")
    assert len(read(folder, "a.png", other, roots=[str(folder.parent / "other")]).pairs) == 2
    assert len(read(folder, "a.png", other, roots=["/"]).pairs) == 2
    assert len(read(folder, "memory://bucket/x.png", roots=["memory://bucket"]).pairs) == 1
    steps_out = "memory://bucket/a/%2e%2e/x.png"
    assert read(folder, "a.png", steps_out, roots=["memory://bucket/a"]).rejections[0].kind == OUTSIDE
    assert len(read(folder, "x.png", images="memory://bucket").pairs) == 1


def test_urls_are_those_of_stores_and_not_of_this_machine(folder: Path) -> None:
    names = [f"file://{folder.parent}/secret", f"local://{folder.parent}/secret", "zip://a::file:///etc/passwd"]
    dataset = read(folder, "a.png", *names, urls="allow")
    assert {item.kind for item in dataset.rejections} == {OUTSIDE}
    assert len(dataset.rejections) == 3


def test_a_folder_may_be_named_by_a_link_and_its_files_by_either_name(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    names = ["a.png", f"{folder}/a.png", f"{link}/a.png"]
    assert len(read(folder, *names, images=str(link)).pairs) == 3


def test_the_files_of_a_coco_file_are_confined_too(folder: Path) -> None:
    path = folder / "captions.json"
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "../secret"}]
    path.write_text(json.dumps({"images": images, "annotations": [{"image_id": i, "caption": "x"} for i in (1, 2)]}))
    dataset = read_dataset(DataConfig(path=str(path), max_rejected=9))
    assert [(item.key, item.kind) for item in dataset.rejections] == [("2", OUTSIDE)]


def test_pipes_and_devices_are_refused_at_once(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    dataset = read(folder, "a.png", "pipe.png", "zero.png", "sub")
    assert {item.key: item.reason.rpartition(": ")[0] for item in dataset.rejections} == {
        "pipe.png": "the image cannot be read: it is a pipe, not a file",
        "zero.png": "the image cannot be read: it is a device, not a file",
        "sub": "the image cannot be read: is a directory",
    }


def test_links_that_lead_out_are_followed_and_counted(folder: Path) -> None:
    store = folder.parent / "other"
    (folder / "inner.png").symlink_to("a.png")
    (folder / "out.png").symlink_to(store / "b.png")
    (folder / "outdir").symlink_to(store)
    (folder / "gone.png").symlink_to(store / "gone.png")
    names = ["a.png", "inner.png", "out.png", "outdir/b.png", "gone.png"]
    dataset = read(folder, *names)
    assert [pair.key for pair in dataset.pairs] == ["a.png", "inner.png", "out.png", "outdir/b.png"]
    note = "images reached through links that lead out of data.images: 2, such as that of 'out.png'"
    assert dataset.ledger.notes == [note]
    assert read(folder, *names, roots=[str(store)]).ledger.notes == []
    assert read(folder, "a.png", "inner.png").ledger.notes == []


def test_links_that_lead_out_are_counted_whatever_names_the_images(folder: Path, monkeypatch: Any) -> None:
    (folder / "out.png").symlink_to(folder.parent / "other" / "b.png")
    path = folder / "captions.json"
    content = {"images": [{"id": 1, "file_name": "out.png"}], "annotations": [{"image_id": 1, "caption": "x"}]}
    path.write_text(json.dumps(content))
    monkeypatch.chdir(folder)
    for place in (str(path), "captions.json"):
        (note,) = read_dataset(DataConfig(path=place)).ledger.notes
        assert note.startswith("images reached through links that lead out of data.images: 1")


def test_a_folder_of_images_that_are_links_names_none_that_lie_outside(folder: Path) -> None:
    (folder / "out.png").symlink_to(folder.parent / "other" / "b.png")
    (folder / "out.txt").write_text("x")
    dataset = read_dataset(DataConfig(path=str(folder), max_rejected=9))
    assert [pair.key for pair in dataset.pairs] == ["out"] and not any("links" in n for n in dataset.ledger.notes)


@pytest.mark.parametrize("name", ["pairs.tsv", "captions.json"])
def test_a_pipe_is_no_data_set(folder: Path, name: str) -> None:
    os.mkfifo(folder / name)
    with pytest.raises(DataError, match="it is a pipe, not a file"):
        read_dataset(DataConfig(path=str(folder / name)))
    (folder / "gone.tsv").symlink_to("nowhere.tsv")
    with pytest.raises(DataError, match=r"is a link to nowhere\.tsv, which does not exist"):
        read_dataset(DataConfig(path=str(folder / "gone.tsv")))


@pytest.mark.parametrize(("written", "lying"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_is_found_under_another_unicode_form(folder: Path, written: str, lying: str) -> None:
    there = folder / unicodedata.normalize(lying, "été") / unicodedata.normalize(lying, "çà.png")
    there.parent.mkdir()
    there.write_bytes(b"c")
    dataset = read(folder, unicodedata.normalize(written, "été/çà.png"), "a.png")
    assert {pair.image.location for pair in dataset.pairs if pair.image} == {str(there), str(folder / "a.png")}
    assert dataset.ledger.notes == ["images that lie under another Unicode form of their names: 1"]


def test_a_caption_is_found_beside_its_image_under_another_unicode_form(tmp_path: Path) -> None:
    (tmp_path / (unicodedata.normalize("NFD", "é") + ".png")).write_bytes(b"a")
    (tmp_path / (unicodedata.normalize("NFC", "é") + ".txt")).write_text("caption", encoding="utf-8")
    dataset = read_dataset(DataConfig(path=str(tmp_path)))
    assert [pair.caption for pair in dataset.pairs] == ["caption"]
    assert dataset.ledger.n_source == 1
