"""A table of captions beside a folder of images: CSV, TSV or Parquet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from koda.config import DataConfig
from koda.datasets.base import Fault, Row, Source
from koda.datasets.blobs import (
    Blob,
    is_file,
    is_folder,
    is_url,
    parent_of,
    read_location,
    reason_of,
    shown,
    stem_of,
    suffix_of,
    why_no_file,
)
from koda.datasets.captions import captioned
from koda.datasets.columns import arrow_values, is_missing, is_nested, keys_of, plain
from koda.datasets.delimited import read_delimited
from koda.datasets.reach import Reach
from koda.errors import DataError, did_you_mean, nearest

if TYPE_CHECKING:
    import pyarrow as pa

TABLES = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t", ".parquet": None}


@dataclass
class _Table:
    """The columns of a table, those of the samples and those that describe them, and the lines that fit none.

    Args:
        columns: name -> values, a row each.
        malformed: place -> the lines that do not fit the header and stand before the row of that place.
        notes: how the table was read.
    """

    columns: dict[str, list[Any]]
    malformed: dict[int, list[Row]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_table(config: DataConfig) -> Source:
    """Read a table with a column of image paths and one of captions, and any number of metadata columns.

    The key is `key`, or else the path of the image. Rows of the same key and image are captions of one image.

    Raises:
        DataError: no such table, not a table, columns that are not there, or images within the table.
    """
    path = config.path
    images = parent_of(path) if config.images is None else config.images
    table = _read(config)
    columns = table.columns
    if not is_url(images) and not is_folder(images):
        raise DataError(f"The image folder {images} does not exist.", "Set data.images.")
    key_column = config.key_column or ("key" if "key" in columns else config.image_column)
    files = columns[config.image_column]
    keys, are_numbers = keys_of(columns[key_column])
    if are_numbers:
        table.notes.append(f"the keys in the column {key_column!r} are whole numbers: 7.0 is read as 7")
    taken = {key_column, config.image_column, config.caption_column}
    metadata_columns = tuple(name for name in columns if name and name not in taken)
    reach = Reach.of(config, images)
    captions: list[Any] = []
    rows: list[Row] = []
    names = (key_column, config.image_column)
    for number, (key, file, caption) in enumerate(zip(keys, files, columns[config.caption_column], strict=True)):
        for line in table.malformed.get(number, ()):
            rows.append(line)
            captions.append(None)
        metadata = {name: columns[name][number] for name in metadata_columns}
        rows.append(_row(f"row {number + 1}", key, file, caption, metadata, reach, names))
        captions.append(caption)
    after = table.malformed.get(len(files), [])
    notes = (*table.notes, *_renamed(rows, reach))
    source = Source(stem_of(path), [*rows, *after], metadata_columns, notes=notes, folders=reach.folders)
    return captioned(source, [*captions, *(None for _ in after)], config)


def _row(
    where: str, key: Any, file: Any, caption: Any, metadata: dict[str, Any], reach: Reach, names: tuple[str, str]
) -> Row:
    """Make a row of its fields, the caption only if it is text; ``names`` are those of the key and the image column."""
    texts: list[str] = []
    for value, name in zip((key, file), names, strict=True):
        if type(value) is str and value and value.isascii():  # nearly every row of most tables
            texts.append(value)
            continue
        try:
            text = "" if is_missing(value) else str(plain(value))
        except TypeError as error:
            return Row(None, None, None, metadata, Fault(f"the column {name!r} is not text", f"{error}"), where)
        if text == "":
            known = texts[0] if texts else None
            return Row(known, None, None, metadata, Fault(f"the column {name!r} is empty"), where)
        texts.append(text)
    image = reach.image(texts[1])
    if isinstance(image, Fault):
        return Row(texts[0], None, None, metadata, image, where)
    return Row(texts[0], image, caption if isinstance(caption, str) else None, metadata, None, where)


def _renamed(rows: list[Row], reach: Reach) -> Iterator[str]:
    """Yield a note where images lie under another Unicode form of their names than the table has."""
    n_renamed = sum(isinstance(row.image, Blob) and row.image.location in reach.renamed for row in rows)
    if n_renamed:
        yield f"images that lie under another Unicode form of their names: {n_renamed}"


def _read(config: DataConfig) -> _Table:
    """Read the columns of a table."""
    path = config.path
    if is_folder(path):
        raise DataError(f"The data set {path} is a folder.", "Set data.path to the table of captions in it.")
    if not is_file(path):
        raise DataError(
            f"The data set {path} {why_no_file(path)}.",
            "Set data.path to a table (CSV, TSV, Parquet), a COCO JSON file, tar shards, or a folder.",
        )
    suffix = suffix_of(path)
    if suffix not in TABLES:
        raise DataError(f"{shown(path)} is not a table that koda reads.", f"It reads {', '.join(sorted(TABLES))}.")
    usual = TABLES[suffix]
    data = read_location(path)
    if usual is not None:
        return _read_text(config, data, usual)
    if config.delimiter is not None:
        raise DataError(f"data.delimiter has no meaning for {shown(path)}, a Parquet table.", "Leave it out.")
    return _read_parquet(config, data)


def _check_names(config: DataConfig, names: list[str]) -> None:
    """Refuse a table in which the columns that are asked for are not there, or stand twice."""
    path = shown(config.path)
    if repeated := [name for name, count in Counter(names).items() if count > 1 and name]:
        raise DataError(f"{path} has two columns named {repeated[0]!r}.", "Give each a name of its own.")
    for option in ("image_column", "caption_column", "key_column"):
        name = getattr(config, option)
        if name is not None and name not in names:
            known = ", ".join(map(repr, names)) or "none"
            hint = did_you_mean(nearest(name, names))
            raise DataError(
                f"{path} has no column {name!r} (data.{option}); its columns are {known}.",
                " ".join(filter(None, [hint, f"Name the right one as data.{option}."])),
            )


def _read_text(config: DataConfig, data: bytes, usual: str) -> _Table:
    wanted = [config.caption_column, *([config.key_column] if config.key_column else [])]
    found = read_delimited(data, shown(config.path), usual, config.delimiter, config.image_column, wanted)
    header = found.header
    _check_names(config, header)
    whole: list[list[str]] = []
    table = _Table({}, notes=list(found.notes))
    for line, fields in found.records:
        if len(fields) == len(header):
            whole.append(fields)
        else:
            fault = Fault("malformed row", f"{len(fields)} fields where the header has {len(header)}")
            table.malformed.setdefault(len(whole), []).append(Row(None, fault=fault, where=f"line {line}"))
    table.columns = {name: [fields[place] for fields in whole] for place, name in enumerate(header)}
    return table


def _read_parquet(config: DataConfig, data: bytes) -> _Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = shown(config.path)
    try:
        content = pq.ParquetFile(pa.BufferReader(data)).read()
        names: list[str] = list(content.schema.names)
    except (OSError, pa.ArrowException, ValueError, OverflowError) as error:
        raise DataError(f"{path} is not a Parquet table: {reason_of(error)}.") from error
    _check_names(config, names)
    table = _Table({})
    for name, column in zip(names, content.columns, strict=True):
        try:
            if name == config.image_column:
                table.columns[name] = _image_names(config, column)
            elif name not in {config.caption_column, config.key_column} and is_nested(column.type):
                table.notes.append(f"the column {name!r} is left out: it holds {_short(column.type)}")
            else:
                table.columns[name] = arrow_values(column)
        except (OSError, pa.ArrowException, ValueError, OverflowError) as error:
            raise DataError(f"{path}: the column {name!r} cannot be read: {reason_of(error)}.") from error
    return table


def _image_names(config: DataConfig, column: pa.ChunkedArray) -> list[Any]:
    """Return the paths of images.

    Raises:
        DataError: the column holds the images themselves.
    """
    values = arrow_values(column)
    if any(isinstance(value, dict) for value in values):
        inside = any(isinstance(value, dict) and value.get("bytes") is not None for value in values)
        values = [value.get("path") if isinstance(value, dict) else value for value in values]
    else:
        inside = any(isinstance(value, bytes) and not _is_path(value) for value in values)
    if inside:
        path, name = shown(config.path), config.image_column
        raise DataError(
            f"{path}: the column {name!r} holds the images themselves, which koda does not read from Parquet.",
            f"koda reads them from the folder that datasets.load_dataset('parquet', data_files={path!r})['train']"
            ".save_to_disk('saved') makes: set data.path to it.",
        )
    return values


def _is_path(value: bytes) -> bool:
    """Tell whether bytes are the path of an image and not the image."""
    try:
        return "\0" not in value.decode()
    except UnicodeDecodeError:
        return False


def _short(kind: pa.DataType) -> str:
    text = str(kind)
    return text if len(text) <= 60 else text[:59] + "…"
