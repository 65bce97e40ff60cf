"""A folder of images, each with its caption in a text file of the same name beside it."""

from __future__ import annotations

import unicodedata
from concurrent.futures import ThreadPoolExecutor

from koda.config import DataConfig
from koda.datasets.base import Fault, Row, Source
from koda.datasets.blobs import READS_AT_ONCE, Blob, is_folder, join, list_entries, list_files, reason_of, shown
from koda.datasets.captions import missing
from koda.datasets.images import IMAGE_SUFFIXES
from koda.datasets.text import decode_text, listed, stands_for_nothing
from koda.errors import DataError

_TABLES = (".csv", ".tsv", ".parquet", ".json")
_MOST_LISTED = 100  # folders that are looked at to find out what a folder is


def read_folder(config: DataConfig) -> Source:
    """Read a folder, and those in it, of images with captions: `sub/cat.jpg` and `sub/cat.txt`, key `sub/cat`.

    An image without a caption and a caption without an image are rows with a fault. Hidden files and files of other
    kinds are no part of the data set.

    Raises:
        DataError: no such folder, or none with images and captions in it.
    """
    folder = config.path
    if not is_folder(folder):
        raise DataError(f"The folder {shown(folder)} does not exist.", "Set data.path to a folder of images.")
    images: list[tuple[str, str]] = []  # key, file
    captions: dict[str, str] = {}  # key -> file
    doubles = []  # caption files of a key that has one
    others = []
    tars = []
    for name in list_files(folder):
        stem, dot, suffix = name.rpartition(".")
        if any(part.startswith(".") for part in name.split("/")):
            continue
        if suffix.lower() in IMAGE_SUFFIXES and dot:
            images.append((stem, name))
        elif suffix.lower() == "txt" and dot:
            if captions.setdefault(stem, name) != name:
                doubles.append(name)
        elif name.lower().endswith(_TABLES):
            others.append(name)
        elif name.lower().endswith(".tar"):
            tars.append(name)
    if not images or not captions:
        what = "no images" if not images else "images, but no captions (.txt files of the same names)"
        remedy = (
            "Set data.path to a table of captions, a COCO JSON file, tar shards, or a folder of images and .txt files."
        )
        if others:
            remedy = f"Set data.path to the table of captions: {join(folder, others[0])}?"
        raise DataError(f"The folder {folder} has {what}.", remedy)
    rows = []
    written = _by_written_name(captions, {key for key, _ in images})
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        read_captions = pool.map(lambda image: _caption(folder, captions.get(written.get(image[0], image[0]))), images)
        for (key, name), (caption, fault) in zip(images, read_captions, strict=True):
            rows.append(Row(key, Blob(join(folder, name)), caption, fault=fault, where=name))
    with_image = {written.get(key, key) for key, _ in images}
    rows += [
        Row(key, fault=Fault("the caption has no image beside it"), where=name)
        for key, name in captions.items()
        if key not in with_image
    ]
    rows += [Row(None, fault=Fault("another caption has the same name"), where=name) for name in doubles]
    notes = (f"it is read as a folder of images; {len(tars)} tar files in it are left out: {listed(tars, 3)}",)
    return Source(folder.rstrip("/").rpartition("/")[2], rows, notes=notes if tars else ())


def _by_written_name(captions: dict[str, str], keys: set[str]) -> dict[str, str]:
    """Return, for images without a caption, the captions of the same name under another Unicode form."""
    free = {unicodedata.normalize("NFC", stem): stem for stem in captions if stem not in keys and not stem.isascii()}
    pairs = ((key, free.get(unicodedata.normalize("NFC", key))) for key in keys if key not in captions)
    return {key: stem for key, stem in pairs if stem is not None}


def _caption(folder: str, name: str | None) -> tuple[str | None, Fault | None]:
    """Return the caption in a file, or what is wrong with it."""
    if name is None:
        return None, Fault("the image has no caption beside it")
    try:
        text = decode_text(Blob(join(folder, name)).read(), name).strip()
    except DataError as error:
        return None, Fault("malformed caption", error.message.rstrip("."))
    except Exception as error:  # a store behind a URL has errors of its own
        return None, Fault("the caption cannot be read", reason_of(error))
    return (None, missing(text)) if stands_for_nothing(text) else (text, None)


def count_captioned_images(folder: str, enough: int) -> tuple[int, bool]:
    """Return how many images in a folder, and in those below it, have a text file of the same name beside them.

    The folder itself comes first. The count ends where there are enough, or where a hundred folders were looked at,
    each of which is a request behind a URL; the second value tells whether all that was asked for was counted.

    Raises:
        DataError: the folder cannot be listed.
    """
    waiting = [""]  # the last is the next: images deep down are found before every folder above them was listed
    n_found = n_listed = 0
    while waiting and n_found < enough and n_listed < _MOST_LISTED:
        below = waiting.pop()
        n_listed += 1
        try:
            files, folders = list_entries(join(folder, below) if below else folder)
        except DataError:
            if not below:
                raise
            continue  # whoever reads the folder as images is told of it; tars beside it are none the worse for it
        parts = [name.rpartition(".") for name in files if not name.startswith(".")]
        texts = {stem for stem, dot, suffix in parts if dot and suffix.lower() == "txt"}
        n_found += len({stem for stem, _, suffix in parts if suffix.lower() in IMAGE_SUFFIXES and stem in texts})
        waiting += [f"{below}{name}/" for name in reversed(folders) if not name.startswith(".")]
    return n_found, n_found >= enough or not waiting
