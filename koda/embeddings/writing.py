"""Writing embedding folders, in koda's layout and in clip-retrieval's.

koda's layout is `shard-00000.safetensors`, `shard-00001.safetensors`, ... each with the tensors
`image` (n, d) and `text` (n, d) and, in its header, the keys of its rows and the samples that were
rejected; `metadata.parquet` (with a `key` column) may stand beside them.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from koda.embeddings.layout import CLIP_FOLDERS, CLIP_PART_ROWS, SHARD_SIZE, Layout, shard_name
from koda.embeddings.matrix_files import NOTES
from koda.embeddings.rows import TableLike
from koda.errors import DataError
from koda.storage import write_atomically
from koda.storage.parquet import write_parquet
from koda.storage.writing import explain_os_errors
from koda.typing import FloatArray


def write_shard(
    path: Path,
    keys: Sequence[str],
    arrays: Mapping[str, FloatArray],
    rejected: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write one shard atomically: rows of embeddings with their keys, and the samples left out."""
    from safetensors.numpy import save

    notes = {"keys": list(keys), "rejected": dict(rejected or {}), **(extra or {})}
    # one entry only: safetensors writes several in an order that changes from call to call
    metadata = {NOTES: json.dumps(notes, sort_keys=True)}
    write_atomically(path, save({name: np.ascontiguousarray(a) for name, a in arrays.items()}, metadata=metadata))


def save_table(table: TableLike, folder: Path, layout: Layout = "koda") -> None:
    """Write a table in koda's layout or in clip-retrieval's; an existing folder with files in it is refused.

    Raises:
        DataError: a folder with files in it.
        StoreError: the disk is full, read-only or forbidden.
    """
    with explain_os_errors(folder):
        if folder.exists() and any(folder.iterdir()):
            raise DataError(f"{folder} is not empty.", "Choose a new folder; koda does not overwrite embeddings.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
            temporary = Path(name) / "table"
            temporary.mkdir()
            _WRITERS[layout](table, temporary)
            if folder.exists():
                folder.rmdir()
            os.replace(temporary, folder)  # noqa: PTH105 - the one call that renames a folder over nothing


def _write_shards(table: TableLike, folder: Path) -> None:
    for number, (_, part) in enumerate(table.chunks(SHARD_SIZE)):
        arrays = {name: getattr(part, name) for name in part.modalities}
        write_shard(folder / shard_name(number), part.keys, arrays, extra={"fingerprint": table.fingerprint})
    if table.metadata:
        write_parquet(folder / "metadata.parquet", {**table.metadata, "key": list(table.keys)})


def _write_clip_retrieval(table: TableLike, folder: Path) -> None:
    """Write `img_emb/img_emb_0.npy`, `text_emb/text_emb_0.npy` and `metadata/metadata_0.parquet`, rows aligned.

    Its tools look for the columns `image_path` and `caption`; the keys are a column of their own.
    """
    metadata = {"image_path": list(table.keys), **table.metadata, "key": list(table.keys)}
    for number, (rows, part) in enumerate(table.chunks(CLIP_PART_ROWS)):
        for modality in part.modalities:
            place = folder / CLIP_FOLDERS[modality]
            place.mkdir(exist_ok=True)
            np.save(place / f"{place.name}_{number}.npy", np.ascontiguousarray(getattr(part, modality)))
        columns = {name: values[rows] for name, values in metadata.items()}
        write_parquet(folder / "metadata" / f"metadata_{number}.parquet", columns)


_WRITERS: dict[Layout, Callable[[TableLike, Path], None]] = {
    "koda": _write_shards,
    "clip-retrieval": _write_clip_retrieval,
}
