"""WebDataset shards, img2dataset's among them: tar files in which the members of one name are one sample."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from koda.config import DataConfig
from koda.datasets.base import Fault, Row, Source, gathered
from koda.datasets.blobs import READS_AT_ONCE, Blob, open_file, reason_of
from koda.datasets.images import IMAGE_SUFFIXES
from koda.datasets.shards import find_shards, name_of
from koda.datasets.text import decode_text, parse_json, scalars
from koda.errors import DataError

_BLOCK_BYTES = 512
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_TEXTS = ("txt", "json")


class _Damage(Exception):
    """A tar file does not go on as it should."""


@dataclass
class _Sample:
    """The members of one name: where each lies, and the text of those that are text."""

    key: str
    parts: dict[str, tuple[int, int]] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)


def read_webdataset(config: DataConfig) -> Source:
    """Read shards by their headers, captions and metadata; each image stays where it lies in its shard.

    The key is a member's name up to the first dot, with its folder in the shard (WebDataset's `__key__`). The caption
    is the `.txt`, or else `caption` in the `.json`, whose other entries are metadata. Of a shard that was cut off the
    samples before the cut are used, and the loss is a row with a fault.

    Raises:
        DataError: shards that are missing, compressed, or not tar files.
    """
    shards = find_shards(config.path)
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        by_shard = list(pool.map(_read_shard, shards))
    return gathered(name_of(config.path), [row for rows in by_shard for row in rows])


def _read_shard(location: str) -> list[Row]:
    """Return the samples of a shard, and a row for what is lost of it."""
    try:
        with open_file(location) as file:
            samples, damage = _index(file, location)
    except DataError:
        raise
    except Exception as error:  # a store behind a URL has errors of its own
        raise DataError(f"The shard {location} cannot be read: {reason_of(error)}.") from error
    rows = [_row(sample, location) for sample in samples]
    if damage is not None:
        name = location.rpartition("/")[2]
        rows.append(Row(None, fault=Fault("the shard is damaged", str(damage)), where=name, loss=True))
    return rows


def _index(file: BinaryIO, location: str) -> tuple[list[_Sample], str | None]:
    """Return the samples of a tar file, and what is wrong with its end."""
    start = file.read(6)
    for magic, name in _COMPRESSED.items():
        if start.startswith(magic):
            raise DataError(
                f"The shard {location} is compressed with {name}: single images cannot be read from it.",
                "Decompress it; the images in it are compressed already.",
            )
    samples: list[_Sample] = []
    latest: dict[str, _Sample] = {}
    damage = None
    n_members = 0
    try:
        for member in _members(file):
            n_members += 1
            key, suffix = _split(member.name)
            if not key or not member.isreg() or member.issparse():
                continue
            sample = latest.get(key)
            if sample is None or suffix in sample.parts:  # the same member again is another sample, of the same key
                sample = latest[key] = _Sample(key)
                samples.append(sample)
            sample.parts[suffix] = (member.offset_data, member.size)
            if suffix in _TEXTS:
                file.seek(member.offset_data)
                sample.texts[suffix] = file.read(member.size)
    except _Damage as error:
        damage = str(error)
        if not n_members:
            raise DataError(f"The shard {location} is not a tar file: {damage}.", "Fetch it again.") from error
    return samples, damage


def _members(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar file whose bytes are all there.

    Raises:
        _Damage: where it does not go on. tarfile takes a damaged header for the end of the file.
    """
    size = file.seek(0, 2)
    file.seek(0)
    last = -1
    try:
        archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 (the file is the caller's)
    except Exception as error:  # tarfile raises whatever it stumbles over
        raise _Damage("it is empty" if not size else reason_of(error)) from error
    while True:
        try:
            member = archive.next()
        except Exception as error:
            raise _Damage(reason_of(error)) from error
        if member is None:
            break
        if member.offset_data <= last or member.size < 0:  # a damaged header that leads backwards, for ever
            raise _Damage(f"the header at byte {member.offset} is not one")
        last = member.offset_data
        if member.isreg() and member.offset_data + member.size > size:
            raise _Damage(f"it ends early, in {member.name!r}")
        yield member
    file.seek(archive.offset)
    block = file.read(_BLOCK_BYTES)
    if len(block) < _BLOCK_BYTES:
        raise _Damage("it ends early, without its end mark")
    if block != bytes(_BLOCK_BYTES):
        raise _Damage(f"the header at byte {archive.offset} is not one")


def _split(name: str) -> tuple[str, str]:
    """Split a member's name into its key and its suffix; ("", "") where it is not part of a sample."""
    folder, slash, base = name.removeprefix("./").rpartition("/")
    stem, dot, suffix = base.partition(".")
    return (folder + slash + stem, suffix.lower()) if stem and dot else ("", "")


def _row(sample: _Sample, location: str) -> Row:
    """Make a row of a sample, or say what it lacks."""
    where = f"{location.rpartition('/')[2]}: {sample.key}"
    metadata: dict[str, Any] = {}
    caption = None
    fault = None
    try:
        if "json" in sample.texts:
            content = parse_json(sample.texts["json"], f"{sample.key}.json")
            if not isinstance(content, dict):
                raise DataError(f"{sample.key}.json is no JSON object")
            metadata = scalars(content, {"caption", "key"})  # img2dataset's key is the name
            caption = content["caption"] if isinstance(content.get("caption"), str) else None
        if "txt" in sample.texts:
            caption = decode_text(sample.texts["txt"], f"{sample.key}.txt").strip()
    except DataError as error:
        fault = Fault("malformed sample", error.message.rstrip("."))
    place = next((sample.parts[suffix] for suffix in IMAGE_SUFFIXES if suffix in sample.parts), None)
    image = None if place is None else Blob(location, *place)
    if fault is None and image is None:
        fault = Fault("the sample has no image", f"it has {', '.join(sorted(sample.parts))}")
    if fault is None and caption is None:
        fault = Fault("the sample has no caption")
    return Row(sample.key, image, caption, metadata, fault, where)
