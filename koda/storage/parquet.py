"""Parquet files, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from koda.storage.writing import write_atomically


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
