"""What names the rows of an embedding folder: a column of keys, or row numbers where that was asked for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from koda.errors import DataError
from koda.secrets import conceal

KEY_COLUMNS = ("key", "image_path")  # of the metadata, the better one first
BY_ROW = (
    "Make the keys distinct (with the name of the shard in them, say). Where both sides hold the same samples in the "
    "same order they can be joined by row: koda compare --join rows, data.join: rows in an audit, "
    'EmbeddingTable.open(folder, join="rows") in Python.'
)


def key_text(value: Any) -> str | None:
    """Return a key as text; None where there is none.

    A whole number is written alike whatever the type of its column: one with gaps holds floating numbers.

    >>> key_text(7), key_text(7.0), key_text("007"), key_text(float("nan"))
    ('7', '7', '007', None)
    """
    if type(value) is str:
        return conceal(value, remember=False) or None
    if hasattr(value, "item"):  # a number of numpy's or of a tensor
        if np.ndim(value):
            raise DataError(f"A key has the shape {np.shape(value)}.", "Give one text or number a sample.")
        value = value.item()
    if value is None or type(value).__name__ in ("NAType", "NaTType"):  # of pandas
        return None
    if isinstance(value, float):
        if math.isnan(value):
            return None
        value = int(value) if value.is_integer() else value
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    return conceal(str(value), remember=False) or None


def keys_of(
    folder: Path, files: Sequence[tuple[Path, int]], names: Sequence[Sequence[str]], read: Callable[..., Any]
) -> tuple[str, ...]:
    """Return the keys of a folder's rows, of the first column that names each row by itself.

    Args:
        folder: for messages.
        files: the Parquet files of the metadata, with their rows.
        names: the columns of each file.
        read: ``read(path, column, rows)`` gives a column as an arrow array.

    Raises:
        DataError: no such column, with the reason for each.
    """
    reasons = []
    for name in KEY_COLUMNS:
        if not any(name in columns for columns in names):
            continue
        if lacking := [path for (path, _), columns in zip(files, names, strict=True) if name not in columns]:
            reasons.append(f"{lacking[0].name} lacks the column {name!r}")
            continue
        keys = [key_text(value) for path, count in files for value in read(path, name, count).to_pylist()]
        problem = _problem(keys, name, files)
        if problem is None:
            return tuple(keys)  # type: ignore[arg-type]
        reasons.append(problem)
    if not files:
        reasons = ["it has no metadata"]
    if not reasons:
        columns = ", ".join(map(repr, names[0])) or "none"
        reasons = [f"its metadata has neither a column 'key' nor 'image_path'; its columns are {columns}"]
    raise DataError(f"{folder}: no key names its samples one by one: {'; '.join(reasons)}.", BY_ROW)


def _problem(keys: Sequence[str | None], name: str, files: Sequence[tuple[Path, int]]) -> str | None:
    """Say why a column does not name its rows, or return None where it does."""
    if empty := [row for row, key in enumerate(keys) if key is None]:
        path, row = _place(empty[0], files)
        return f"the column {name!r} is empty in {len(empty)} rows, the first is row {row + 1} of {path.name}"
    twice, n_repeated = repeated_key(keys)
    if twice is None:
        return None
    places = [_place(row, files) for row, key in enumerate(keys) if key == twice][:2]
    where = " and ".join(f"row {row + 1} of {path.name}" for path, row in places)
    return f"{n_repeated} of {len(keys)} rows repeat the {name!r} of an earlier one, such as {twice!r} ({where})"


def _place(row: int, files: Sequence[tuple[Path, int]]) -> tuple[Path, int]:
    """Return the file that holds a row, and its number there."""
    for path, count in files:
        if row < count:
            return path, row
        row -= count
    raise IndexError(row)


def repeated_key(keys: Sequence[str | None]) -> tuple[str | None, int]:
    """Return the first key that stands twice, and how many rows repeat an earlier one; (None, 0) where none does."""
    counts = Counter(keys)
    first = next((key for key, count in counts.items() if count > 1), None)
    return first, len(keys) - len(counts)
