"""Stored embeddings in place of a model: the rows of a data set's samples, joined by key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from koda.datasets import Pair, PairDataset
from koda.embeddings import EmbeddingTable, ShardedTable, check_same_rows
from koda.embeddings.layout import shard_name
from koda.embeddings.writing import write_shard
from koda.models import ResolvedModel
from koda.models.embedding_folder import describe, open_table


def stored_of(dataset: PairDataset, model: ResolvedModel) -> ShardedTable:
    """Open the stored embeddings that stand for a model, joined to the data set as it says.

    Raises:
        ModelError: no embedding folder, or no key that names each sample.
        DataError: rows that are to be joined by number, and are not those of the data set's folder.
    """
    table = open_table(model.spec, dataset.join)
    if dataset.join == "rows":
        check_same_rows(EmbeddingTable.open(dataset.path, "rows"), table)
    return table


def copy_stored(
    folder: Path,
    dataset: PairDataset,
    shards: Sequence[Sequence[Pair]],
    model: ResolvedModel,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    """Write the shards of an artifact from a folder of embeddings, and return what is noted of it.

    A sample that the folder lacks, or whose embedding cannot be used, is rejected with its reason.

    Raises:
        ModelError: the folder is gone or its parts do not fit together.
        DataError: a file of it has changed meanwhile, or its rows are not those of the data set.
        StoreError: the disk is full or read-only.
    """
    table = stored_of(dataset, model)
    row_of = {key: row for row, key in enumerate(table.keys)}
    rejected: dict[str, str] = {}
    n = done = 0
    total = sum(map(len, shards))
    for number, pairs in enumerate(shards):
        left_out = {pair.key: f"{model.label} has no embedding of it" for pair in pairs if pair.key not in row_of}
        keys = [pair.key for pair in pairs if pair.key in row_of]
        arrays: dict[str, Any] = {name: np.empty((0, d), dtype=np.float32) for name, d in table.dims.items()}
        if keys:
            part = table.take([row_of[key] for key in keys])
            broken = part.invalid_rows()
            left_out.update(broken)
            good = np.array([key not in broken for key in keys])
            arrays = {name: getattr(part, name)[good] for name in part.modalities}
            keys = [key for key in keys if key not in broken]
        header = {"n_long": 0, "altered": {}, "fingerprint": model.fingerprint.digest}
        write_shard(folder / shard_name(number), keys, arrays, left_out, header)
        rejected.update(left_out)
        n += len(keys)
        done += len(pairs)
        if progress is not None:
            progress(done, total)
    info = {**describe(model.fingerprint), "precision_cosine": None}
    notes = _other_captions(table, dataset, model.label)
    return {
        "n": n, "rejected": rejected, "n_long": 0, "altered": {}, "notes": notes, "model": info, "device": "cpu",
    }  # fmt: skip


def _other_captions(table: ShardedTable, dataset: PairDataset, label: str) -> list[str]:
    """Say where samples of equal keys have other captions: then the keys may not name the same samples."""
    captions = table.metadata.get("caption")
    if captions is None:
        return []
    pairs = dataset.by_key
    both = [(own, pairs[key].caption) for key, own in zip(table.keys, captions, strict=True) if key in pairs]
    written = [(str(own), other) for own, other in both if own and other]
    differ = sum(own != other for own, other in written)
    if not differ:
        return []
    return [
        f"{differ} of {len(written)} samples have another caption in the embeddings of {label} than in the data: check "
        "that the keys of both name the same samples"
    ]
