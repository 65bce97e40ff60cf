"""Slices as files: one row for each listed sample."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SLICE_COLUMNS = ("side", "direction", "lobe", "rank", "key", "score", "caption")


def slices_csv(rows: Sequence[dict[str, Any]], metadata_columns: Sequence[str]) -> bytes:
    """Return the slices of an audit as CSV: a row a sample, its metadata, and `in_slice` and `split`.

    A metadata column of the data set that is called as one of these two takes its place.
    """
    extra = [name for name in metadata_columns if name not in SLICE_COLUMNS]
    flags = [name for name in ("in_slice", "split") if name not in extra]
    return table_csv([*SLICE_COLUMNS, *extra, *flags], (_with_metadata(row, extra) for row in rows))


def _with_metadata(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    metadata = json.loads(row["metadata"])
    return {**row, **{name: metadata.get(name) for name in names}}


def table_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return rows, each column -> value, as CSV with a header."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([row[name] for name in columns] for row in rows)
    return text.getvalue().encode()
