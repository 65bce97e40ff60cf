"""Values of columns, of whatever type, as the text and the numbers that a sample is described by."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from koda.datasets.base import Source
from koda.datasets.text import as_utf8

if TYPE_CHECKING:
    import pyarrow as pa

_RESERVED = frozenset({"key", "caption"})  # what a sample has beside its metadata, by exactly these names
_NO_FRACTION = re.compile(r"\.0+$")
_WHOLE_FLOAT = re.compile(r"-?[0-9]+\.0")


def arrow_values(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Return the values of a column of Arrow; dates and times are text.

    Raises:
        pyarrow.ArrowException, ValueError: damaged values.
    """
    import pyarrow as pa

    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        column = column.cast(kind.storage_type)
    elif pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    kind = column.type
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind) or pa.types.is_time(kind):
        # as Python's own types they would lose their nanoseconds, or fail over a time zone that is not known here
        zone = "Z" if pa.types.is_timestamp(kind) and kind.tz else ""
        if zone:
            column = column.cast(pa.int64()).cast(pa.timestamp(kind.unit))
        texts = column.cast(pa.string()).to_pylist()
        return [None if text is None else _NO_FRACTION.sub("", text) + zone for text in texts]
    if pa.types.is_duration(kind):
        return [None if value is None else f"{value} {kind.unit}" for value in column.cast(pa.int64()).to_pylist()]
    values: list[Any] = column.to_pylist()
    return values


def is_nested(kind: pa.DataType) -> bool:
    """Tell whether the values of a column of Arrow are lists, objects and the like."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return bool(pa.types.is_nested(kind))


def is_missing(value: Any) -> bool:
    """Tell whether a value stands for none: None, or the NaN that pandas puts in its place."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def plain(value: Any) -> str | int | float | bool | None:
    """Return a value as text, a number or None, which is all that records and databases hold of a sample.

    Raises:
        TypeError: a list, an object, bytes that are no text.
    """
    if isinstance(value, str):
        return value if value.isascii() else as_utf8(value)
    if is_missing(value):
        return None
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError as error:
            raise TypeError("bytes that are no text") from error
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Decimal | datetime.timedelta):
        return str(value)
    item = getattr(value, "item", None)  # of a scalar of numpy
    if item is not None and getattr(value, "ndim", None) == 0:
        return plain(item())
    raise TypeError(f"values of the type {type(value).__name__}")


def with_plain_metadata(source: Source) -> Source:
    """Return a source whose metadata is text, numbers and None, under names that koda has no other use for.

    A column of anything else is left out, and one that is called as koda's own is given another name, with a note.
    """
    columns, notes = [], []
    for name in source.metadata_columns:
        called = _free_name(name, source.metadata_columns)
        try:
            for row in source.rows:
                value = row.metadata.get(name)
                if value is not None and type(value) not in (str, int, bool):
                    row.metadata[name] = plain(value)
                if called != name and name in row.metadata:  # rows of one source row share it
                    row.metadata[called] = row.metadata.pop(name, None)
        except TypeError as error:
            notes.append(f"the column {name!r} is left out: it holds {error}")
            for row in source.rows:
                row.metadata.pop(name, None)
                row.metadata.pop(called, None)
            continue
        columns.append(called)
        if called != name:
            notes.append(f"the column {name!r} is called {called!r} here: koda has a {name} of its own")
    return replace(source, metadata_columns=tuple(columns), notes=(*source.notes, *notes))


def _free_name(name: str, names: Sequence[str]) -> str:
    """Return what a metadata column is called: its name, or `name_2` where koda has a column of that name."""
    called, number = name, 2
    while called in _RESERVED or (called != name and called in names):
        called, number = f"{name}_{number}", number + 1
    return called


def keys_of(values: Iterable[Any]) -> tuple[list[Any], bool]:
    """Return the values of a column of keys, and whether numbers were written otherwise than they are meant.

    Whole numbers among which one is missing are floats in pandas, and their text is "7.0": 7 is meant.
    """
    found = list(values)
    numbers = [value for value in found if isinstance(value, float) and not math.isnan(value)]
    if numbers and all(value.is_integer() for value in numbers):
        return [int(value) if isinstance(value, float) and not math.isnan(value) else value for value in found], True
    texts = [value for value in found if value != ""]
    if len(texts) < len(found) and texts and all(isinstance(v, str) and _WHOLE_FLOAT.fullmatch(v) for v in texts):
        return [value[:-2] if value else value for value in found], True
    return found, False
