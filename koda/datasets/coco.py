"""COCO captions: one JSON file with the images and their captions, several an image, beside a folder of images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from koda.config import DataConfig
from koda.datasets.base import Fault, Row, Source, gathered
from koda.datasets.blobs import is_file, is_folder, is_url, parent_of, read_location, shown, stem_of, why_no_file
from koda.datasets.captions import choose
from koda.datasets.reach import Reach
from koda.datasets.text import as_utf8, listed, parse_json, scalars, stands_for_nothing
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
    reach = Reach.of(config, folder)
    for item in entries:
        rows += [item] if isinstance(item, Row) else _pairs(item, reach, config)
    source = gathered(stem_of(config.path), [*rows, *strays])
    notes = tuple(_left_out(images.values()))
    return replace(source, n_split=len(rows) - len(entries), notes=notes, folders=reach.folders)


def _left_out(images: Iterable[_Image]) -> Iterator[str]:
    """Yield a note on what describes images and captions and is neither text nor a number."""
    parts = (part for image in images for part in (image.entry, *image.captions))
    names = sorted({name for part in parts for name, value in part.items() if isinstance(value, list | dict)})
    if names:
        yield f"left out, since they hold lists or objects: {as_utf8(listed([repr(name) for name in names]))}"


def _content(path: str) -> dict[str, list[Any]]:
    """Return the two lists that make a file COCO's."""
    if not is_file(path):
        raise DataError(f"The data set {shown(path)} {why_no_file(path)}.", "Set data.path to a COCO captions file.")
    content = parse_json(read_location(path), shown(path))
    missing = [part for part in _PARTS if not isinstance(content, dict) or not isinstance(content.get(part), list)]
    if missing:
        raise DataError(
            f"{shown(path)} is not a COCO captions file: it has no list {missing[0]!r}.",
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
        elif not (captions := _captions(entry)):
            yield Row(None, fault=Fault("malformed annotation", "an entry without a caption"), where=where)
        elif key not in images:
            fault = Fault("the image of the annotation is not in the file", key)
            yield Row(None, None, captions[0], fault=fault, where=where)
        else:
            images[key].captions += [{**entry, "caption": caption} for caption in captions]


def _captions(entry: dict[str, Any]) -> list[str]:
    """Return the captions of an annotation, which has one or a list of them."""
    value = entry.get("caption")
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str) and not stands_for_nothing(text)]


def _pairs(image: _Image, reach: Reach, config: DataConfig) -> Iterator[Row]:
    """Yield the pairs of an image, or what is wrong with it."""
    metadata = scalars(image.entry, {"id"})
    file = image.entry.get("file_name")
    if not image.captions:
        yield Row(image.key, None, None, metadata, Fault("the image has no caption"), image.where)
        return
    place = reach.image(file) if isinstance(file, str) and file else Fault("malformed image", "no file_name")
    # the order of the file is not part of the data set, that of the ids is
    captions = sorted(image.captions, key=_order)
    for key, entry in choose(image.key, captions, config):
        about = scalars(entry, {"id", "image_id", "caption"})
        if (own := _id(entry, "id")) is not None:
            about["annotation_id"] = own
        whole = {**about, **metadata}
        if isinstance(place, Fault):
            yield Row(key, None, entry["caption"], whole, place, image.where)
        else:
            yield Row(key, place, entry["caption"], whole, where=image.where)


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
