"""An embedding table that stays on disk: rows are read when they are taken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from koda.embedding_layouts import Source, open_folder
from koda.embeddings import (
    CHUNK_ROWS,
    EmbeddingTable,
    Rows,
    checked_keys,
    checked_modalities,
    reasons_of,
    row_numbers,
    row_slices,
    rows_of,
    unusable,
)
from koda.typing import IntArray


class LazyColumns(Mapping[str, list[Any]]):
    """Metadata columns that are read from disk when they are first asked for, and kept from then on."""

    def __init__(self, source: Source, rows: IntArray) -> None:
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

    source: Source
    keys: tuple[str, ...]
    rows: IntArray
    modalities: tuple[str, ...]

    @classmethod
    def open(cls, folder: Path) -> ShardedTable:
        """Open an embedding folder of either layout; see :meth:`EmbeddingTable.open`."""
        source = open_folder(folder)
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
                faults += [(name, fault, at[found]) for fault, found in unusable(values).items()]
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
