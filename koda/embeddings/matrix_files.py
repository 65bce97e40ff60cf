"""Matrices inside files: where their rows lie by the header alone, and rows read without the rest.

Rows are read at their positions instead of through a memory map: a file that is cut short in the
meantime is then an error in words, where a map would end the process.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from koda.embeddings.keys import key_text
from koda.errors import DataError, reason_of
from koda.storage.safetensors import read_header
from koda.typing import FloatArray, IntArray

NOTES = "koda"  # the entry of a shard's header that holds keys and rejections, as JSON
_SAFETENSORS_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_GAP = 1 << 15  # bytes between two rows that are cheaper read over than skipped
_SPAN = 1 << 22  # bytes of one read: the memory that reading takes beside its result


@dataclass(frozen=True)
class MatrixFile:
    """A matrix (rows, d) in a file.

    Args:
        path: the file.
        offset: bytes before its first value.
        rows, d: its shape.
        dtype: of its values.
        by_column: whether columns lie together (Fortran order) instead of rows.
        stamp: size and time of change of the file when its header was read.
    """

    path: Path
    offset: int
    rows: int
    d: int
    dtype: np.dtype[Any]
    by_column: bool
    stamp: tuple[int, int]

    def read(self, rows: IntArray, out: FloatArray, places: IntArray) -> None:
        """Write the given rows to ``out[places]``.

        Args:
            rows: (m,) row numbers, ascending.
            out: (any, d), converted to its type.
            places: (m,) rows of ``out``.

        Raises:
            DataError: a file that is gone, or is another than it was.
        """
        try:
            with self.path.open("rb", buffering=0) as file:
                if _stamp(file) != self.stamp:
                    raise DataError(f"{self.path} has changed since it was opened.", "Open the folder again.")
                for start, stop in self._runs(rows):
                    first = int(rows[start])
                    block = self._block(file, first, int(rows[stop - 1]) + 1 - first)  # (rows of the run, d)
                    out[_compact(places[start:stop])] = block[_compact(rows[start:stop] - first)]
        except (OSError, EOFError) as error:
            raise DataError(
                f"{self.path} can no longer be read: {getattr(error, 'strerror', None) or error}.",
                "It was there when the folder was opened; restore it and open the folder again.",
            ) from error

    def _runs(self, rows: IntArray) -> Iterator[tuple[int, int]]:
        """Yield (start, stop) positions in ``rows`` that one read covers: near each other, and not too many."""
        width = self.d * self.dtype.itemsize
        most = max(1, _SPAN // max(1, width))
        cuts = np.flatnonzero(np.diff(rows) * width > _GAP) + 1
        for start, stop in pairwise([0, *cuts.tolist(), len(rows)]):
            while start < stop:
                end = start + int(np.searchsorted(rows[start:stop], rows[start] + most))
                yield start, end
                start = end

    def _block(self, file: BinaryIO, first: int, count: int) -> np.ndarray[Any, Any]:
        """Read ``count`` consecutive rows."""
        size = self.dtype.itemsize
        if not self.by_column:
            block = np.empty((count, self.d), dtype=self.dtype)
            _read_into(file, self.offset + first * self.d * size, block)
            return block
        columns = np.empty((self.d, count), dtype=self.dtype)
        for j in range(self.d):
            _read_into(file, self.offset + (j * self.rows + first) * size, columns[j])
        return columns.T


@dataclass(frozen=True)
class ShardHeader:
    """What a shard says of itself before its arrays."""

    keys: list[str]
    arrays: dict[str, MatrixFile]
    rejected: dict[str, str]
    notes: dict[str, Any]


def read_shard_header(path: Path) -> ShardHeader:
    """Read the header of one of koda's shards, and check that its arrays are there in full.

    Raises:
        DataError: a file that is not a whole shard, or values of a type that numpy lacks.
    """
    try:
        with path.open("rb") as file:
            size, changed = _stamp(file)
            header, start = read_header(file, size)
        metadata = header.pop("__metadata__", {})
        if NOTES not in metadata:
            raise ValueError("its header holds no keys")
        notes = json.loads(metadata[NOTES])
        keys, rejected = [key_text(key) or "" for key in notes.pop("keys")], dict(notes.pop("rejected"))
        if "" in keys:
            raise ValueError(f"its row {keys.index('') + 1} has no key")
        arrays = {name: _tensor(path, name, entry, start, (size, changed)) for name, entry in sorted(header.items())}
        if any(array.rows != len(keys) for array in arrays.values()):
            raise ValueError("keys and rows differ in number")
        return ShardHeader(keys, arrays, rejected, notes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path} is not a whole embedding shard: {reason_of(error)}.", "Remove it and run again."
        ) from error


def _tensor(path: Path, name: str, entry: dict[str, Any], start: int, stamp: tuple[int, int]) -> MatrixFile:
    """Return where one array of a safetensors file lies; ``start`` is where the arrays begin."""
    if (kind := entry["dtype"]) not in _SAFETENSORS_TYPES:
        raise DataError(
            f"{path}: the array {name!r} has the type {kind}, which koda does not read.",
            f"Save the embeddings as one of {', '.join(_SAFETENSORS_TYPES)}.",
        )
    shape = tuple(int(length) for length in entry["shape"])
    if len(shape) != 2:
        raise DataError(f"{path}: the array {name!r} has shape {shape}; a matrix (samples, dimensions) is needed.")
    first, last = (int(place) for place in entry["data_offsets"])
    dtype = np.dtype(_SAFETENSORS_TYPES[kind])
    if first < 0 or min(shape) < 0 or last - first != shape[0] * shape[1] * dtype.itemsize:
        raise ValueError(f"the array {name!r} is not as long as its shape says")
    if start + last > stamp[0]:
        raise ValueError(f"it ends before the array {name!r}")
    return MatrixFile(path, start + first, *shape, dtype=dtype, by_column=False, stamp=stamp)


def read_npy_header(path: Path) -> MatrixFile:
    """Read the header of a `.npy` file, and check that its values are there in full.

    Raises:
        DataError: a file that is not a whole numpy matrix of numbers.
    """
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        with path.open("rb") as file:
            stamp = _stamp(file)
            version = np.lib.format.read_magic(file)
            if version not in headers:
                raise ValueError(f"its format version is {version[0]}.{version[1]}")
            shape, by_column, dtype = headers[version](file)
            offset = file.tell()
        if dtype.hasobject or min(shape, default=0) < 0:
            raise ValueError("it holds Python objects" if dtype.hasobject else f"its shape is {shape}")
        promised, there = int(np.prod(shape, dtype=object)) * dtype.itemsize, stamp[0] - offset
        if promised > there:
            raise ValueError(f"its header promises {promised} bytes of values, the file has {there}")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is not a numpy array: {reason_of(error)}.") from error
    if len(shape) != 2:
        raise DataError(f"{path} has shape {shape}; a matrix (samples, dimensions) is needed.")
    if dtype.kind not in "fiu" or dtype.itemsize > 8:
        brain = " (bfloat16, it seems)" if dtype.kind == "V" and dtype.itemsize == 2 else ""
        raise DataError(f"{path} has the type {dtype}{brain}.", "Save it as float16, float32 or float64.")
    return MatrixFile(path, offset, *shape, dtype=dtype, by_column=by_column, stamp=stamp)


def _compact(index: IntArray) -> IntArray | slice:
    """Return an index as a slice where it is one, which numpy copies several times faster."""
    if (np.diff(index) == 1).all():
        return slice(int(index[0]), int(index[-1]) + 1)
    return index


def _stamp(file: BinaryIO) -> tuple[int, int]:
    """Return the size of an open file and the time of its last change."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _read_into(file: BinaryIO, position: int, array: np.ndarray[Any, Any]) -> None:
    """Fill an array, contiguous in memory, from a position of a file on."""
    view = memoryview(array.data).cast("B")
    file.seek(position)
    while len(view):
        got = file.readinto(view)  # type: ignore[attr-defined]
        if not got:
            raise EOFError("it ends before the rows that its header promises")
        view = view[got:]
