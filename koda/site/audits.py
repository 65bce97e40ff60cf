"""What the page over all audits says of each: read from its folder, and kept as long as the folder stands still."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koda._version import __version__
from koda.audit.folders import AUDITS, OF_A_FOLDER
from koda.errors import StoreError
from koda.site.reading import read_folder
from koda.storage import write_atomically
from koda.wording import one_line

CACHE = "site-cache"
_FORMAT = 2
_TRIES = 5  # to look at a folder that others are exchanging
Stamps = dict[str, list[int]]


@dataclass(frozen=True)
class SeenAudit:
    """An audit's folder as the page knows it.

    Args:
        folder: of the audit.
        told: what :func:`koda.site.reading.read_folder` says of it.
        read: whether it was read now, and not taken as it was.
    """

    folder: Path
    told: dict[str, Any]
    read: bool


def seen_audits(home: Path) -> Iterator[SeenAudit]:
    """Look at every audit of a home; one whose files have the size and times that they had is not read again.

    Args:
        home: KODA_HOME. What was read is kept in its `site-cache`, where that can be written.
    """
    cache = home / CACHE
    kept = set()
    for folder in sorted(_folders(home / AUDITS)):
        stamps = _stamps(folder)
        if not stamps.keys() & OF_A_FOLDER:
            continue
        entry = cache / f"{hashlib.sha256(os.fsencode(folder.name)).hexdigest()[:32]}.json"
        kept.add(entry.name)
        before = _load(entry)
        if before is not None and before["stamps"] == stamps:
            yield SeenAudit(folder, before["told"], read=False)
            continue
        told = read_folder(folder, {} if before is None else before["told"])
        yield SeenAudit(folder, told, read=True)
        _keep(entry, {"format": _format(), "stamps": stamps, "told": told})
    for entry in cache.glob("*.json"):
        if entry.name not in kept:
            _drop(entry)


def _folders(audits: Path) -> Iterator[Path]:
    try:
        with os.scandir(audits) as entries:
            yield from (audits / entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except FileNotFoundError:
        return


def _stamps(folder: Path) -> Stamps:
    """Return what tells whether a file changed, by name; between two folders that are exchanged, a moment later."""
    for _ in range(_TRIES):
        try:
            with os.scandir(folder) as entries:
                found = [(e.name, e.stat()) for e in entries if e.is_file() and not e.name.startswith(".")]
        except FileNotFoundError:
            time.sleep(0.02)
            continue
        return {one_line(name): [at.st_size, at.st_mtime_ns, at.st_ctime_ns, at.st_ino] for name, at in found}
    return {}


def _format() -> list[Any]:
    return [_FORMAT, __version__]


def _load(entry: Path) -> dict[str, Any] | None:
    """Return what was kept of a folder; None where nothing was, it is damaged, or another koda kept it."""
    try:
        seal, _, content = entry.read_bytes().partition(b"\n")
    except OSError:
        return None
    if seal != _seal(content):
        return None
    kept: dict[str, Any] = json.loads(content)
    return kept if kept.get("format") == _format() else None


def _keep(entry: Path, kept: dict[str, Any]) -> None:
    content = json.dumps(kept, separators=(",", ":")).encode()
    try:
        write_atomically(entry, _seal(content) + b"\n" + content)
    except StoreError:
        return  # a home that is only read: it is read anew the next time


def _seal(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _drop(entry: Path) -> None:
    try:
        entry.unlink(missing_ok=True)
    except OSError:
        return
