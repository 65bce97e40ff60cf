"""Folders that are not right when they are opened."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from koda.embeddings import EmbeddingTable
from koda.embeddings.layout import shard_name
from koda.embeddings.writing import write_shard
from koda.errors import DataError
from koda.storage.parquet import write_parquet
from tests.embeddings.folders import KINDS, write_koda


def shard(folder: Path, number: int, keys: list[str], image: np.ndarray | None = None, **arrays: np.ndarray) -> None:
    if image is not None:
        arrays["image"] = image
    write_shard(folder / shard_name(number), keys, arrays)


def test_shards_that_do_not_fit_together(tmp_path: Path) -> None:
    def opening(words: str) -> None:
        for read in KINDS.values():
            with pytest.raises(DataError, match=words):
                read(tmp_path)

    shard(tmp_path, 0, ["a"], np.ones((1, 2)))
    shard(tmp_path, 1, ["b"], np.ones((1, 3)))
    opening(r"image embeddings of different dimensions: \[2, 3\]")
    shard(tmp_path, 1, ["b"], text=np.ones((1, 2)))
    opening("different modalities")
    shard(tmp_path, 1, ["a"], np.ones((1, 2)))
    opening("'a' occurs more than once")
    write_shard(tmp_path / shard_name(1), ["b"], {"image": np.ones((1, 2))}, extra={"fingerprint": "another"})
    opening("shard-00001.safetensors comes from another model")
    shard(tmp_path, 3, ["d"], np.ones((1, 2)))
    opening("shard-00002.safetensors is missing")
    (tmp_path / shard_name(1)).unlink()
    (tmp_path / shard_name(3)).unlink()
    shard(tmp_path, 0, ["a"], np.ones(1))
    opening(r"'image' has shape \(1,\); a matrix")
    shard(tmp_path, 0, ["a"], np.ones((1, 0)))
    opening("no dimensions")
    shard(tmp_path, 0, ["a"], sound=np.ones((1, 2)))
    opening("neither image nor text")
    shard(tmp_path, 0, ["a", "b"], np.ones((1, 2)))
    opening("keys and rows differ in number")
    shard(tmp_path, 0, [], np.ones((0, 2)))
    opening("holds shards but no embedding")
    shard(tmp_path, 0, ["a"], np.ones((1, 2)))
    write_parquet(tmp_path / "metadata.parquet", {"name": ["a"]})
    opening("has no column `key`")
    (tmp_path / "metadata.parquet").write_bytes(b"PAR1")
    opening("metadata.parquet is not a Parquet file")


def with_header(path: Path, change: Callable[[bytes], bytes]) -> None:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = change(data[8 : 8 + length])
    path.write_bytes(struct.pack("<Q", len(header)) + header + data[8 + length :])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda h: h.replace(b'"F32"', b'"BF16"'), "'image' has the type BF16, which koda does not read"),
        (lambda h: h.replace(b'"koda"', b'"kodb"'), "its header holds no keys"),
        (lambda h: h.replace(b'"shape":[7,6]', b'"shape":[7,5]'), "not as long as its shape says"),
        (lambda h: h.replace(b'"shape":[7,6]', b'"shape":[-7,-6]'), "not as long as its shape says"),
        (lambda h: h.replace(b'"shape":[7,6]', b'"shape":"ab"'), "not a whole embedding shard"),
        (lambda h: h.rstrip()[:-1], "not a whole embedding shard"),
        (lambda h: b"[]", "not a whole embedding shard"),
        (lambda h: b"[" * 100_000, "not a whole embedding shard: the header is no JSON that can be read"),
    ],
)
def test_headers_that_are_not_right(tmp_path: Path, change: Callable[[bytes], bytes], words: str) -> None:
    path = write_koda(tmp_path / "t") / shard_name(0)
    before = path.read_bytes()
    with_header(path, change)
    assert path.read_bytes() != before
    with pytest.raises(DataError, match=words) as caught:
        EmbeddingTable.open(path.parent)
    assert shard_name(0) in str(caught.value)


def test_a_truncated_file_is_found_when_the_folder_is_opened(folder: Path) -> None:
    path = sorted([*folder.glob("shard-00003*"), *folder.glob("img_emb/img_emb_3.npy")])[0]
    os.truncate(path, path.stat().st_size - 1)
    for read in KINDS.values():
        with pytest.raises(DataError) as caught:
            read(folder)
        assert path.name in str(caught.value)


def test_npy_files_that_hold_no_matrix_of_numbers(tmp_path: Path) -> None:
    (tmp_path / "img_emb").mkdir()
    path = tmp_path / "img_emb" / "img_emb_0.npy"
    cases = [
        (np.ones(3), "has shape"),
        (np.ones((2, 2), dtype=complex), "has the type complex128"),
        (np.ones((2, 2), dtype="V2"), "bfloat16, it seems"),
        (np.array([["a"]]), "has the type"),
        (np.array([[None]]), "holds Python objects"),
        (np.ones((2, 0)), "no dimensions"),
        (np.ones((0, 2)), "holds parts but no embedding"),
    ]
    for values, words in cases:
        np.save(path, values)
        with pytest.raises(DataError, match=words):
            EmbeddingTable.open(tmp_path, join="rows")
    for damaged in (b"", b"\x93NUMPY", b"hello, hello, hello"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"img_emb_0\.npy is not a numpy array"):
            EmbeddingTable.open(tmp_path, join="rows")
    np.save(path, np.ones((2, 2)))
    np.save(tmp_path / "img_emb" / ".img_emb_0.npy", np.ones((2, 2)))
    assert EmbeddingTable.open(tmp_path, join="rows").n == 2
    np.save(tmp_path / "img_emb" / "img_emb_0 (copy).npy", np.ones((2, 2)))
    with pytest.raises(DataError, match=r"img_emb_0 \(copy\)\.npy is not named img_emb_N\.npy"):
        EmbeddingTable.open(tmp_path, join="rows")
    (tmp_path / "img_emb" / "img_emb_0 (copy).npy").unlink()
    path.unlink()
    with pytest.raises(DataError, match=r"holds no img_emb_N\.npy"):
        EmbeddingTable.open(tmp_path, join="rows")
