"""Rows of embedding tables: keys, row numbers, and what no kernel can use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Protocol

import numpy as np

from koda.embeddings.keys import key_text, repeated_key
from koda.errors import ConfigError, DataError
from koda.typing import MODALITIES, FloatArray, IntArray

Rows = Iterable[int] | np.ndarray[Any, Any]
CHUNK_ROWS = 8192  # rows checked at a time: the temporaries stay at some megabytes


class TableLike(Protocol):
    """What a search needs of a table: ``EmbeddingTable`` in memory, or ``ShardedTable`` on disk.

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

    def take(self, rows: Rows) -> TableInMemory:
        """Return the given rows in memory, in their order."""

    def select(self, keys: Sequence[str]) -> TableLike:
        """Return the rows of the given keys, in their order."""

    def only(self, modalities: Sequence[str]) -> TableLike:
        """Return the table without its other modalities."""

    def invalid_rows(self) -> dict[str, str]:
        """Return key -> reason for the rows that no kernel can use."""

    def chunks(self, size: int) -> Iterator[tuple[slice, TableInMemory]]:
        """Yield consecutive rows, ``size`` at a time, without metadata."""


class TableInMemory(TableLike, Protocol):
    """A table whose embeddings are arrays: ``EmbeddingTable``."""

    @property
    def image(self) -> FloatArray | None:
        """Image embeddings, (n, d_image)."""

    @property
    def text(self) -> FloatArray | None:
        """Text embeddings, (n, d_text)."""


def check_table(table: Any, role: str) -> None:
    """Check that something is a table of embeddings.

    Raises:
        DataError: it is something else, such as an array without keys.
    """
    if not hasattr(table, "modalities"):
        raise DataError(
            f"The {role} is {type(table).__name__}, which is no table of embeddings.",
            "Pass EmbeddingTable(keys, image=..., text=...), or EmbeddingTable.open(folder).",
        )


def checked_keys(keys: Sequence[Any]) -> tuple[str, ...]:
    """Return the keys as text.

    Raises:
        DataError: no keys, something that is no list of them, an empty one, or one that stands twice.
    """
    if isinstance(keys, str | bytes | AbstractSet) or not isinstance(keys, Iterable):
        raise DataError(
            f"The keys are {type(keys).__name__}, not a list of keys.",
            "Give one key a sample, in the order of the rows.",
        )
    names = tuple(key if type(key) is str and "://" not in key else key_text(key) for key in keys)
    if not names:
        raise DataError("The embedding table has no rows.", "An audit needs samples.")
    if not all(names):
        row = next(row for row, name in enumerate(names) if not name)
        raise DataError(f"Row {row + 1} has no key.", "Keys identify samples across models; give each row one.")
    if len(set(names)) != len(names):
        first, repeated = repeated_key(names)
        raise DataError(
            f"The key {first!r} occurs more than once ({repeated} repeated keys in all).",
            "Keys identify samples across models; make them distinct.",
        )
    return names  # type: ignore[return-value]


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
    rows = np.fromiter((row.get(key, -1) for key in wanted), dtype=np.int64, count=len(wanted))
    if (missing := rows < 0).any():
        first = wanted[int(np.argmax(missing))]
        raise DataError(f"{missing.sum()} of {len(wanted)} keys are not in the table, the first is {first!r}.")
    return rows


def rows_by_key(keys: Sequence[str]) -> IntArray:
    """Return the row numbers in the order of the sorted keys, (n,), whatever the order of the rows."""
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def drawn_keys(keys: Sequence[str], size: int, seed: int | Sequence[int]) -> list[str]:
    """Draw at most ``size`` keys from their sorted order, so that the order of the rows does not matter; sorted."""
    ordered = sorted(keys)
    if len(ordered) <= size:
        return ordered
    rows = np.sort(np.random.default_rng(seed).choice(len(ordered), size=size, replace=False))
    return [ordered[row] for row in rows]


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
    reason_of: dict[int, str] = {}
    for name, fault, rows in faults:
        for row in rows.tolist():
            reason_of.setdefault(row, f"the {name} embedding {fault}")
    return {keys[row]: reason_of[row] for row in sorted(reason_of)}
