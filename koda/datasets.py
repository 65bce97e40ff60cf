"""Image-caption pairs from a table of captions and a folder of images.

The table is CSV, TSV or Parquet with a column of image paths (`filepath`) and one of captions
(`title`), optionally a key column and any number of metadata columns. A row that cannot be used
becomes a recorded :class:`Rejection`; the rows read and the rows rejected add up to the source.
"""

from __future__ import annotations

import csv
import hashlib
import io
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from koda.config import DataConfig
from koda.digest import digest_file, digest_json
from koda.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

_DATA_VERSION = 1
_TABLES = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t", ".parquet": None}
_MAX_PIXELS = 178_956_970  # Pillow's own limit for a decompression bomb


@dataclass(frozen=True)
class Rejection:
    """A row that was left out, and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class Pair:
    """One image with its caption; `image` is the file, `image_digest` the sha256 of its bytes."""

    key: str
    image: Path
    caption: str
    image_digest: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PairDataset:
    """The usable pairs of a source, in the order of their keys, with everything that was left out.

    ``digest`` names the content (keys, captions, image bytes, metadata) and neither the path nor the order of
    the source, so a copied or re-sorted data set is recognised.
    """

    name: str
    path: str
    pairs: tuple[Pair, ...]
    rejections: tuple[Rejection, ...]
    n_source: int
    metadata_columns: tuple[str, ...]
    digest: str

    @property
    def n_duplicate_images(self) -> int:
        """Pairs whose image has the same bytes as an earlier pair's."""
        return len(self.pairs) - len({pair.image_digest for pair in self.pairs})


def read_dataset(config: DataConfig, digests: ImageDigests | None = None) -> PairDataset:
    """Read the pairs that a configuration names.

    Raises:
        DataError: no such table, columns that are not there, no usable pair, or more rejections
            than `max_rejected` allows.
    """
    path = Path(config.path)
    images = path.parent if config.images is None else Path(config.images)
    columns, malformed = _read_table(path)
    for name, what in ((config.image_column, "image_column"), (config.caption_column, "caption_column")):
        if name not in columns:
            raise DataError(
                f"{path} has no column {name!r}; its columns are {', '.join(map(repr, columns)) or 'none'}.",
                f"Name the right one as data.{what}.",
            )
    if config.key_column is not None and config.key_column not in columns:
        raise DataError(f"{path} has no column {config.key_column!r} (data.key_column).")
    if not images.is_dir():
        raise DataError(f"The image folder {images} does not exist.", "Set data.images.")
    key_column = config.key_column or ("key" if "key" in columns else config.image_column)
    metadata_columns = tuple(
        name for name in columns if name and name not in {key_column, config.image_column, config.caption_column}
    )
    n_source = len(columns[config.image_column]) + len(malformed)
    chosen: Iterable[int] = range(len(columns[config.image_column]))
    if config.limit is not None and config.limit < n_source:
        draw = np.random.default_rng(config.seed).permutation(len(columns[config.image_column]))[: config.limit]
        chosen = sorted(int(row) for row in draw)
        n_source, malformed = len(draw), []
    rows = []
    rejections = list(malformed)
    seen: set[str] = set()
    for row in chosen:
        file, caption = columns[config.image_column][row], columns[config.caption_column][row]
        key = columns[key_column][row]
        name = f"row {row + 1}" if key is None or str(key) == "" else str(key)
        if key is None or str(key) == "":
            rejections.append(Rejection(name, f"the column {key_column!r} is empty"))
        elif name in seen:
            rejections.append(Rejection(name, "duplicate key: an earlier row has it"))
        elif file is None or str(file) == "":
            rejections.append(Rejection(name, f"the column {config.image_column!r} is empty"))
        elif caption is None:
            rejections.append(Rejection(name, "the caption is missing"))
        elif "\0" in str(file):
            rejections.append(Rejection(name, "the image path is not a path"))
        else:
            seen.add(name)
            metadata = {column: columns[column][row] for column in metadata_columns}
            rows.append((name, images / str(file), str(caption), metadata))
    digests = digests or ImageDigests()
    pairs = []
    for (key, file, caption, metadata), found in zip(rows, digests.of([row[1] for row in rows]), strict=True):
        if isinstance(found, OSError):
            rejections.append(Rejection(key, f"the image cannot be read: {_reason(found)}"))
        else:
            pairs.append(Pair(key, file, caption, found, metadata))
    pairs.sort(key=lambda pair: pair.key)
    rejections.sort(key=lambda rejection: rejection.key)
    content = [[pair.key, pair.caption, pair.image_digest, pair.metadata] for pair in pairs]
    dataset = PairDataset(
        config.name or path.stem,
        str(path),
        tuple(pairs),
        tuple(rejections),
        n_source,
        metadata_columns,
        digest_json([_DATA_VERSION, content]),
    )
    check_rejections(dataset.name, n_source, dataset.rejections, config.max_rejected)
    return dataset


def check_rejections(name: str, n_source: int, rejections: Iterable[Rejection], limit: float) -> None:
    """Refuse to go on when nothing usable is left, or more was left out than the user allows.

    Args:
        name: the data set, for the message.
        n_source: rows in the source.
        rejections: what was left out.
        limit: below 1 a share of the source, from 1 on a count.

    Raises:
        DataError: with the commonest reasons.
    """
    found = list(rejections)
    reasons = Counter(rejection.reason.split(":")[0] for rejection in found)
    common = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
    if n_source - len(found) < 1:
        told = f"all {n_source} rows were rejected ({common})" if n_source else "it has no rows"
        raise DataError(f"The data set {name} has no usable pair: {told}.", "Check the paths of the images.")
    allowed = limit * n_source if limit < 1 else limit
    if len(found) > allowed:
        raise DataError(
            f"The data set {name} has {len(found)} unusable rows of {n_source}, more than the limit "
            f"data.max_rejected = {limit:g} allows ({common}; the first is {found[0].key!r}).",
            "Mend the data, or raise data.max_rejected (below 1 a share, from 1 on a count).",
        )


@dataclass
class ImageDigests:
    """The sha256 of image files, remembered by path, size and modification time.

    ``known`` may be loaded from and saved to disk by the caller, so that a second audit of an
    unchanged data set does not read every image again.
    """

    known: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    changed: bool = False

    def of(self, files: list[Path]) -> Iterator[str | OSError]:
        """Yield the digest of each file, or the error that reading it gave."""
        with ThreadPoolExecutor(4) as pool:
            yield from pool.map(self._one, files, chunksize=64)

    def _one(self, file: Path) -> str | OSError:
        try:
            stat = file.stat()
            stamp = (stat.st_size, stat.st_mtime_ns)
            remembered = self.known.get(str(file))
            if remembered is not None and tuple(remembered[:2]) == stamp:
                return remembered[2]
            if stat.st_size == 0:
                return OSError("the file is empty")
            digest = digest_file(file)
        except OSError as error:
            return error
        self.known[str(file)] = (*stamp, digest)
        self.changed = True
        return digest


def decode_image(pair: Pair) -> Image:
    """Decode a pair's image to RGB.

    Raises:
        DataError: the image is corrupt, truncated, too large, or changed since it was read.
    """
    from PIL import Image as PillowImage
    from PIL import ImageFile, UnidentifiedImageError

    # WeasyPrint, once imported, has Pillow fill up truncated images in silence for the whole process
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        data = pair.image.read_bytes()
        if hashlib.sha256(data).hexdigest() != pair.image_digest:
            raise DataError("the image changed while the audit ran")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PillowImage.open(io.BytesIO(data)) as image:
                if image.width * image.height > _MAX_PIXELS:
                    raise DataError(f"the image is too large: {image.width} x {image.height} pixels")
                image.load()
                return image.convert("RGB")
    except PillowImage.DecompressionBombError as error:
        raise DataError("the image is too large: it looks like a decompression bomb") from error
    except UnidentifiedImageError as error:
        raise DataError("the image cannot be decoded: not an image file that Pillow knows") from error
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise DataError(f"the image cannot be decoded: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _read_table(path: Path) -> tuple[dict[str, list[Any]], list[Rejection]]:
    """Read a table into columns of equal length, and the lines that do not fit its header."""
    if path.is_dir():
        raise DataError(f"The data set {path} is a folder.", "Set data.path to the table of captions in it.")
    if not path.is_file():
        raise DataError(f"The data set {path} does not exist.", "Set data.path to a CSV, TSV or Parquet table.")
    if path.suffix.lower() not in _TABLES:
        raise DataError(
            f"{path}: koda does not know the format {path.suffix or 'of a file without a suffix'!r}.",
            f"It reads tables: {', '.join(sorted(_TABLES))}.",
        )
    delimiter = _TABLES[path.suffix.lower()]
    return (_read_parquet(path), []) if delimiter is None else _read_text(path, delimiter)


def _read_parquet(path: Path) -> dict[str, list[Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns: dict[str, list[Any]] = pq.ParquetFile(path).read().to_pydict()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} is not a Parquet table: {_reason(error)}.") from error
    return columns


def _read_text(path: Path, delimiter: str) -> tuple[dict[str, list[Any]], list[Rejection]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: not UTF-8.", "Save the table as UTF-8.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {_reason(error)}.") from error
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
    whole = [row for _, row in body if len(row) == len(header)]
    malformed = [
        Rejection(f"line {line}", f"malformed row: {len(row)} fields where the header has {len(header)}")
        for line, row in body
        if len(row) != len(header)
    ]
    return {name: [row[place] for row in whole] for place, name in enumerate(header)}, malformed


def _records(text: str, delimiter: str, quoting: Any) -> list[tuple[int, list[str]]]:
    """Split a text into records with the line each ends on; blank lines are no records."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    return [(reader.line_num, row) for row in reader if row]
