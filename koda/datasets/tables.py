"""A table of captions beside a folder of images: CSV, TSV or Parquet."""

from __future__ import annotations

import csv
import io
from collections import Counter
from typing import Any

from koda.config import DataConfig
from koda.datasets.base import Fault, Row, Source
from koda.datasets.blobs import Blob, is_file, is_folder, is_url, join, parent_of, read_location, reason_of, stem_of
from koda.datasets.captions import captioned
from koda.datasets.text import decode_text
from koda.errors import DataError

TABLES = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t", ".parquet": None}


def read_table(config: DataConfig) -> Source:
    """Read a table with a column of image paths and one of captions, and any number of metadata columns.

    Raises:
        DataError: no such table, not a table, or columns that are not there.
    """
    path = config.path
    images = parent_of(path) if config.images is None else config.images
    columns, malformed = _columns(path)
    for name, what in ((config.image_column, "image_column"), (config.caption_column, "caption_column")):
        if name not in columns:
            raise DataError(
                f"{path} has no column {name!r}; its columns are {', '.join(map(repr, columns)) or 'none'}.",
                f"Name the right one as data.{what}.",
            )
    if config.key_column is not None and config.key_column not in columns:
        raise DataError(f"{path} has no column {config.key_column!r} (data.key_column).")
    if not is_url(images) and not is_folder(images):
        raise DataError(f"The image folder {images} does not exist.", "Set data.images.")
    key_column = config.key_column or ("key" if "key" in columns else config.image_column)
    taken = {key_column, config.image_column, config.caption_column}
    metadata_columns = tuple(name for name in columns if name and name not in taken)
    captions = columns[config.caption_column]
    rows: list[Row] = []
    for number, (key, file) in enumerate(zip(columns[key_column], columns[config.image_column], strict=True)):
        metadata = {name: columns[name][number] for name in metadata_columns}
        row = _row(f"row {number + 1}", key, file, metadata, images, (key_column, config.image_column))
        rows += [*malformed.get(number, []), *captioned(row, captions[number], config)]
    rows += malformed.get(len(captions), [])
    return Source(stem_of(path), rows, metadata_columns)


def _row(where: str, key: Any, file: Any, metadata: dict[str, Any], images: str, names: tuple[str, str]) -> Row:
    """Make a row of its fields but the caption; ``names`` are those of the key and the image column."""
    if key is None or str(key) == "":
        return Row(None, None, None, metadata, Fault(f"the column {names[0]!r} is empty"), where)
    if file is None or str(file) == "":
        return Row(str(key), None, None, metadata, Fault(f"the column {names[1]!r} is empty"), where)
    if "\0" in str(file):
        return Row(str(key), None, None, metadata, Fault("the image path is not a path"), where)
    return Row(str(key), Blob(join(images, str(file))), None, metadata, None, where)


def _columns(path: str) -> tuple[dict[str, list[Any]], dict[int, list[Row]]]:
    """Read a table into columns of equal length, and the lines that do not fit its header, before row 0, 1, ..."""
    if is_folder(path):
        raise DataError(f"The data set {path} is a folder.", "Set data.path to the table of captions in it.")
    if not is_file(path):
        raise DataError(
            f"The data set {path} does not exist.",
            "Set data.path to a table (CSV, TSV, Parquet), a COCO JSON file, tar shards, or a folder.",
        )
    suffix = "." + path.rpartition(".")[2].lower()
    if suffix not in TABLES:
        raise DataError(f"{path} is not a table that koda reads.", f"It reads {', '.join(sorted(TABLES))}.")
    delimiter = TABLES[suffix]
    data = read_location(path)
    return (_read_parquet(path, data), {}) if delimiter is None else _read_text(path, data, delimiter)


def _read_parquet(path: str, data: bytes) -> dict[str, list[Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns: dict[str, list[Any]] = pq.ParquetFile(pa.BufferReader(data)).read().to_pydict()
    except (OSError, pa.ArrowException, ValueError, OverflowError) as error:
        raise DataError(f"{path} is not a Parquet table: {reason_of(error)}.") from error
    return columns


def _read_text(path: str, data: bytes, delimiter: str) -> tuple[dict[str, list[Any]], dict[int, list[Row]]]:
    text = decode_text(data, path)
    # a csv field may hold a whole document; the default limit of 131 072 characters is not ours to set
    csv.field_size_limit(2**31 - 1)
    try:
        rows = _records(text, delimiter, csv.QUOTE_MINIMAL)
    except csv.Error as error:
        if delimiter != "\t":
            raise DataError(
                f"{path} is not a well-formed CSV table: {error}.", "Look for an unclosed quote."
            ) from error
        # captions written without quoting, as most tab-separated tables are: every line is a row
        rows = _records(text, delimiter, csv.QUOTE_NONE)
    if not rows:
        raise DataError(f"{path} is empty.", "It needs a header line with the names of its columns.")
    (_, header), *body = rows
    if repeated := [name for name, count in Counter(header).items() if count > 1]:
        raise DataError(f"{path} has two columns named {repeated[0]!r}.")
    whole: list[list[str]] = []
    malformed: dict[int, list[Row]] = {}
    for line, row in body:
        if len(row) == len(header):
            whole.append(row)
        else:
            fault = Fault("malformed row", f"{len(row)} fields where the header has {len(header)}")
            malformed.setdefault(len(whole), []).append(Row(None, fault=fault, where=f"line {line}"))
    return {name: [row[place] for row in whole] for place, name in enumerate(header)}, malformed


def _records(text: str, delimiter: str, quoting: Any) -> list[tuple[int, list[str]]]:
    """Split a text into records with the line each ends on; blank lines are no records."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    return [(reader.line_num, row) for row in reader if row]
