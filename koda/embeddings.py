"""Embeddings of one model over a set of samples, joined between models by key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from koda.errors import ConfigError, DataError
from koda.typing import MODALITIES, FloatArray, IntArray

Rows = Iterable[int] | np.ndarray[Any, Any]

CHUNK_ROWS = 8192  # rows checked at a time: the temporaries stay at some megabytes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from koda.embedding_io import Layout
    from koda.embedding_shards import ShardedTable


class TableLike(Protocol):
    """What a search needs of a table: :class:`EmbeddingTable` in memory, or a ``ShardedTable`` on disk.

    ``select`` and ``only`` stay what the table is; ``take`` and ``chunks`` give tables in memory.
    """

    @property
    def keys(self) -> Sequence[str]:
        """The sample keys, in row order."""

    @property
    def metadata(self) -> Mapping[str, Sequence[Any]]:
        """Columns of n values each."""

    @property
    def fingerprint(self) -> str | None:
        """Digest of the model that made the embeddings, where known."""

    @property
    def n(self) -> int:
        """Number of samples."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities present: of "image" and "text"."""

    @property
    def dims(self) -> Mapping[str, int]:
        """Modality -> dimension of its embeddings."""

    def take(self, rows: Rows) -> EmbeddingTable:
        """Return the given rows in memory, in their order."""

    def select(self, keys: Sequence[str]) -> TableLike:
        """Return the rows of the given keys, in their order."""

    def only(self, modalities: Sequence[str]) -> TableLike:
        """Return the table without its other modalities."""

    def invalid_rows(self) -> dict[str, str]:
        """Return key -> reason for the rows that no kernel can use."""

    def chunks(self, size: int) -> Iterator[tuple[slice, EmbeddingTable]]:
        """Yield consecutive rows, ``size`` at a time, without metadata."""


def _matrix(values: ArrayLike, what: str, n: int) -> FloatArray:
    """Check one modality's embeddings and return them as a floating (n, d) array."""
    if hasattr(values, "detach"):  # a torch tensor, without importing torch
        tensor = values.detach().cpu()
        values = tensor.float().numpy() if not tensor.dtype.is_floating_point else _to_numpy(tensor)
    array = np.asarray(values)
    if array.ndim != 2:
        raise DataError(
            f"The {what} embeddings have shape {array.shape}; a matrix (samples, dimensions) is needed.",
            "Pass one row per key.",
        )
    if array.shape[0] != n:
        raise DataError(
            f"There are {n} keys but {array.shape[0]} rows of {what} embeddings.",
            "Keys and rows must correspond one to one.",
        )
    if array.shape[1] == 0:
        raise DataError(f"The {what} embeddings have no dimensions.", "Check the file they came from.")
    if array.dtype.kind not in "fiu":
        raise DataError(f"The {what} embeddings have type {array.dtype}; numbers are needed.")
    if array.dtype.kind != "f":
        array = array.astype(np.float32)
    return array


def _to_numpy(tensor: Any) -> FloatArray:
    """Convert a tensor to numpy; bfloat16, which numpy lacks, goes through float32."""
    array: FloatArray = (tensor.float() if "bfloat16" in str(tensor.dtype) else tensor).numpy()
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
        metadata = dict(self.metadata or {})
        for column, values in metadata.items():
            if len(values) != n:
                raise DataError(
                    f"The metadata column {column!r} has {len(values)} values for {n} keys.",
                    "Give one value per key (None where unknown).",
                )
        object.__setattr__(self, "metadata", metadata)

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
        """Return the rows of the given keys, in their order.

        Raises:
            DataError: a key that is not in the table.
        """
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
                    (name, fault, found + rows.start) for fault, found in unusable(getattr(self, name)[rows]).items()
                ]
        return reasons_of(self.keys, faults)

    @classmethod
    def load(cls, path: str | Path) -> EmbeddingTable:
        """Read an embedding folder: koda's own layout, or clip-retrieval's.

        Raises:
            DataError: no such folder, neither layout, or parts that do not fit together.
        """
        return cls.open(path).to_memory()

    @classmethod
    def open(cls, path: str | Path) -> ShardedTable:
        """Open an embedding folder without reading its embeddings: rows come from disk when they are taken.

        Raises:
            DataError: as :meth:`load`; only headers and keys are read.
        """
        from koda.embedding_shards import ShardedTable

        return ShardedTable.open(Path(path))

    def save(self, path: str | Path, layout: Layout = "koda") -> None:
        """Write the table as a folder that :meth:`load` reads, atomically; ``clip-retrieval`` is read by its tools too.

        Raises:
            DataError: a folder with files in it.
            StoreError: the disk is full, read-only or forbidden.
        """
        from koda.embedding_io import save_table

        save_table(self, Path(path), layout)


def checked_keys(keys: Sequence[str]) -> tuple[str, ...]:
    """Return the keys as text.

    Raises:
        DataError: no keys, or a key twice.
    """
    found = tuple(map(str, keys))
    if not found:
        raise DataError("The embedding table has no rows.", "An audit needs samples.")
    if len(distinct := set(found)) != len(found):
        seen: set[str] = set()
        first = next(key for key in found if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise DataError(
            f"The key {first!r} occurs more than once ({len(found) - len(distinct)} repeated keys in all).",
            "Keys identify samples across models; make them distinct.",
        )
    return found


def checked_modalities(wanted: Sequence[str], present: Sequence[str]) -> tuple[str, ...]:
    """Return the modalities asked for, image before text.

    Raises:
        DataError: one that is not there, or none.
    """
    names = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    missing = [name for name in names if name not in present]
    if missing or not names:
        raise DataError(
            f"The table has no {missing[0]} embeddings." if missing else "No modality was asked for.",
            f"It has {' and '.join(present)} embeddings.",
        )
    return tuple(name for name in MODALITIES if name in names)


def row_numbers(rows: Rows, n: int) -> IntArray:
    """Return row numbers from 0 to n - 1 for numbers (negative ones from the end) or a mask.

    Raises:
        DataError: a number or a mask that is not of a table of n rows.
    """
    given = np.asarray(rows if isinstance(rows, np.ndarray) else list(rows))
    if given.dtype == bool:
        if given.shape != (n,):
            raise DataError(f"The mask of rows has shape {given.shape}, the table {n} rows.", "Give one value a row.")
        return np.flatnonzero(given).astype(np.int64)
    if given.size == 0:
        return np.zeros(0, dtype=np.int64)
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise DataError(
            f"Rows of type {given.dtype} and shape {given.shape} were asked for.", "Give a list of numbers."
        )
    index = given.astype(np.int64)
    if (outside := (index < -n) | (index >= n)).any():
        raise DataError(f"The row {index[outside][0]} was asked for; the table has {n} rows, from 0 on.")
    return np.where(index < 0, index + n, index)


def rows_of(keys: Sequence[str], wanted: Sequence[str]) -> IntArray:
    """Return the row number of each wanted key.

    Raises:
        DataError: a key that is not in the table.
    """
    row = {key: number for number, key in enumerate(keys)}
    found = np.fromiter((row.get(key, -1) for key in wanted), dtype=np.int64, count=len(wanted))
    if (missing := found < 0).any():
        first = wanted[int(np.argmax(missing))]
        raise DataError(f"{missing.sum()} of {len(wanted)} keys are not in the table, the first is {first!r}.")
    return found


def row_slices(n: int, size: int) -> Iterator[slice]:
    """Yield the slices that cut n rows into pieces of ``size``, the last one shorter.

    Raises:
        ConfigError: a size below 1.
    """
    if size < 1:
        raise ConfigError(f"The rows were to be read {size} at a time; at least 1 is needed.")
    return (slice(first, min(first + size, n)) for first in range(0, n, size))


def unusable(values: FloatArray) -> dict[str, IntArray]:
    """Return fault -> row numbers for the rows of (n, d) embeddings that no kernel can use."""
    finite = np.isfinite(values).all(axis=1)  # (n,)
    zero = finite & ~(values != 0).any(axis=1)  # (n,)
    return {"holds NaN or infinity": np.flatnonzero(~finite), "is the zero vector": np.flatnonzero(zero)}


def reasons_of(keys: Sequence[str], faults: Sequence[tuple[str, str, IntArray]]) -> dict[str, str]:
    """Return key -> reason for (modality, fault, row numbers), in row order; one reason a key, of the first fault."""
    found: dict[int, str] = {}
    for name, fault, rows in faults:
        for row in rows.tolist():
            found.setdefault(row, f"the {name} embedding {fault}")
    return {keys[row]: found[row] for row in sorted(found)}
