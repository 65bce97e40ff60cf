"""Embeddings of one model over a set of samples, joined between models by key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from koda.embeddings.reading import EmbeddingFolder, open_folder
from koda.embeddings.rows import (
    CHUNK_ROWS,
    Rows,
    checked_keys,
    checked_modalities,
    reasons_of,
    row_numbers,
    row_slices,
    rows_of,
    unusable,
)
from koda.errors import DataError
from koda.typing import MODALITIES, FloatArray, IntArray

if TYPE_CHECKING:
    from koda.embeddings.layout import Join, Layout


_TENSOR_TYPES = ("torch.float16", "torch.float32", "torch.float64")
_STACK = "Pass one matrix of numbers, such as numpy.stack(rows) makes of rows of one length."


def _matrix(values: Any, what: str, n: int) -> FloatArray:
    """Check one modality's embeddings and return them as a floating (n, d) array."""
    if hasattr(values, "detach"):  # a torch tensor, without importing torch
        values = _to_numpy(values.detach().cpu().to_dense())
    if hasattr(values, "filled"):  # a masked array, without importing numpy.ma: what is masked is not there
        values = values.astype(np.float64).filled(np.nan)
    try:
        array = np.asarray(values)
    except ValueError:
        raise DataError(f"The {what} embeddings have rows of different lengths.", _STACK) from None
    if array.ndim != 2:
        raise DataError(
            f"The {what} embeddings have shape {array.shape}; a matrix (samples, dimensions) is needed.",
            _STACK if array.dtype == object else "Pass one row per key.",
        )
    if array.shape[0] != n:
        raise DataError(
            f"There are {n} keys but {array.shape[0]} rows of {what} embeddings.",
            "Keys and rows must correspond one to one.",
        )
    if array.shape[1] == 0:
        raise DataError(f"The {what} embeddings have no dimensions.", "Check the file they came from.")
    if array.dtype.kind not in "fiu":
        raise DataError(
            f"The {what} embeddings have type {array.dtype}; numbers are needed.",
            _STACK if array.dtype == object else "Pass float16, float32 or float64.",
        )
    if array.dtype.kind != "f":
        return array.astype(np.float32)
    if array.dtype.itemsize > 8:
        return array.astype(np.float64)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _to_numpy(tensor: Any) -> FloatArray:
    """Convert a tensor to numpy; types of few bits that numpy lacks, such as bfloat16, go through float32."""
    known = not tensor.dtype.is_floating_point or str(tensor.dtype) in _TENSOR_TYPES
    array: FloatArray = (tensor if known else tensor.float()).numpy()
    return array


@dataclass(frozen=True)
class EmbeddingTable:
    """Image and text embeddings of n samples under one model.

    Args:
        keys: n distinct sample keys (text). Tables of two models are joined by these, never by row.
        image: (n, d_image) embeddings, numpy or torch, or None.
        text: (n, d_text) embeddings, or None. At least one modality is needed.
        metadata: optional columns, each of n values (``caption`` among them, where known).
        fingerprint: digest of the model that made them, where known.

    Raises:
        DataError: shapes that disagree, duplicate keys, no modality, no rows.

    Values are not checked here: a row with NaN, infinity or zero norm is found by
    :meth:`invalid_rows`, so that the caller can record it as a rejection.

    >>> import numpy as np
    >>> EmbeddingTable(keys=["a", "b"], image=np.eye(2)).n
    2
    """

    keys: Sequence[str]
    image: FloatArray | None = None  # (n, d_image)
    text: FloatArray | None = None  # (n, d_text)
    metadata: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        keys = checked_keys(self.keys)
        n = len(keys)
        if self.image is None and self.text is None:
            raise DataError("Neither image nor text embeddings were given.", "Pass at least one of them.")
        object.__setattr__(self, "keys", keys)
        for name in MODALITIES:
            if (values := getattr(self, name)) is not None:
                object.__setattr__(self, name, _matrix(values, name, n))
        if not isinstance(self.metadata or {}, Mapping):
            raise DataError(f"The metadata are {type(self.metadata).__name__}.", "Pass a mapping of columns by name.")
        metadata = dict(self.metadata or {})
        for column, values in metadata.items():
            if not hasattr(values, "__len__"):
                raise DataError(
                    f"The metadata column {column!r} is {type(values).__name__}, no list of values.",
                    "Give one value per key (None where unknown).",
                )
            if len(values) != n:
                raise DataError(
                    f"The metadata column {column!r} has {len(values)} values for {n} keys.",
                    "Give one value per key (None where unknown).",
                )
        object.__setattr__(self, "metadata", metadata)

    def __repr__(self) -> str:
        return f"EmbeddingTable({', '.join(f'{name} ({self.n}, {d})' for name, d in self.dims.items())})"

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.keys)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities present: of "image" and "text"."""
        return tuple(name for name in MODALITIES if getattr(self, name) is not None)

    @property
    def dims(self) -> dict[str, int]:
        """Modality -> dimension of its embeddings."""
        return {name: getattr(self, name).shape[1] for name in self.modalities}

    def take(self, rows: Rows) -> EmbeddingTable:
        """Return the table of the given rows, in their order.

        Args:
            rows: row numbers, negative ones from the end, or a mask of n truth values.

        Raises:
            DataError: a row that is not there, a row twice, or none.
        """
        index = row_numbers(rows, self.n)
        numbers: list[int] = index.tolist()
        return EmbeddingTable(
            keys=[self.keys[i] for i in numbers],
            image=None if self.image is None else self.image[index],
            text=None if self.text is None else self.text[index],
            metadata={name: [column[i] for i in numbers] for name, column in self.metadata.items()},
            fingerprint=self.fingerprint,
        )

    def select(self, keys: Sequence[str]) -> EmbeddingTable:
        """Return the rows of the given keys, in their order; the table itself where these are its own.

        Raises:
            DataError: a key that is not in the table.
        """
        if tuple(keys) == self.keys:  # nothing is copied
            return self
        return self.take(rows_of(self.keys, keys))

    def only(self, modalities: Sequence[str]) -> EmbeddingTable:
        """Return the table without its other modalities; nothing is copied.

        Raises:
            DataError: a modality that the table lacks, or none asked for.
        """
        kept = checked_modalities(modalities, self.modalities)
        parts = {name: getattr(self, name) for name in kept}
        return EmbeddingTable(self.keys, metadata=self.metadata, fingerprint=self.fingerprint, **parts)

    def chunks(self, size: int) -> Iterator[tuple[slice, EmbeddingTable]]:
        """Yield consecutive rows, ``size`` at a time: views of the arrays, without metadata.

        Yields:
            (rows, table): the slice of row numbers, and the table of these rows.

        Raises:
            ConfigError: a size below 1.
        """
        for rows in row_slices(self.n, size):
            parts = {name: getattr(self, name)[rows] for name in self.modalities}
            yield rows, EmbeddingTable(self.keys[rows], fingerprint=self.fingerprint, **parts)

    def invalid_rows(self) -> dict[str, str]:
        """Return key -> reason for the rows that no kernel can use (NaN, infinity, zero norm)."""
        faults: list[tuple[str, str, IntArray]] = []
        for name in self.modalities:
            for rows in row_slices(self.n, CHUNK_ROWS):
                faults += [
                    (name, fault, bad + rows.start) for fault, bad in unusable(getattr(self, name)[rows]).items()
                ]
        return reasons_of(self.keys, faults)

    @classmethod
    def load(cls, path: str | Path, join: Join = "keys") -> EmbeddingTable:
        """Read an embedding folder: koda's own layout, or clip-retrieval's.

        Args:
            path: the folder.
            join: "rows" makes the row numbers the keys, for folders without keys that hold the same samples in the
                same order.

        Raises:
            DataError: no such folder, neither layout, parts that do not fit together, or no key that names each row.
        """
        return cls.open(path, join).to_memory()

    @classmethod
    def open(cls, path: str | Path, join: Join = "keys") -> ShardedTable:
        """Open an embedding folder without reading its embeddings: rows come from disk when they are taken.

        Raises:
            DataError: as :meth:`load`; only headers and keys are read.
        """
        return ShardedTable.open(Path(path), join)

    def save(self, path: str | Path, layout: Layout = "koda") -> None:
        """Write the table as a folder that :meth:`load` reads, atomically; ``clip-retrieval`` is read by its tools too.

        Raises:
            DataError: a folder with files in it.
            StoreError: the disk is full, read-only or forbidden.
        """
        from koda.embeddings.writing import save_table

        save_table(self, Path(path), layout)


class LazyColumns(Mapping[str, list[Any]]):
    """Metadata columns that are read from disk when they are first asked for, and kept from then on."""

    def __init__(self, source: EmbeddingFolder, rows: IntArray) -> None:
        self._source, self._rows = source, rows
        self._read: dict[str, list[Any]] = {}

    def __getitem__(self, name: str) -> list[Any]:
        """Return a column, a value per row."""
        if name not in self._source.metadata.names:
            raise KeyError(name)
        if name not in self._read:
            self._read[name] = self._source.column(name, self._rows)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._source.metadata.names)

    def __len__(self) -> int:
        return len(self._source.metadata.names)


@dataclass(frozen=True, eq=False)
class ShardedTable:
    """Embeddings of n samples in a folder, of which memory holds the keys and a row number each.

    It is read like an :class:`~koda.embeddings.EmbeddingTable`; :meth:`select` and :meth:`only` are views.
    Tables that :meth:`take` and :meth:`chunks` return hold no metadata: columns are read from
    ``metadata``, where one that is asked for is read as a whole and stays in memory.
    A file that is gone or has changed since :meth:`open` is a :class:`~koda.errors.DataError` that names it.

    Args:
        source: the folder.
        keys: n distinct keys.
        rows: (n,) the row of each in the folder.
        modalities: those that the view shows.
    """

    source: EmbeddingFolder
    keys: tuple[str, ...]
    rows: IntArray
    modalities: tuple[str, ...]

    @classmethod
    def open(cls, folder: Path, join: Join = "keys") -> ShardedTable:
        """Open an embedding folder of either layout; see :meth:`EmbeddingTable.open`."""
        source = open_folder(folder, join)
        return cls(source, source.keys, np.arange(len(source.keys), dtype=np.int64), tuple(source.dims))

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} ({self.n}, {d})" for name, d in self.dims.items())
        return f"ShardedTable({str(self.source.folder)!r}: {parts})"

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.keys)

    @property
    def dims(self) -> dict[str, int]:
        """Modality -> dimension of its embeddings."""
        return {name: self.source.dims[name] for name in self.modalities}

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that the embeddings and the metadata come from."""
        return self.source.files

    @property
    def fingerprint(self) -> str | None:
        """Digest of the model that made the embeddings, where known."""
        return self.source.fingerprint

    @cached_property
    def metadata(self) -> LazyColumns:
        """Metadata columns, each read when it is first asked for."""
        return LazyColumns(self.source, self.rows)

    def take(self, rows: Rows) -> EmbeddingTable:
        """Read the given rows into memory, in their order and without metadata; each file is opened once.

        Args:
            rows: row numbers of this view, negative ones from the end, or a mask of n truth values.

        Raises:
            DataError: a row that is not there, a row twice, or none; a file that is gone or has changed.
        """
        return self._read(row_numbers(rows, self.n))

    def select(self, keys: Sequence[str]) -> ShardedTable:
        """Return a view of the rows of the given keys, in their order; nothing is read.

        Raises:
            DataError: a key that is not in the table, a key twice, or none.
        """
        names = checked_keys(keys)
        return replace(self, keys=names, rows=self.rows[rows_of(self.keys, names)])

    def only(self, modalities: Sequence[str]) -> ShardedTable:
        """Return a view without the other modalities; nothing is read.

        Raises:
            DataError: a modality that the table lacks, or none asked for.
        """
        return replace(self, modalities=checked_modalities(modalities, self.modalities))

    def chunks(self, size: int) -> Iterator[tuple[slice, EmbeddingTable]]:
        """Yield consecutive rows, read ``size`` at a time, without metadata.

        Yields:
            (rows, table): the slice of row numbers, and the table of these rows.

        Raises:
            ConfigError: a size below 1.
            DataError: a file that is gone or has changed.
        """
        for rows in row_slices(self.n, size):
            yield rows, self._read(np.arange(rows.start, rows.stop))

    def invalid_rows(self) -> dict[str, str]:
        """Return key -> reason for the rows that no kernel can use (NaN, infinity, zero norm), read in chunks.

        Raises:
            DataError: a file that is gone or has changed.
        """
        order = np.argsort(self.rows, kind="stable")  # as on disk, so that each part is read once
        faults: list[tuple[str, str, IntArray]] = []
        for name in self.modalities:
            for piece in row_slices(self.n, CHUNK_ROWS):
                at = order[piece]
                values = self.source.read(self.rows[at], name)  # (chunk, d)
                faults += [(name, fault, at[bad]) for fault, bad in unusable(values).items()]
        return reasons_of(self.keys, faults)

    def to_memory(self) -> EmbeddingTable:
        """Read the whole view, metadata included.

        Raises:
            DataError: a file that is gone or has changed.
        """
        parts = {name: self.source.read(self.rows, name) for name in self.modalities}
        return EmbeddingTable(self.keys, parts.get("image"), parts.get("text"), dict(self.metadata), self.fingerprint)

    def _read(self, index: IntArray) -> EmbeddingTable:
        """Read the rows of this view with the given numbers."""
        keys = [self.keys[row] for row in index.tolist()]
        parts = {name: self.source.read(self.rows[index], name) for name in self.modalities}
        return EmbeddingTable(keys, parts.get("image"), parts.get("text"), fingerprint=self.fingerprint)
