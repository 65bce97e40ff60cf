"""Slices as files: one row for each listed sample."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

_SLICE_COLUMNS = ("side", "direction", "lobe", "rank", "key", "score", "caption")


def slices_csv(rows: Sequence[dict[str, Any]], metadata_columns: Sequence[str]) -> bytes:
    """Write the slices as CSV: a row a sample, with the data set's metadata columns and `in_slice`, `split`."""
    extra = [name for name in metadata_columns if name not in _SLICE_COLUMNS]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*_SLICE_COLUMNS, *extra, *(name for name in ("in_slice", "split") if name not in extra)])
    for row in rows:
        metadata = json.loads(row["metadata"])
        flags = [row[name] for name in ("in_slice", "split") if name not in extra]
        writer.writerow([row[name] for name in _SLICE_COLUMNS] + [metadata.get(name) for name in extra] + flags)
    return text.getvalue().encode()
