"""Embedding folders on disk: koda's shards, and clip-retrieval's layout.

koda's layout is `shard-00000.safetensors`, `shard-00001.safetensors`, ... each with the tensors
`image` (n, d) and `text` (n, d) and, in its header, the keys of its rows and the samples that were
rejected; `metadata.parquet` (with a `key` column) may stand beside them.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from koda.artifacts import explain_os_errors, write_atomically
from koda.embeddings import EmbeddingTable, FloatArray
from koda.errors import DataError

SHARD_SIZE = 1024
_NOTES = "koda"  # the header's entry that holds keys and rejections, as JSON
_NUMPY_TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16}


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:05d}.safetensors"


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
    metadata = {_NOTES: json.dumps(notes, sort_keys=True)}
    write_atomically(path, save({name: np.ascontiguousarray(a) for name, a in arrays.items()}, metadata=metadata))


def read_shard(path: Path) -> tuple[list[str], dict[str, FloatArray], dict[str, str], dict[str, Any]]:
    """Read a shard: keys, arrays by modality, rejected key -> reason, extra notes.

    Raises:
        DataError: a file that is not a whole shard.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                raise ValueError("the header is longer than the file")
            header = json.loads(file.read(length))
            body = file.read()
        notes = json.loads(header.pop("__metadata__")[_NOTES])
        arrays = {}
        for name, entry in header.items():
            first, last = entry["data_offsets"]
            if last > len(body):
                raise ValueError(f"it ends before the array {name!r}")
            flat = np.frombuffer(body[first:last], dtype=_NUMPY_TYPES[entry["dtype"]])
            arrays[name] = flat.reshape(entry["shape"])
        keys, rejected = notes.pop("keys"), notes.pop("rejected")
        if any(len(array) != len(keys) for array in arrays.values()):
            raise ValueError("keys and rows differ in number")
        return keys, arrays, rejected, notes
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise DataError(f"{path} is not a whole embedding shard: {error}.", "Remove it and run again.") from error


def load_table(folder: Path) -> EmbeddingTable:
    """Read an embedding folder of either layout; see :meth:`EmbeddingTable.load`."""
    if not folder.is_dir():
        raise DataError(f"There is no embedding folder {folder}.", "Give the folder, not a file in it.")
    shards = sorted(folder.glob("shard-*.safetensors"))
    if shards:
        return _load_shards(folder, shards)
    if (folder / "img_emb").is_dir() or (folder / "text_emb").is_dir():
        return _load_clip_retrieval(folder)
    raise DataError(
        f"{folder} holds no embeddings.",
        "koda reads its own folders (shard-00000.safetensors, ...) and clip-retrieval's (img_emb/, text_emb/, "
        "metadata/).",
    )


def _load_shards(folder: Path, shards: Sequence[Path]) -> EmbeddingTable:
    expected = [folder / shard_name(number) for number in range(len(shards))]
    if missing := sorted(set(expected) - set(shards)):
        raise DataError(f"{folder}: the shard {missing[0].name} is missing.", "Copy the folder again.")
    parts = [read_shard(path) for path in shards]
    keys = [key for part in parts for key in part[0]]
    if not keys:
        raise DataError(f"{folder} holds shards but no embedding.", "Every sample was rejected when it was made.")
    names = {frozenset(part[1]) for part in parts if part[0]}
    if len(names) != 1:
        raise DataError(f"{folder}: its shards hold different modalities.", "They were not made by one run.")
    arrays: dict[str, FloatArray] = {}
    for name in sorted(next(iter(names))):
        pieces = [part[1][name] for part in parts if part[0]]
        if len({piece.shape[1:] for piece in pieces}) != 1:
            raise DataError(f"{folder}: its shards have {name} embeddings of different dimensions.")
        arrays[name] = np.concatenate(pieces)
    fingerprint = parts[0][3].get("fingerprint")
    table = EmbeddingTable(keys, arrays.get("image"), arrays.get("text"), fingerprint=fingerprint)
    if (folder / "metadata.parquet").is_file():
        columns = _read_parquet(folder / "metadata.parquet")
        if "key" not in columns:
            raise DataError(f"{folder / 'metadata.parquet'} has no column `key`.")
        row = {str(key): number for number, key in enumerate(columns.pop("key"))}
        order = [row.get(key) for key in table.keys]
        metadata = {
            name: [None if number is None else values[number] for number in order] for name, values in columns.items()
        }
        table = EmbeddingTable(keys, table.image, table.text, metadata, fingerprint)
    return table


def save_table(table: EmbeddingTable, folder: Path) -> None:
    """Write a table in koda's layout; an existing folder with files in it is refused."""
    with explain_os_errors(folder):
        if folder.exists() and any(folder.iterdir()):
            raise DataError(f"{folder} is not empty.", "Choose a new folder; koda does not overwrite embeddings.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
            temporary = Path(name) / "table"
            temporary.mkdir()
            for number, first in enumerate(range(0, table.n, SHARD_SIZE)):
                part = table.take(np.arange(first, min(first + SHARD_SIZE, table.n)))
                arrays = {name: getattr(part, name) for name in part.modalities}
                write_shard(temporary / shard_name(number), part.keys, arrays, extra={"fingerprint": table.fingerprint})
            if table.metadata:
                write_parquet(temporary / "metadata.parquet", {"key": list(table.keys), **table.metadata})
            if folder.exists():
                folder.rmdir()
            os.replace(temporary, folder)  # noqa: PTH105 - the one call that renames a folder over nothing


def write_parquet(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write columns as a Parquet file, atomically; values of mixed types are written as text."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = pa.array(list(values))
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            arrays[name] = pa.array([None if value is None else str(value) for value in values])
    buffer = io.BytesIO()
    pq.write_table(pa.table(arrays), buffer)
    write_atomically(path, buffer.getvalue())


def _read_parquet(path: Path) -> dict[str, list[Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # ParquetFile, not read_table: a folder named like `x=1` must not become a column
        columns: dict[str, list[Any]] = pq.ParquetFile(path).read().to_pydict()
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} is not a Parquet file: {error}.") from error
    return columns


def _load_clip_retrieval(folder: Path) -> EmbeddingTable:
    """Read `img_emb/img_emb_0.npy`, `text_emb/text_emb_0.npy`, `metadata/metadata_0.parquet`, rows aligned."""
    arrays = {
        modality: _numbered(folder / name, f"{name}_", ".npy", _read_npy)
        for modality, name in (("image", "img_emb"), ("text", "text_emb"))
        if (folder / name).is_dir()
    }
    metadata_parts = (
        _numbered(folder / "metadata", "metadata_", ".parquet", _read_parquet) if (folder / "metadata").is_dir() else {}
    )
    numbers = {modality: set(parts) for modality, parts in arrays.items()}
    if metadata_parts:
        numbers["metadata"] = set(metadata_parts)
    if len({frozenset(found) for found in numbers.values()}) != 1:
        gaps = ", ".join(f"{name}: {sorted(found)}" for name, found in numbers.items())
        raise DataError(
            f"{folder}: its parts do not belong together ({gaps}).", "Each number must stand in each folder."
        )
    order = sorted(next(iter(numbers.values())))
    for number in order:
        lengths = {modality: len(parts[number]) for modality, parts in arrays.items()}
        if metadata_parts:
            lengths["metadata"] = len(next(iter(metadata_parts[number].values()), []))
        if len(set(lengths.values())) != 1:
            raise DataError(f"{folder}: part {number} has rows that do not align: {lengths}.")
    stacked = {modality: np.concatenate([parts[number] for number in order]) for modality, parts in arrays.items()}
    metadata: dict[str, list[Any]] = {}
    for number in order:
        for name, values in metadata_parts.get(number, {}).items():
            metadata.setdefault(name, []).extend(values)
    n = len(next(iter(stacked.values())))
    metadata = {name: values for name, values in metadata.items() if len(values) == n}
    keys = next((metadata[name] for name in ("key", "image_path") if _distinct(metadata.get(name))), None)
    return EmbeddingTable(
        [str(number) for number in range(n)] if keys is None else [str(key) for key in keys],
        stacked.get("image"),
        stacked.get("text"),
        metadata,
    )


def _distinct(values: Sequence[Any] | None) -> bool:
    return values is not None and None not in values and len(set(map(str, values))) == len(values)


def _numbered(folder: Path, prefix: str, suffix: str, read: Any) -> dict[int, Any]:
    """Read the numbered parts of one folder."""
    parts = {}
    for path in sorted(folder.iterdir()):
        number = path.name.removeprefix(prefix).removesuffix(suffix)
        if path.name.startswith(prefix) and path.name.endswith(suffix) and number.isdigit():
            parts[int(number)] = read(path)
    if not parts:
        raise DataError(f"{folder} holds no {prefix}N{suffix}.")
    return parts


def _read_npy(path: Path) -> FloatArray:
    try:
        array: FloatArray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is not a numpy array: {error}.") from error
    if array.ndim != 2:
        raise DataError(f"{path} has shape {array.shape}; a matrix (samples, dimensions) is needed.")
    return array
