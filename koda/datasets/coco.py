"""COCO captions: one JSON file with the images and their captions, several an image, beside a folder of images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from koda.config import DataConfig
from koda.datasets.base import Fault, Row, Source, gathered
from koda.datasets.blobs import Blob, is_file, is_folder, is_url, join, parent_of, read_location, stem_of
from koda.datasets.captions import choose
from koda.datasets.text import parse_json, scalars
from koda.errors import DataError

_PARTS = ("images", "annotations")


@dataclass
class _Image:
    """An entry of `images` with the captions that name it."""

    key: str
    entry: dict[str, Any]
    where: str
    captions: list[dict[str, Any]] = field(default_factory=list)


def read_coco(config: DataConfig) -> Source:
    """Read a COCO captions file.

    The key is the image's id, with ``captions: all`` the id and the place of the caption among those of its image
    in the order of their own ids (``139#0``). What else stands in the entries of an image and its caption is metadata.
    An annotation without an image, an image without a caption, and an entry that is neither are rows with a fault.

    Raises:
        DataError: no such file or image folder, or a file that is not COCO.
    """
    content = _content(config.path)
    folder = parent_of(config.path) if config.images is None else config.images
    if not is_url(folder) and not is_folder(folder):
        raise DataError(f"The image folder {folder} does not exist.", "Set data.images.")
    images: dict[str, _Image] = {}
    entries: list[Row | _Image] = []
    for place, entry in enumerate(content["images"]):
        where = f"image {place + 1}"
        key = _id(entry, "id")
        if key is None:
            entries.append(Row(None, fault=Fault("malformed image", "an entry without an id"), where=where))
        elif key in images:
            entries.append(Row(key, fault=Fault("duplicate key", "an earlier image has it"), where=where))
        else:
            images[key] = _Image(key, entry, where)
            entries.append(images[key])
    strays = list(_attach(content["annotations"], images))
    rows: list[Row] = []
    for item in entries:
        rows += [item] if isinstance(item, Row) else _pairs(item, folder, config)
    return gathered(stem_of(config.path), [*rows, *strays])


def _content(path: str) -> dict[str, list[Any]]:
    """Return the two lists that make a file COCO's."""
    if not is_file(path):
        raise DataError(f"The data set {path} does not exist.", "Set data.path to a COCO captions file.")
    content = parse_json(read_location(path), path)
    missing = [part for part in _PARTS if not isinstance(content, dict) or not isinstance(content.get(part), list)]
    if missing:
        raise DataError(
            f"{path} is not a COCO captions file: it has no list {missing[0]!r}.",
            "koda reads JSON with the lists 'images' (id, file_name) and 'annotations' (image_id, caption).",
        )
    return {part: content[part] for part in _PARTS}


def _attach(annotations: list[Any], images: dict[str, _Image]) -> Iterator[Row]:
    """Give each image its captions; yield those that cannot be given to one."""
    for place, entry in enumerate(annotations):
        where = f"annotation {place + 1}"
        key = _id(entry, "image_id")
        if key is None:
            yield Row(None, fault=Fault("malformed annotation", "an entry without an image_id"), where=where)
        elif not isinstance(entry.get("caption"), str):
            yield Row(None, fault=Fault("malformed annotation", "an entry without a caption"), where=where)
        elif key not in images:
            fault = Fault("the image of the annotation is not in the file", key)
            yield Row(None, None, entry["caption"], fault=fault, where=where)
        else:
            images[key].captions.append(entry)


def _pairs(image: _Image, folder: str, config: DataConfig) -> Iterator[Row]:
    """Yield the pairs of an image, or what is wrong with it."""
    metadata = scalars(image.entry, {"id", "caption", "key"})
    file = image.entry.get("file_name")
    if not image.captions:
        yield Row(image.key, None, None, metadata, Fault("the image has no caption"), image.where)
        return
    # the order of the file is not part of the data set, that of the ids is
    captions = sorted(image.captions, key=_order)
    for key, entry in choose(image.key, captions, config):
        about = scalars(entry, {"id", "image_id", "caption", "key"})
        if (own := _id(entry, "id")) is not None:
            about["annotation_id"] = own
        whole = {**about, **metadata}
        if isinstance(file, str) and file and "\0" not in file:
            yield Row(key, Blob(join(folder, file)), entry["caption"], whole, where=image.where)
        else:
            yield Row(key, None, entry["caption"], whole, Fault("malformed image", "no file_name"), image.where)


def _id(entry: Any, name: str) -> str | None:
    """Return an id as text, or None where there is none; 7 and "7" are the same."""
    value = entry.get(name) if isinstance(entry, dict) else None
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return None
    return str(value)


def _order(entry: dict[str, Any]) -> tuple[int, int, str, str]:
    """Return what sorts annotations: ids that are numbers, ids that are text, and no ids, which keep their order."""
    value = entry.get("id")
    if isinstance(value, int):
        return 0, value, "", entry["caption"]
    return (1, 0, value, entry["caption"]) if isinstance(value, str) else (2, 0, "", "")
