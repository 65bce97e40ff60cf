"""From a configuration to a data set: the right reader, the subset, the digests, and what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import filter as matching_names

from koda.config import DataConfig
from koda.datasets.base import (
    UNREADABLE,
    Pair,
    PairDataset,
    Rejection,
    Row,
    Source,
    check_rejections,
    commonest,
    digest_of,
    kinds_of,
)
from koda.datasets.blobs import Blob, is_folder, list_folder, reason_of, shown, without_query
from koda.datasets.captions import draw
from koda.datasets.coco import read_coco
from koda.datasets.columns import with_plain_metadata
from koda.datasets.condition import matching
from koda.datasets.credentials import without_credentials
from koda.datasets.digests import ImageDigests
from koda.datasets.embedding_folder import read_stored
from koda.datasets.folder import count_captioned_images, read_folder
from koda.datasets.huggingface import read_huggingface
from koda.datasets.pictures import View
from koda.datasets.reach import note_on_links
from koda.datasets.shards import has_braces
from koda.datasets.tables import read_table
from koda.datasets.text import as_utf8, is_text, listed
from koda.datasets.webdataset import read_webdataset
from koda.errors import DataError
from koda.records.ledger import Ledger

READERS: dict[str, Callable[[DataConfig], Source]] = {
    "csv": read_table,
    "coco": read_coco,
    "webdataset": read_webdataset,
    "folder": read_folder,
    "huggingface": read_huggingface,
    "embeddings": read_stored,
}
_NAMED = ("csv", "coco", "huggingface", "embeddings")  # formats in which a row names its image
# setting -> the formats for which it means something; what stands in none of these means something for all
_SETTINGS: dict[str, tuple[str, ...]] = {
    "images": _NAMED,
    "roots": _NAMED,
    "urls": _NAMED,
    "delimiter": ("csv",),
    "image_column": ("csv", "huggingface", "webdataset", "embeddings"),
    "caption_column": ("csv", "huggingface", "webdataset", "embeddings"),
    "key_column": ("csv", "huggingface", "webdataset"),
    "captions": ("csv", "coco", "huggingface", "webdataset"),
    "key_ends": ("webdataset",),
    "shard_in_key": ("webdataset",),
    "join": ("embeddings",),
}
_FORMAT_NAMES = {
    "csv": "a table",
    "coco": "a COCO file",
    "webdataset": "shards",
    "folder": "a folder of images",
    "huggingface": "a Hugging Face folder",
    "embeddings": "an embedding folder",
}
_TARS = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
# a file that lies in a folder -> the format of the folder, the surest first
_FORMAT_MARKS = {
    "dataset_dict.json": "huggingface",
    "state.json": "huggingface",
    "shard-*.safetensors": "embeddings",
    "img_emb": "embeddings",
    "text_emb": "embeddings",
    "*.tar": "webdataset",
}
# formats of folders that captioned images may lie in as well -> the files that speak for them
_EVIDENCE = {
    "huggingface": ("dataset_dict.json", "state.json", "dataset_info.json", "*.arrow"),
    "webdataset": ("*.tar",),
}
_CLEARLY_MORE = 4  # captioned images for each such file: then these are strays among the images


def format_of(config: DataConfig) -> str:
    """Return the format of a source: as configured, else as its path, or what lies in the folder, shows.

    Raises:
        DataError: a folder that cannot be listed, or that may well be meant in either of two ways.
    """
    if config.format is not None:
        return config.format
    path = without_query(config.path).lower()
    if path.endswith(_TARS) or (".tar" in path and ("::" in path or has_braces(path))):
        return "webdataset"
    if path.endswith(".json"):
        return "coco"
    if not is_folder(config.path):
        return "csv"
    names = list_folder(config.path)
    marks = (kind for mark, kind in _FORMAT_MARKS.items() if matching_names(names, mark))
    kind = next(marks, "folder")
    return _rather_images(config.path, kind, names) if kind in _EVIDENCE else kind


def _rather_images(folder: str, kind: str, names: list[str]) -> str:
    """Return what a folder is that has marks of another format and may hold captioned images: that, or "folder".

    A backup among captioned images does not make shards of them, and a picture beside shards is no data set: whichever
    is there in far greater number is meant. Where neither is, nobody but the user knows.

    Raises:
        DataError: with both readings.
    """
    marks = [name for mark in _EVIDENCE[kind] for name in matching_names(names, mark)]
    enough = _CLEARLY_MORE * len(marks)
    n_captioned, is_sure = count_captioned_images(folder, enough)
    if n_captioned >= enough:
        return "folder"
    if is_sure and n_captioned < len(marks):
        return kind
    looked = "" if is_sure else ", as far as was looked"
    raise DataError(
        f"The folder {shown(folder)} may be {_FORMAT_NAMES[kind]} ({listed(marks, 3)}) or {_FORMAT_NAMES['folder']} "
        f"({n_captioned} with captions beside them{looked}), and data.format does not say which.",
        f"Set data.format to {kind} or to folder.",
    )


def read_dataset(config: DataConfig, digests: ImageDigests | None = None) -> PairDataset:
    """Read the pairs that a configuration names.

    Every row of the source is a pair, a rejection, a part of another row's pair, or not asked for; the ledger says
    how many of each there are.

    Raises:
        DataError: no such source, one that is not in its format, no usable pair, or more rejections than
            `max_rejected` allows.
    """
    kind = format_of(config)
    _check_settings(config, kind)
    source = without_credentials(with_plain_metadata(READERS[kind](config)))
    subset = _subset(source, config)
    good, rejections = _sorted_out(subset.rows)
    digests = digests or ImageDigests()
    blobs: list[Blob] = [row.image for _, row in good if row.image is not None]
    image_digests = iter(digests.of(blobs))
    view = View(config.exif, config.background)
    pairs = []
    for key, row in good:
        digest = None if row.image is None else next(image_digests)
        if isinstance(digest, Exception):
            tried = "" if row.image is None else row.image.shown
            rejections.append(Rejection(key, UNREADABLE, as_utf8(f"{reason_of(digest)}: {tried}")))
        else:
            pairs.append(Pair(key, row.image, row.caption or "", digest, row.metadata, view))
    pairs.sort(key=lambda pair: pair.key)
    rejections.sort(key=lambda rejection: rejection.key)
    links = note_on_links(((pair.key, pair.image) for pair in pairs), source.folders)
    dataset = PairDataset(
        name=config.name or source.name,
        path=config.path,
        pairs=tuple(pairs),
        rejections=tuple(rejections),
        n_source=len(subset.rows),
        metadata_columns=source.metadata_columns,
        digest=digest_of(pairs),
        format=kind,
        ledger=Ledger(
            n_source=len(source.rows) - source.n_split + sum(source.merged.values()),
            n_split=source.n_split,
            merged=source.merged,
            n_outside_where=subset.n_outside_where,
            n_outside_limit=subset.n_outside_limit,
            rejected=kinds_of(rejections),
            n_compared=len(pairs),
            notes=[*source.notes, *links],
        ),
        join=config.join,
    )
    check_rejections(dataset.name, dataset.n_source, dataset.rejections, config.max_rejected)
    return dataset


def _check_settings(config: DataConfig, kind: str) -> None:
    """Refuse settings that mean nothing for the format of a source, since nobody would notice that they do nothing.

    Raises:
        DataError: the setting, and the formats that it is for.
    """
    for name, formats in _SETTINGS.items():
        value = getattr(config, name)
        if kind not in formats and value != DataConfig.model_fields[name].default:
            meant = ", ".join(_FORMAT_NAMES[other] for other in formats)
            shown_value = ", ".join(value) if isinstance(value, tuple) else value
            raise DataError(
                f"data.{name}: {shown_value} has no meaning for {_FORMAT_NAMES[kind]} ({shown(config.path)}).",
                f"Leave it out (it is for {meant}), or set data.format if the path was taken for what it is not.",
            )


@dataclass(frozen=True)
class _Subset:
    """The rows that a configuration asks for, and how many it does not ask for."""

    rows: list[Row]
    n_outside_where: int
    n_outside_limit: int


def _subset(source: Source, config: DataConfig) -> _Subset:
    """Return the rows that the configuration asks for; a random choice does not depend on the order of the source.

    Raises:
        DataError: a condition that is none, or that no row satisfies.
    """
    rows = [row for row in source.rows if not row.loss]
    losses = [row for row in source.rows if row.loss]
    n_rows = len(rows)
    if config.where is not None and rows:
        matched = matching(rows, source.metadata_columns, config.where)
        _check_matched(rows, matched, losses, config)
        rows = matched
    n_matched = len(rows)
    if config.limit is not None:
        rows = _limited(rows, config.limit, None if config.pick == "first" else config.seed)
    return _Subset([*rows, *losses], n_rows - n_matched, n_matched - len(rows))


def _check_matched(rows: Sequence[Row], matched: Sequence[Row], losses: Sequence[Row], config: DataConfig) -> None:
    """Refuse a condition that leaves nothing to audit, and say so: the rows that it cannot judge are not to blame.

    Raises:
        DataError: no usable row satisfies it; the rows that are left all have a fault, and are named beside it.
    """
    usable = [row for row in rows if row.fault is None]
    if matched and (not usable or any(row.fault is None for row in matched)):
        return
    left = [*matched, *losses]
    which = f"{len(usable)} usable rows" if left else f"{len(rows)} rows"
    beside = f"; beside them {len(left)} cannot be used: {commonest(_sorted_out(left)[1])}" if left else ""
    raise DataError(
        f"None of the {which} of {shown(config.path)} satisfies data.where{beside}.", "Write another condition."
    )


def _limited(rows: list[Row], limit: int, seed: int | None) -> list[Row]:
    """Return as many usable rows as the limit allows, and with them the faulty ones that fall to their share.

    A faulty row takes no place of the limit: most have no key, and one that were drawn by its line would have other
    samples drawn with it where the source is sorted otherwise. That as large a share of the faulty as of the usable
    rows is kept leaves `data.max_rejected` its meaning.

    Args:
        rows: in the order of the source.
        limit: of usable rows.
        seed: of the draw; None takes the first ones, and the faulty rows that stand before the last of them.
    """
    usable = [row for row in rows if row.fault is None]
    if len(usable) <= limit:
        return rows
    if seed is None:
        last = usable[limit - 1]
        return rows[: next(place for place, row in enumerate(rows, start=1) if row is last)]
    usable.sort(key=lambda row: draw(seed, "limit", row.where if row.key is None else row.key))
    faulty = []
    alike: Counter[str] = Counter()
    for row in rows:
        if row.fault is not None:
            name = f"{row.key}\0{row.fault.kind}\0{row.fault.detail}"  # the same wherever the row stands
            alike[name] += 1
            faulty.append((draw(seed, "limit", f"{name}\0{alike[name]}"), row))
    faulty.sort(key=lambda drawn: drawn[0])
    share = (2 * limit * len(faulty) + len(usable)) // (2 * len(usable))  # rounded
    return [*usable[:limit], *(row for _, row in faulty[:share])]


def _sorted_out(rows: list[Row]) -> tuple[list[tuple[str, Row]], list[Rejection]]:
    """Return the usable rows with their keys, and the others with their reasons."""
    good: dict[str, Row] = {}
    rejections = []
    for number, row in enumerate(rows, start=1):
        key = as_utf8(row.key if row.key is not None else row.where or f"row {number}")
        if row.fault is not None:
            rejections.append(Rejection(key, as_utf8(row.fault.kind), as_utf8(row.fault.detail)))
        elif row.key is not None and key in good:
            rejections.append(Rejection(key, "duplicate key", "an earlier row has it"))
        elif key != row.key:
            rejections.append(Rejection(key, "the key is not text", "it cannot be written as UTF-8"))
        elif not is_text(row.caption or ""):
            rejections.append(Rejection(key, "the caption is not text", "it cannot be written as UTF-8"))
        else:
            good[key] = row
    return list(good.items()), rejections
