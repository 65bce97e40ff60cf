"""Errors meant for the person who meets them: what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
import errno
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from koda.secrets import redact
from koda.wording import printable


class KodaError(Exception):
    """Base of every error koda raises on purpose.

    Args:
        message: what is wrong, with the file, row or key concerned.
        remedy: what the reader can do about it; shown on a line of its own.

    `exit_code` is what the command exits with: 2 where the input cannot be used, 3 where the run failed.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, remedy: str | None = None) -> None:
        self.message = _shown(message)
        self.remedy = None if remedy is None else _shown(remedy)
        super().__init__(self.message, self.remedy)

    def __str__(self) -> str:
        return self.message if self.remedy is None else f"{self.message}\n  {self.remedy}"


def _shown(text: str) -> str:
    """Spell out what a terminal obeys or refuses, and leave credentials out."""
    return redact(printable(text))


class ConfigError(KodaError):
    """The configuration, or an argument on the command line, cannot be used."""


class DataError(KodaError):
    """The data set, or an embedding table, cannot be used."""


class ModelError(KodaError):
    """A model cannot be found, has no weights, or is not what it claims to be."""


class SolverError(KodaError):
    """A solution failed its own final checks; it is never returned as a result."""

    exit_code = 3


class TrainingError(KodaError):
    """A fine-tuning diverged or brought nothing; no model is kept of it."""

    exit_code = 3


class StoreError(KodaError):
    """The artifact store or the database cannot be read or written."""

    exit_code = 3


class WriteError(StoreError):
    """A file or a folder cannot be written.

    Args:
        message, remedy: as of every error.
        path: what cannot be written.
        is_full: whether the disk has no room; the same command goes on when there is some.
    """

    def __init__(self, message: str, remedy: str | None = None, path: Path = Path(), is_full: bool = False) -> None:
        super().__init__(message, remedy)  # from these two it is made again where it comes out of another process
        self.path = path.absolute()
        self.is_full = is_full


class MachineError(KodaError):
    """What a run needs from the machine or the network gave out: memory, a connection, a server."""

    exit_code = 3


class PrerequisiteError(KodaError):
    """Something outside koda is missing; the remedy names the command that installs it."""


_OF_SYSTEM = {
    errno.ENOENT: "there is no such file",
    errno.EISDIR: "it is a folder",
    errno.ENOTDIR: "a file stands where a folder should",
    errno.EACCES: "you may not read it; change its permissions, or its owner",
    errno.EPERM: "you may not read it; change its permissions, or its owner",
    errno.ELOOP: "its links lead in a circle",
    errno.ENAMETOOLONG: "the name is longer than the disk allows",
}


def reason_of(error: BaseException) -> str:
    """Return why something could not be read, as a part of a sentence, without what Python adds to it.

    >>> reason_of(FileNotFoundError(2, "No such file or directory", "a.json"))
    'there is no such file'
    >>> reason_of(KeyError("keys"))
    "it lacks 'keys'"
    """
    if isinstance(error, OSError) and error.errno is not None:
        return _OF_SYSTEM.get(error.errno) or error.strerror or f"the system's error {error.errno}"
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno} is no JSON from character {error.colno} on" if error.doc.strip() else "it is empty"
    if isinstance(error, UnicodeDecodeError):
        return f"it is not text in UTF-8 (byte {error.start} is 0x{error.object[error.start]:02x})"
    if isinstance(error, KeyError) and error.args:
        return f"it lacks {error.args[0]!r}"
    if isinstance(error, TypeError | AttributeError):
        return "a value in it is of another kind than it has to be"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def nearest(wrong: str, known: Iterable[str], alike: float = 0.5, most: int = 1) -> list[str]:
    """Return the known names that a wrong one is like, the nearest first.

    Args:
        wrong: what stands where a known name should.
        known: the right names.
        alike: from 0 to 1, how like they are at the least.
        most: how many at the most.

    >>> nearest("tolernce", ["tolerance", "seed"])
    ['tolerance']
    """
    return difflib.get_close_matches(wrong, list(known), n=most, cutoff=alike)


def did_you_mean(names: Sequence[str], opening: str = "Did") -> str:
    """Return ``Did you mean 'name'?``; nothing where there are no names. Within a sentence it opens with "did".

    >>> did_you_mean(["tolerance"])
    "Did you mean 'tolerance'?"
    """
    return f"{opening} you mean {' or '.join(map(repr, names))}?" if names else ""
