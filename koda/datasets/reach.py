"""How far the rows of a source reach: into the folder of the images, and where else the configuration lets them.

A table may come from anybody. What it names is opened with the rights of whoever runs the audit, so it is confined.
Links are not: they were made by somebody who may write to the folder, and there are tools (DVC, git-annex, the cache
of a hub) that make each image one, to a store elsewhere. Those that lead out are counted, so that it is known.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal
from urllib.parse import unquote

from koda.config import DataConfig
from koda.config.paths import local_path
from koda.datasets.base import Fault
from koda.datasets.blobs import Blob, is_url, join, shown, without_query

_OUTSIDE = "the image lies outside data.images"
_REMEDY = "data.roots to the folder that it lies in"
# protocols that data.urls: allow opens: those of stores, and none that reads this machine's files
_STORES = frozenset({"http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hf"})
# what a name that plainly lies below a folder has not: it takes no steps, is no URL, and has one Unicode form
_UNUSUAL = re.compile(r"[^ -~]|:|//|\.\.|(^|/)\.?(/|$)")
_FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")


@dataclass(frozen=True)
class Reach:
    """Where the images of a source may lie.

    Args:
        folder: what relative names are relative to; a path or a URL.
        folders: absolute paths of the folders that images may lie in, ``folder`` among them.
        urls: beginnings of the URLs that they may have.
        any_url: whether a row may name a URL of any store.
        beginning: what the path of every file in a local folder begins with; empty for a URL.
        renamed: paths of files that lie under another Unicode form of the name that a row gave them.
    """

    folder: str
    folders: tuple[str, ...]
    urls: tuple[str, ...]
    any_url: bool
    beginning: str
    renamed: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, config: DataConfig, folder: str) -> Reach:
        """Return how far the rows of a source may reach; ``folder`` is where its images lie."""
        roots = [local_path(root) for root in (folder, *config.roots)]
        local = [root for root in roots if not is_url(root)]
        # a table may name the files by the folder's own path where the configuration names a link to it
        both = dict.fromkeys(path for root in local for path in (os.path.abspath(root), os.path.realpath(root)))  # noqa: PTH100
        urls = tuple(without_query(root).rstrip("/") + "/" for root in roots if is_url(root))
        beginning = "" if is_url(roots[0]) else join(roots[0], "x")[:-1]
        return cls(roots[0], tuple(both), urls, config.urls == "allow", beginning)

    def image(self, name: str) -> Blob | Fault:
        """Return where the image that a row names lies, or why it is not opened.

        A local file that is not there under the name as it is written is looked for under the other Unicode forms of
        the name: file systems and the programs that write tables do not agree on how an accent is written.
        """
        if self.beginning and not _UNUSUAL.search(name):
            return Blob(self.beginning + name)
        text = local_path(name)
        if "\0" in text:
            return Fault("the image path is not a path")
        place = join(self.folder, text)
        if is_url(place):
            return Blob(place) if self._allows(place) else self._refused(place, f"data.urls: allow, or {_REMEDY}")
        inside = os.path.abspath(place)  # noqa: PTH100 (pathlib keeps `..`)
        if not _is_below(inside, self.folders):
            return self._refused(inside, _REMEDY)
        if ".." in place.split("/"):
            place = inside  # the kernel would follow a link before it steps out of it
        if not place.isascii() and (there := _as_it_lies(place)) != place:
            place = there
            self.renamed.add(place)
        return Blob(place)

    def _allows(self, url: str) -> bool:
        steps_out = ".." in unquote(without_query(url)).replace("\\", "/").split("/")
        if not steps_out and url.startswith(self.urls):
            return True
        return self.any_url and url.partition("://")[0].lower() in _STORES

    def _refused(self, place: str, remedy: str) -> Fault:
        return Fault(_OUTSIDE, f"{shown(place)} is not below {shown(self.folder)}; to allow it, set {remedy}")


def note_on_links(images: Iterable[tuple[str, Blob | None]], folders: Sequence[str]) -> Iterator[str]:
    """Yield a note where links lead from the folders that images may lie in to images that lie elsewhere.

    Args:
        images: the keys of rows with their images.
        folders: absolute paths; see :class:`Reach`. Where there are none, rows name no local images.
    """
    if not folders:
        return
    resolved = cache(os.path.realpath)  # of folders, which most images share
    out = []
    for key, image in images:
        if image is None or image.length is not None or is_url(image.location):
            continue  # a part of the data set's own files, which no row names, or no file
        folder, name = os.path.split(image.location)
        place = join(resolved(folder), name)
        if os.path.islink(place):  # noqa: PTH114 (a call a sample)
            place = os.path.realpath(place)
        if not _is_below(place, folders):
            out.append(key)
    if out:
        yield f"images reached through links that lead out of data.images: {len(out)}, such as that of {out[0]!r}"


def _is_below(place: str, folders: Iterable[str]) -> bool:
    return any(place.startswith(folder.rstrip("/") + "/") for folder in folders)


def _as_it_lies(place: str) -> str:
    """Return the path of a file under the form of its name that is there, or the path as it is."""
    if os.path.lexists(place):
        return place
    found = "/" if place.startswith("/") else ""
    for part in place.split("/"):
        forms = (found + form for form in (part, *(unicodedata.normalize(form, part) for form in _FORMS)))
        found = next((form for form in forms if os.path.lexists(form)), found + part)
        found += "/" if part else ""
    found = found.rstrip("/")
    return found if os.path.lexists(found) else place
