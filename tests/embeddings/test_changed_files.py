"""Files that change after they were opened."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from koda.embeddings import EmbeddingTable, ShardedTable
from koda.embeddings.layout import shard_name
from koda.errors import DataError
from tests.embeddings.folders import write_koda


def first_file(folder: Path) -> Path:
    return next(path for path in (folder / shard_name(0), folder / "img_emb" / "img_emb_0.npy") if path.exists())


@pytest.mark.parametrize("use", ["take", "chunks", "invalid_rows", "to_memory"])
@pytest.mark.parametrize("harm", ["removed", "truncated", "replaced"])
def test_a_file_that_changed_since_is_named(folder: Path, harm: str, use: str) -> None:
    table = EmbeddingTable.open(folder)
    path = first_file(folder)
    if harm == "removed":
        path.unlink()
    elif harm == "truncated":
        os.truncate(path, path.stat().st_size - 4)
    else:
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
        os.utime(path, ns=(0, 1))
    uses: dict[str, Callable[[ShardedTable], object]] = {
        "take": lambda t: t.take([0]),
        "chunks": lambda t: list(t.chunks(10)),
        "invalid_rows": lambda t: t.invalid_rows(),
        "to_memory": lambda t: t.to_memory(),
    }
    with pytest.raises(DataError) as caught:
        uses[use](table)
    assert path.name in str(caught.value)
    assert table.take([7]).n == 1  # the other files are as they were


def test_a_file_cut_short_while_it_is_read_is_named(tmp_path: Path) -> None:
    table = EmbeddingTable.open(write_koda(tmp_path / "t"))
    path = first_file(tmp_path / "t")
    stamp = path.stat().st_mtime_ns
    matrix = table.source.parts[0]["text"]
    short = path.stat().st_size - 4
    os.truncate(path, short)
    os.utime(path, ns=(0, stamp))
    late = type(matrix)(**{**vars(matrix), "stamp": (short, stamp)})  # as if it was cut after the size was looked at
    with pytest.raises(DataError, match=r"shard-00000.*ends before the rows"):
        late.read(np.arange(7), np.empty((7, 4), dtype=np.float16), np.arange(7))


def test_metadata_that_changed_since_is_named(folder: Path) -> None:
    table = EmbeddingTable.open(folder)
    path = next(p for p in (folder / "metadata.parquet", folder / "metadata/metadata_0.parquet") if p.exists())
    pq.write_table(pa.table({"key": ["a"], "caption": ["b"]}), path)
    with pytest.raises(DataError, match=rf"{path.name} has changed"):
        table.metadata["caption"]
    with pytest.raises(DataError, match=rf"{path.name}.*(column 'size'|has changed)"):
        table.metadata["size"]
    path.unlink()
    with pytest.raises(DataError, match=path.name):
        table.metadata["size"]
    assert table.take([0]).n == 1
