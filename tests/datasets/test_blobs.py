"""Locations that cannot be: each is said in words."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import fsspec
import pytest

from koda.config import DataConfig
from koda.datasets import Blob, read_dataset
from koda.datasets.blobs import is_file, join, list_files, list_folder
from koda.errors import DataError, PrerequisiteError


@pytest.mark.parametrize(
    "path", ["a\0b", "x" * 5000, "memory://", "memory://no/such", "pipe:cat x.tar", "{", "::", " "]
)
@pytest.mark.parametrize("kind", [None, "csv", "coco", "webdataset", "folder", "huggingface"])
def test_impossible_paths(path: str, kind: str | None) -> None:
    with pytest.raises(DataError):
        read_dataset(DataConfig.model_validate({"path": path, "format": kind}))


def test_protocols() -> None:
    with pytest.raises(DataError, match="nosuch:// is not a protocol"):
        read_dataset(DataConfig(path="nosuch://x/y.tsv"))
    for protocol, module, package in (("s3", "s3fs", "s3fs"), ("https", "aiohttp", "aiohttp")):
        if importlib.util.find_spec(module) is None:
            with pytest.raises(PrerequisiteError, match=f"pip install {package}"):
                is_file(f"{protocol}://x/y.tsv")


def test_lists_are_the_same_on_disk_and_behind_a_url(tmp_path: Path) -> None:
    for name in ("b.txt", "a/c.txt", "a/d/e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"0123")
        fsspec.filesystem("memory").pipe_file(f"memory://top/{name}", b"0123")
    for place in (str(tmp_path), "memory://top", "memory://top/"):
        assert list_files(place) == ["a/c.txt", "a/d/e.txt", "b.txt"]
        assert list_folder(place) == ["a", "b.txt"]
        assert Blob(join(place, "b.txt"), 1, 2).read() == b"12"
        with pytest.raises(OSError, match="ends early"):
            Blob(join(place, "b.txt"), 3, 2).read()
