"""Where a checkpoint lies, how it is called in reports, and what changes when it does."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass

_ESCAPED = re.compile(r"\[([*?[])\]")  # what glob.escape makes of a bracket or a star that is meant as it is written
_DIGITS = re.compile(r"(\d+)")
_UNFINISHED = (".tmp", ".temp", ".part", ".partial", ".incomplete")  # names under which programs write or fetch


@dataclass(frozen=True)
class Found:
    """A file or folder that a pattern matches.

    Args:
        location: its absolute path, or its URL without credentials.
        label: its path from the first part of the pattern that has a wildcard.
        stamp: digest of size, times and inode of each of its files.
        changed: when one of its files changed last in any way, in seconds since 1970; None where that is not known.
        is_folder: whether it is one.
    """

    location: str
    label: str
    stamp: str
    changed: float | None
    is_folder: bool

    @property
    def is_remote(self) -> bool:
        """Whether it has to be fetched."""
        return "://" in self.location


def label_of(location: str, pattern: str) -> str:
    """Return a location from the first part of the pattern on that has a wildcard.

    >>> label_of("/data/runs/a/checkpoints/epoch_3.pt", "/data/runs/*/checkpoints/epoch_*.pt")
    'a/checkpoints/epoch_3.pt'
    """
    parts = location.rstrip("/").split("/")
    return "/".join(parts[min(fixed_parts(pattern), len(parts) - 1) :])


def fixed_parts(pattern: str) -> int:
    """Return how many parts of a pattern come before its first wildcard; without one, all but the last."""
    parts = pattern.rstrip("/").split("/")
    wild = (place for place, part in enumerate(parts) if glob.has_magic(_ESCAPED.sub("", part)))
    return next(wild, len(parts) - 1)


def natural(text: str) -> list[tuple[int, int, str]]:
    """Return what sorts texts as people count.

    >>> sorted(["epoch_10.pt", "epoch_2.pt", "epoch_latest.pt"], key=natural)
    ['epoch_2.pt', 'epoch_10.pt', 'epoch_latest.pt']
    """
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in _DIGITS.split(text) if part]


def is_unfinished(names: list[str]) -> bool:
    """Tell whether a path has a name in it under which programs write what they will rename."""
    return any(name.startswith((".", "tmp-")) or name.lower().endswith(_UNFINISHED) for name in names)
