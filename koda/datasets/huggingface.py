"""A Hugging Face data set as `save_to_disk` leaves it: a folder of Arrow files and what describes them.

pyarrow alone reads it, so the `datasets` library need not be there: an Arrow stream is not compressed, each image
lies whole somewhere in its file, and that place is all that is kept of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from koda.config import DataConfig
from koda.datasets.base import Fault, Row, Source
from koda.datasets.blobs import Blob, is_file, is_folder, is_url, join, read_location, reason_of
from koda.datasets.captions import captioned
from koda.datasets.columns import arrow_values, is_missing, is_nested, plain
from koda.datasets.reach import Reach
from koda.datasets.text import listed, parse_json
from koda.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

SPLITS_FILE, STATE_FILE, INFO_FILE = "dataset_dict.json", "state.json", "dataset_info.json"
_CAPTIONS = ("caption", "captions", "text", "title")
_KEYS = ("key", "__key__")
_Captioned = tuple[Row, Any]  # a row with the value of its caption column
_STREAM_END = b"\xff\xff\xff\xff\0\0\0\0"


@dataclass(frozen=True)
class _Columns:
    """What each column of a data set is for; ``labels`` gives the names of class labels, ``notes`` what is left out."""

    key: str | None
    image: str
    caption: str
    metadata: tuple[str, ...]
    labels: dict[str, list[str]]
    notes: tuple[str, ...]


def read_huggingface(config: DataConfig) -> Source:
    """Read a split that Hugging Face `datasets` saved with `save_to_disk`.

    The images are in the configured column, else in the only one that is of images; the captions likewise, else in
    the first of `caption`, `captions`, `text` and `title`; a list of captions is one per pair as ``data.captions``
    says. The key is `key`, or else the number of the row; other plain columns are metadata, class labels by name.

    Raises:
        DataError: not such a folder, a folder of several splits, damaged files, or no such columns.
    """
    import pyarrow as pa

    folder = config.path
    files = _data_files(folder)
    features = _object(join(folder, INFO_FILE)).get("features")
    features = features if isinstance(features, dict) else {}
    rows: list[_Captioned] = []
    columns: _Columns | None = None
    schema: pa.Schema | None = None
    n_rows = 0
    reach = Reach.of(config, config.images or config.path)
    for location in files:
        try:
            remote = is_url(location)
            buffer = pa.py_buffer(read_location(location)) if remote else pa.memory_map(location).read_buffer()
            reader = pa.ipc.open_stream(buffer)
            names = list(reader.schema.names)  # a damaged name is not text, and says so here
        except (OSError, ValueError) as error:  # pyarrow's errors are of these kinds
            raise DataError(
                f"{location} is not an Arrow stream: {reason_of(error)}.", "Save the data again."
            ) from error
        if columns is None:
            schema, columns = reader.schema, _columns(folder, names, reader.schema, features, config)
        elif not reader.schema.equals(schema):
            raise DataError(f"{location} has other columns than {files[0]}.", "They are of two data sets.")
        n_rows += _read(location, buffer, reader, columns, reach, n_rows, rows)
    name = folder.rstrip("/").rpartition("/")[2]
    metadata, notes = ((), ()) if columns is None else (columns.metadata, columns.notes)
    source = Source(name, [row for row, _ in rows], metadata, notes=notes, folders=reach.folders)
    return captioned(source, [value for _, value in rows], config)


def _data_files(folder: str) -> list[str]:
    """Return the Arrow files of a saved split."""
    if not is_folder(folder):
        raise DataError(f"The folder {folder} does not exist.", "Set data.path to a folder that save_to_disk made.")
    if is_file(join(folder, SPLITS_FILE)):
        splits = _object(join(folder, SPLITS_FILE)).get("splits")
        known = [name for name in splits if isinstance(name, str)] if isinstance(splits, list) else []
        raise DataError(
            f"{folder} holds the splits {', '.join(known) or '(none)'}; an audit is of one of them.",
            f"Set data.path to it: {join(folder, known[0] if known else 'test')}",
        )
    state = _object(join(folder, STATE_FILE))
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise DataError(f"{folder} was saved with indices.", "Save it again, after flatten_indices().")
    entries = state.get("_data_files")
    entries = entries if isinstance(entries, list) else []
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in entries]
    files = [join(folder, name) for name in names if isinstance(name, str) and name]
    if not files or len(files) != len(names):
        raise DataError(f"{join(folder, STATE_FILE)} does not list the files of a data set.", "Save the data again.")
    if missing := [file for file in files if not is_file(file)]:
        which = f"{len(missing)} of {len(files)} Arrow files are missing: {listed(missing)}."
        raise DataError(which, "Fetch them again.")
    return files


def _object(location: str) -> dict[str, Any]:
    """Return the JSON object in a file."""
    if not is_file(location):
        raise DataError(f"{location} is missing.", "Set data.path to a folder that save_to_disk made.")
    content = parse_json(read_location(location), location)
    if not isinstance(content, dict):
        raise DataError(f"{location} is no JSON object.", "Save the data again.")
    return content


def _columns(
    folder: str, names: list[str], schema: pa.Schema, features: dict[str, Any], config: DataConfig
) -> _Columns:
    """Find out which column is what."""

    known = f"its columns are {', '.join(map(repr, names)) or 'none'}"
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"{folder} has two columns named {repeated[0]!r}.")

    def column_of(option: str, likely: list[str]) -> str:
        wanted = str(getattr(config, option))
        if wanted == DataConfig.model_fields[option].default:
            if not likely:
                unsure = f"no column is sure to be the {option}"
                raise DataError(f"{folder}: {unsure}; {known}.", f"Name it as data.{option}.")
            return wanted if wanted in likely else likely[0]
        if wanted not in names:
            raise DataError(f"{folder} has no column {wanted!r}; {known}.", f"Name the right one as data.{option}.")
        return wanted

    kinds = {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    of_images = [name for name in names if kinds.get(name, {}).get("_type") == "Image"]
    of_images = of_images or [name for name in names if _is_image(schema.field(name).type)]
    image = column_of("image_column", of_images if len(of_images) == 1 or config.image_column in of_images else [])
    if not _is_image(schema.field(image).type):
        raise DataError(
            f"{folder}: the column {image!r} holds {schema.field(image).type}, not images.",
            "Name the column of images as data.image_column.",
        )
    caption = column_of("caption_column", [name for name in _CAPTIONS if name in names])
    if config.key_column is not None and config.key_column not in names:
        raise DataError(f"{folder} has no column {config.key_column!r} (data.key_column); {known}.")
    key = config.key_column or next((name for name in _KEYS if name in names), None)
    others = [column for column in schema if column.name not in {key, image, caption}]
    nested = [column for column in others if is_nested(column.type)]
    flat = [column.name for column in others if column not in nested]
    notes = tuple(f"the column {column.name!r} is left out: it holds {column.type}" for column in nested)
    labels = {
        name: list(map(str, kind["names"]))
        for name, kind in kinds.items()
        if kind.get("_type") == "ClassLabel" and isinstance(kind.get("names"), list)
    }
    return _Columns(key, image, caption, tuple(flat), labels, notes)


def _read(
    location: str,
    buffer: pa.Buffer,
    reader: Any,
    columns: _Columns,
    reach: Reach,
    before: int,
    rows: list[_Captioned],
) -> int:
    """Add the rows of a file to those of the files before it; where it is damaged, one that says so for the rest.

    Returns:
        The number of its rows: with several captions an image there are more pairs than rows.
    """
    damage = None if buffer.slice(max(0, buffer.size - 8)).to_pybytes() == _STREAM_END else "it ends early"
    number = before
    while True:
        try:
            batch = reader.read_next_batch()
            batch.validate(full=True)  # damaged offsets would have pyarrow read where nothing is
            batch_rows = list(_of_batch(location, buffer, batch, columns, reach, number))
        except StopIteration:
            break
        except DataError:
            raise
        except Exception as error:  # pyarrow and the types it makes raise whatever damaged values lead to
            damage = reason_of(error)
            break
        rows += batch_rows
        number += batch.num_rows
    if damage is not None:
        fault = Fault("the file is damaged", str(damage))
        rows.append((Row(None, fault=fault, where=location.rpartition("/")[2], loss=True), None))
    return number - before


def _of_batch(
    location: str, buffer: pa.Buffer, batch: pa.RecordBatch, columns: _Columns, reach: Reach, number: int
) -> Iterator[_Captioned]:
    """Yield the rows of a record batch, each with the value of its caption column."""
    data, files = _image_parts(batch.column(columns.image))
    places = _places(data, buffer, location)
    captions = arrow_values(batch.column(columns.caption))
    keys = None if columns.key is None else arrow_values(batch.column(columns.key))
    metadata = {name: _named(arrow_values(batch.column(name)), columns.labels.get(name)) for name in columns.metadata}
    for place, (at, file) in enumerate(zip(places, files, strict=True)):
        about = {name: values[place] for name, values in metadata.items()}
        where = f"row {number + place + 1}"
        key = f"{number + place:09d}" if keys is None else _key(keys[place])
        image: Blob | Fault = Fault(f"the column {columns.image!r} is empty")
        if at is not None:
            image = Blob(location, *at)
        elif isinstance(file, str) and file:  # an image that was not taken into the file
            image = reach.image(file)
        if key is None:
            row = Row(None, None, None, about, Fault(f"the column {columns.key!r} is empty"), where)
        elif isinstance(image, Fault):
            row = Row(key, None, None, about, image, where)
        else:
            caption = captions[place]
            row = Row(key, image, caption if isinstance(caption, str) else None, about, None, where)
        yield row, captions[place]


def _key(value: Any) -> str | None:
    """Return a key as text, or None where there is none; a whole number among which one is missing is a float."""
    if is_missing(value) or value == "":
        return None
    return str(int(value) if isinstance(value, float) and value.is_integer() else plain(value))


def _is_image(kind: pa.DataType) -> bool:
    """Tell whether a column holds the bytes of images: as such, or as the `bytes` of what `Image` makes."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_image(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _image_parts(images: pa.Array) -> tuple[pa.Array, list[Any]]:
    """Return the bytes of images, and the names of their files where there are any."""
    import pyarrow as pa

    if not pa.types.is_struct(images.type):
        return images, [None] * len(images)
    fields = images.flatten()
    path = images.type.get_field_index("path")
    data: pa.Array = fields[images.type.get_field_index("bytes")]
    return data, fields[path].to_pylist() if path >= 0 else [None] * len(images)


def _places(values: pa.Array, buffer: pa.Buffer, location: str) -> list[tuple[int, int] | None]:
    """Return where in its file each value lies, as offset and length; None for null."""
    import pyarrow as pa

    if not len(values):
        return []
    _, ends_buffer, data = values.buffers()
    width = np.int64 if pa.types.is_large_binary(values.type) else np.int32
    ends = np.frombuffer(ends_buffer, dtype=width)[values.offset : values.offset + len(values) + 1].astype(np.int64)
    first = 0 if data is None or not data.size else data.address - buffer.address
    if first < 0 or first + int(ends[-1]) > buffer.size:
        raise DataError(f"{location} is compressed.", "Save the data again without compression.")
    valid = values.is_valid().to_pylist()
    lengths = np.diff(ends).tolist()
    starts = (first + ends[:-1]).tolist()
    return [(start, length) if ok else None for start, length, ok in zip(starts, lengths, valid, strict=True)]


def _named(values: list[Any], names: list[str] | None) -> list[Any]:
    """Return class labels by name."""
    if names is None:
        return values
    return [names[value] if isinstance(value, int) and 0 <= value < len(names) else value for value in values]
