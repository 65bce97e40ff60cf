"""One table in folders of both layouts, and how each is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from koda.embeddings import EmbeddingTable
from koda.embeddings.layout import shard_name
from koda.embeddings.writing import write_shard
from koda.storage.parquet import write_parquet

SIZES = (7, 1, 0, 12, 5)  # rows of the parts; one of them is empty
N = sum(SIZES)
DAMAGE = {3: np.nan, 9: np.inf, 16: 0.0}


def make() -> EmbeddingTable:
    """The table that every folder here holds; three rows are of no use."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(N, 6)).astype(np.float32)
    text = rng.normal(size=(N, 4)).astype(np.float16)
    for row, value in DAMAGE.items():
        (text if row == 9 else image)[row] = value
    captions = [None if i == 5 else f"caption {i}" for i in range(N)]
    return EmbeddingTable(
        [f"img/{i}.jpg" for i in range(N)], image, text, {"caption": captions, "size": list(range(N))}
    )


def write_koda(folder: Path, *, fingerprint: str | None = "model") -> Path:
    table, start = make(), 0
    folder.mkdir()
    for number, size in enumerate(SIZES):
        rows = slice(start, start + size)
        arrays = {"image": table.image[rows], "text": table.text[rows]}  # type: ignore[index]
        write_shard(folder / shard_name(number), table.keys[rows], arrays, extra={"fingerprint": fingerprint})
        start += size
    order = [i for i in reversed(range(N)) if i != 5]  # metadata are joined by key, and may lack one
    columns = {name: [table.metadata[name][i] for i in order] for name in table.metadata}
    columns["size"].append(-1)  # a sample that is not in the table
    columns["caption"].append("nowhere")
    write_parquet(folder / "metadata.parquet", {"key": [*(table.keys[i] for i in order), "other"], **columns})
    return folder


def write_clip_retrieval(folder: Path) -> Path:
    table, start = make(), 0
    for name in ("img_emb", "text_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    for number, size in enumerate(SIZES):
        rows = slice(start, start + size)
        np.save(folder / f"img_emb/img_emb_{number}.npy", table.image[rows])  # type: ignore[index]
        np.save(folder / f"text_emb/text_emb_{number}.npy", np.asfortranarray(table.text[rows]))  # type: ignore[index]
        columns = {"image_path": list(table.keys[rows]), **{k: v[rows] for k, v in table.metadata.items()}}
        if number == 3:
            columns["only_here"] = [1] * size
        write_parquet(folder / f"metadata/metadata_{number}.parquet", columns)
        start += size
    return folder


LAYOUTS = {"koda": write_koda, "clip-retrieval": write_clip_retrieval}
KINDS = {"memory": EmbeddingTable.load, "disk": EmbeddingTable.open}


def same(found: EmbeddingTable, rows: np.ndarray) -> None:
    """Check a table in memory against rows of the one that was written."""
    truth = make()
    assert isinstance(found, EmbeddingTable)
    assert found.keys == tuple(truth.keys[i] for i in rows)
    for name in found.modalities:
        values, expected = getattr(found, name), getattr(truth, name)[rows]
        assert values.dtype == expected.dtype
        np.testing.assert_array_equal(values, expected)
