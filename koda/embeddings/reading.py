"""The two layouts of embedding folders, read by their headers: koda's shards, and clip-retrieval's parts.

Either becomes a :class:`EmbeddingFolder`: keys in row order, and for each part of the rows where its matrices lie.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np

from koda.embeddings.keys import key_text, keys_of
from koda.embeddings.layout import CLIP_FOLDERS, Join, shard_name
from koda.embeddings.matrix_files import MatrixFile, ShardHeader, read_npy_header, read_shard_header
from koda.embeddings.rows import checked_keys
from koda.errors import ConfigError, DataError, reason_of
from koda.secrets import conceal_all
from koda.storage.marks import MARK, Mark
from koda.typing import MODALITIES, FloatArray, IntArray

_ONE_RUN = "They were not made by one run."


@dataclass(frozen=True)
class Metadata:
    """The metadata columns of a folder, on disk.

    Args:
        names: of the columns.
        files: Parquet files, and the number of rows of each.
        join: the column that names the sample of a row; None where the rows are those of the embeddings.
    """

    names: tuple[str, ...] = ()
    files: tuple[tuple[Path, int], ...] = ()
    join: str | None = None


@dataclass(frozen=True)
class EmbeddingFolder:
    """An embedding folder as its headers describe it; nothing but the keys is held of its n samples.

    Args:
        folder: where it lies.
        keys: n distinct keys.
        parts: in row order, each a matrix by modality; no part is empty.
        metadata: what stands beside the embeddings.
        fingerprint: digest of the model, where known.
        named: the keys by which the metadata are joined, where ``keys`` are row numbers.
    """

    folder: Path
    keys: tuple[str, ...]
    parts: tuple[Mapping[str, MatrixFile], ...]
    metadata: Metadata
    fingerprint: str | None = None
    named: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return f"EmbeddingFolder({str(self.folder)!r}: {len(self.keys)} rows in {len(self.parts)} parts)"

    @cached_property
    def starts(self) -> IntArray:
        """First row of each part, (parts,)."""
        return _starts(next(iter(part.values())).rows for part in self.parts)

    @cached_property
    def dims(self) -> dict[str, int]:
        """Modality -> dimension, image before text."""
        return {name: self.parts[0][name].d for name in MODALITIES if name in self.parts[0]}

    @cached_property
    def dtypes(self) -> dict[str, np.dtype[Any]]:
        """Modality -> the type that holds the values of every part; whole numbers become float32."""
        common = {name: np.result_type(*(part[name].dtype for part in self.parts)) for name in self.dims}
        return {
            name: dtype.newbyteorder("=") if dtype.kind == "f" else np.dtype(np.float32)
            for name, dtype in common.items()
        }

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that embeddings or metadata are read from."""
        arrays = (matrix.path for part in self.parts for matrix in part.values())
        return tuple(dict.fromkeys([*arrays, *(path for path, _ in self.metadata.files)]))

    def read(self, rows: IntArray, modality: str) -> FloatArray:
        """Return the embeddings of the given rows, (m, d), in their order, part by part.

        Raises:
            DataError: a file that is gone or has changed.
        """
        out = np.empty((len(rows), self.dims[modality]), dtype=self.dtypes[modality])  # (m, d)
        for part, local, places in _grouped(self.starts, rows):
            self.parts[part][modality].read(local, out, places)
        return out

    def column(self, name: str, rows: IntArray) -> list[Any]:
        """Return a metadata column at the given rows, None where a sample has no entry.

        Raises:
            DataError: a file that is gone or has changed.
        """
        at = rows if self._order is None else self._order[rows]  # (m,) rows of the column, or -1
        known = np.flatnonzero(at >= 0)
        values: list[Any] = [None] * len(rows)
        for file, local, places in _grouped(_starts(count for _, count in self.metadata.files), at[known]):
            path, count = self.metadata.files[file]
            entries = read_column(path, name, count).take(local).to_pylist()
            for place, value in zip(known[places].tolist(), entries, strict=True):
                values[place] = conceal_all(value, lend=False)  # it may be a picture to fetch
        return values

    @cached_property
    def _order(self) -> IntArray | None:
        """Row of the metadata for each sample, -1 where there is none; None where rows are samples."""
        if self.metadata.join is None:
            return None
        ((path, count),) = self.metadata.files
        names = [key_text(key) for key in read_column(path, self.metadata.join, count).to_pylist()]
        row = {key: number for number, key in enumerate(names) if key is not None}
        if len(row) != len(names) - names.count(None):
            raise DataError(
                f"{path}: a {self.metadata.join!r} stands twice in it, so its columns cannot be joined to the samples.",
                "Leave one row a sample in it.",
            )
        keys = self.keys if self.named is None else self.named
        return np.fromiter((row.get(key, -1) for key in keys), dtype=np.int64, count=len(keys))


def read_shard(path: Path) -> tuple[list[str], dict[str, FloatArray], dict[str, str], dict[str, Any]]:
    """Read a shard: keys, arrays by modality, rejected key -> reason, extra notes.

    Raises:
        DataError: a file that is not a whole shard.
    """
    header = read_shard_header(path)
    arrays: dict[str, FloatArray] = {}
    for name, matrix in header.arrays.items():
        arrays[name] = np.empty((matrix.rows, matrix.d), dtype=matrix.dtype)
        every = np.arange(matrix.rows)
        matrix.read(every, arrays[name], every)
    return header.keys, arrays, header.rejected, header.notes


def open_folder(folder: Path, join: Join = "keys") -> EmbeddingFolder:
    """Read what the headers of an embedding folder say, and check that its parts fit together.

    Args:
        folder: of either layout.
        join: "rows" makes the row numbers the keys, whatever keys there are.

    Raises:
        ConfigError: another word for ``join``.
        DataError: no such folder, neither layout, parts that are not whole or do not fit together, or no key that
            names each row.
    """
    if join not in get_args(Join):
        raise ConfigError(f"join is {join!r}.", f"Use {' or '.join(get_args(Join))}.")
    if not folder.is_dir():
        raise DataError(f"There is no embedding folder {folder}.", "Give the folder, not a file in it.")
    n_shards = sum(1 for _ in folder.glob("shard-*.safetensors"))
    if n_shards:
        _check_undamaged(folder)
        source = _open_shards(folder, n_shards, join)
    elif any((folder / name).is_dir() for name in CLIP_FOLDERS.values()):
        source = _open_clip_retrieval(folder, join)
    else:
        raise DataError(
            f"{folder} holds no embeddings.",
            "koda reads its own folders (shard-00000.safetensors, ...) and clip-retrieval's (img_emb/img_emb_0.npy, "
            "text_emb/text_emb_0.npy, metadata/metadata_0.parquet with a column `key`); koda compare --help says more.",
        )
    for name, d in source.dims.items():
        if d == 0:
            raise DataError(f"{folder}: the {name} embeddings have no dimensions.", "Check the files they came from.")
    return source


def _check_undamaged(folder: Path) -> None:
    """Refuse a folder that an audit made and that is no longer as it was; what lies beside it says how it was.

    Raises:
        DataError: the file, and what is wrong with it.
    """
    if not (folder / MARK).is_file():
        return
    try:
        fault = Mark.read(folder).fault(folder)
    except (OSError, ValueError) as error:
        fault = f"{folder / MARK} is damaged: {reason_of(error)}"
    if fault is not None:
        raise DataError(f"{fault}.", "Run the audit that made it again, or copy the folder again.")


def _open_shards(folder: Path, n_shards: int, join: Join) -> EmbeddingFolder:
    paths = [folder / shard_name(number) for number in range(n_shards)]
    if missing := [path for path in paths if not path.exists()]:
        raise DataError(f"{folder}: the shard {missing[0].name} is missing.", "Copy the folder again.")
    headers: list[ShardHeader] = []
    fingerprint: str | None = None
    for path in paths:
        header = read_shard_header(path)
        made_by = header.notes.get("fingerprint")
        if path is not paths[0] and made_by != fingerprint:
            raise DataError(f"{folder}: {path.name} comes from another model than the shards before it.", _ONE_RUN)
        fingerprint = made_by
        if header.keys:
            headers.append(header)
    if not headers:
        raise DataError(f"{folder} holds shards but no embedding.", "Every sample was rejected when it was made.")
    parts = tuple(header.arrays for header in headers)
    if len({frozenset(part) for part in parts}) != 1:
        raise DataError(f"{folder}: its shards hold different modalities.", _ONE_RUN)
    if not set(MODALITIES) & set(parts[0]):
        raise DataError(f"{folder}: its shards hold neither image nor text embeddings.", _ONE_RUN)
    parts = tuple({name: part[name] for name in MODALITIES if name in part} for part in parts)
    _check_dims(folder, "shards", parts)
    keys = checked_keys([key for header in headers for key in header.keys])
    metadata = Metadata()
    if (table := folder / "metadata.parquet").is_file():
        names, count = _columns(table)
        if "key" not in names:
            raise DataError(f"{table} has no column `key`.")
        metadata = Metadata(tuple(name for name in names if name != "key"), ((table, count),), "key")
    if join == "rows":
        return EmbeddingFolder(folder, _numbers(len(keys)), parts, metadata, fingerprint, named=keys)
    return EmbeddingFolder(folder, keys, parts, metadata, fingerprint)


def _open_clip_retrieval(folder: Path, join: Join) -> EmbeddingFolder:
    """Open `img_emb/img_emb_0.npy`, `text_emb/text_emb_0.npy`, `metadata/metadata_0.parquet`, rows aligned."""
    arrays = {
        modality: {number: read_npy_header(path) for number, path in _numbered(folder / name, ".npy").items()}
        for modality, name in CLIP_FOLDERS.items()
        if (folder / name).is_dir()
    }
    tables = _numbered(folder / "metadata", ".parquet") if (folder / "metadata").is_dir() else {}
    numbers = {modality: set(parts) for modality, parts in arrays.items()}
    if tables:
        numbers["metadata"] = set(tables)
    if len({frozenset(present) for present in numbers.values()}) != 1:
        gaps = ", ".join(f"{name}: {sorted(present)}" for name, present in numbers.items())
        raise DataError(
            f"{folder}: its parts do not belong together ({gaps}).", "Each number must stand in each folder."
        )
    parts: list[dict[str, MatrixFile]] = []
    files: list[tuple[Path, int]] = []
    names: list[list[str]] = []
    for number in sorted(next(iter(numbers.values()))):
        part = {modality: parts[number] for modality, parts in arrays.items()}
        lengths = {modality: matrix.rows for modality, matrix in part.items()}
        columns: list[str] = []
        if tables:
            columns, lengths["metadata"] = _columns(tables[number])
        if len(set(lengths.values())) != 1:
            raise DataError(f"{folder}: part {number} has rows that do not align: {lengths}.")
        if next(iter(lengths.values())):
            parts.append(part)
            names.append(columns)
            files += [(tables[number], lengths["metadata"])] if tables else []
    if not parts:
        raise DataError(f"{folder} holds parts but no embedding.", "Every .npy file in it has 0 rows.")
    _check_dims(folder, "parts", parts)
    # a column that a part lacks is of no use
    common = tuple(name for name in names[0] if all(name in columns for columns in names))
    n = sum(next(iter(part.values())).rows for part in parts)
    keys = _numbers(n) if join == "rows" else keys_of(folder, files, names, read_column)
    return EmbeddingFolder(folder, keys, tuple(parts), Metadata(common, tuple(files) if common else ()))


def _numbers(n: int) -> tuple[str, ...]:
    """Return row numbers as keys."""
    return tuple(map(str, range(n)))


def _check_dims(folder: Path, what: str, parts: Sequence[Mapping[str, MatrixFile]]) -> None:
    for name in parts[0]:
        if len(dims := sorted({part[name].d for part in parts})) != 1:
            raise DataError(f"{folder}: its {what} have {name} embeddings of different dimensions: {dims}.", _ONE_RUN)


def _numbered(folder: Path, suffix: str) -> dict[int, Path]:
    """Return number -> path of the parts `<folder>_<number><suffix>` of one folder."""
    prefix = f"{folder.name}_"
    parts: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        number = path.name.removeprefix(prefix).removesuffix(suffix)
        if not path.name.endswith(suffix) or path.name.startswith("."):
            continue
        if not (path.name.startswith(prefix) and re.fullmatch("[0-9]+", number)):
            raise DataError(
                f"{path} is not named {prefix}N{suffix}, so that nobody knows which rows it holds.",
                "Give it the number of its part, or move it out of the folder.",
            )
        if (other := parts.setdefault(int(number), path)) is not path:
            raise DataError(f"{folder} holds part {int(number)} twice: {other.name} and {path.name}.", _ONE_RUN)
    if not parts:
        raise DataError(f"{folder} holds no {prefix}N{suffix}.")
    return parts


def _columns(path: Path) -> tuple[list[str], int]:
    """Return the names of the columns of a Parquet file, and its number of rows."""
    with _parquet(path) as file:
        return list(file.schema_arrow.names), int(file.metadata.num_rows)


def read_column(path: Path, name: str, count: int) -> Any:
    """Return one column of a Parquet file as an arrow array of ``count`` values.

    Raises:
        DataError: a file that is gone, or no longer holds the column in this length.
    """
    import pyarrow as pa

    with _parquet(path) as file:
        try:
            column = file.read(columns=[name]).column(name)
        except (OSError, KeyError, pa.ArrowException) as error:
            raise DataError(f"{path}: its column {name!r} cannot be read: {reason_of(error)}.") from error
    if len(column) != count:
        raise DataError(f"{path} has changed since it was opened.", "Open the folder again.")
    return column


def _parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # ParquetFile, not read_table: a folder named like `x=1` must not become a column
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} is not a Parquet file: {reason_of(error)}.") from error


def _starts(counts: Iterator[int]) -> IntArray:
    """Return the first row of each part, for the numbers of rows of the parts."""
    return np.cumsum([0, *counts], dtype=np.int64)[:-1]


def _grouped(starts: IntArray, rows: IntArray) -> Iterator[tuple[int, IntArray, IntArray]]:
    """Yield (part, its own row numbers ascending, their places in ``rows``), each part once."""
    order = np.argsort(rows, kind="stable")
    part_of = np.searchsorted(starts, rows[order], side="right") - 1  # (m,)
    cuts = np.flatnonzero(np.diff(part_of)) + 1
    for first, last in pairwise([0, *cuts.tolist(), len(rows)] if len(rows) else []):
        part, places = int(part_of[first]), order[first:last]
        yield part, rows[places] - starts[part], places
