"""Digests: the names of everything koda stores."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_BLOCK_BYTES = 1 << 20


def digest_json(value: Any) -> str:
    """Return the sha256 of a JSON value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_file(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            state.update(block)
    return state.hexdigest()


_SETTLED_NS = 20_000_000  # clocks of file systems stand still for up to 10 ms: a later change could bear the same time
_known: dict[tuple[int, int, int, int, int], str] = {}


def digest_once(path: Path) -> str:
    """Return the sha256 of a file's bytes; in one process a file that stood still is read only once.

    A file is known again by device, inode, size and both of its times; the time of its last change of any kind, which
    no program can set, is among them.
    """
    before = _stamp(path)
    if before in _known:
        return _known[before]
    now = time.time_ns()
    digest = digest_file(path)
    if _stamp(path) == before and now - before[4] > _SETTLED_NS:
        _known[before] = digest
    return digest


def _stamp(path: Path) -> tuple[int, int, int, int, int]:
    at = path.stat()
    return at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns


def digest_keys(keys: Iterable[str]) -> str:
    """Return the sha256 of the sorted keys, a line each."""
    return hashlib.sha256("".join(f"{key}\n" for key in sorted(keys)).encode()).hexdigest()
