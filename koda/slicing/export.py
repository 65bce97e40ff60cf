"""Slices as files: one row for each listed sample.

A spreadsheet takes a cell that begins with one of ``= + - @``, a tab or an end of line for a formula. A text that does
(a number does not) gets an apostrophe before it, and so does one that has apostrophes before such a beginning: taking
one apostrophe off those gives the text back, which :func:`original` does. Control characters are spelled out.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from koda.wording import printable

SLICE_COLUMNS = ("side", "direction", "lobe", "rank", "key", "score", "caption")
FLAG_COLUMNS = ("in_slice", "split")
_OF_THE_DATA = "data."  # before a metadata column that is called as one of koda's
_FORMULA = re.compile("'*[=+\\-@\t\n\uff0b\uff0d\uff1d\uff20]")  # also in full width, which some spreadsheets take
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")  # which a spreadsheet may well take for one


def slices_csv(rows: Sequence[dict[str, Any]], metadata_columns: Sequence[str]) -> bytes:
    """Return the slices of an audit as CSV: a row a sample, its metadata, and `in_slice` and `split`.

    A metadata column of the data set that is called as one of koda's keeps its values as `data.` and its name.
    """
    names = metadata_names(metadata_columns)
    columns = [*SLICE_COLUMNS, *names.values(), *FLAG_COLUMNS]
    return table_csv(columns, (_with_metadata(row, names) for row in rows))


def metadata_names(columns: Iterable[str], own: Sequence[str] = (*SLICE_COLUMNS, *FLAG_COLUMNS)) -> dict[str, str]:
    """Return metadata column -> what it is called in an export, where koda's `own` columns keep their names.

    >>> metadata_names(["colour", "split", "data.split"])
    {'colour': 'colour', 'split': 'data.data.split', 'data.split': 'data.split'}
    """
    columns = list(columns)
    taken = {*own, *columns}
    names: dict[str, str] = {}
    for column in columns:
        name = column
        while column in own and name in taken:
            name = _OF_THE_DATA + name
        taken.add(name)
        names[column] = name
    return names


def _with_metadata(row: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    metadata = json.loads(row["metadata"])
    return {**row, **{name: metadata.get(column) for column, name in names.items()}}


def table_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return rows, each column -> value, as CSV with a header; no text in it is a formula."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([_cell(name) for name in columns])
    writer.writerows([_cell(row[name]) for name in columns] for row in rows)
    return text.getvalue().encode()


def table_rows(data: bytes, *, strict: bool = False) -> csv.DictReader[str]:
    """Return a reader of the rows of such a file, whose cells may be as long as a caption is.

    Args:
        data: the file.
        strict: whether what a CSV cannot be raises `csv.Error`.

    Raises:
        UnicodeDecodeError: it is no text in UTF-8.
    """
    csv.field_size_limit(2**31 - 1)  # the default of 131 072 characters is less than a document
    return csv.DictReader(io.StringIO(data.decode("utf-8"), newline=""), strict=strict)


def original(cell: str) -> str:
    """Return the text of a cell as the data set has it, but for control characters.

    >>> original("'=1+1"), original("'tis"), original("-3")
    ('=1+1', "'tis", '-3')
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = printable(str(value))
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text
