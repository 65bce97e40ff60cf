"""Small files that somebody names on a command line: read whole, or refused in words."""

from __future__ import annotations

import errno
from pathlib import Path

_MOST_BYTES = 1 << 20
_WHY = {
    errno.ENOENT: "there is no such file",
    errno.ENOTDIR: "there is no such file",
    errno.EISDIR: "it is a folder",
    errno.EACCES: "you may not read it; change its permissions, or its owner",
    errno.EPERM: "you may not read it; change its permissions, or its owner",
    errno.ENAMETOOLONG: "its name is longer than any of a file",
    errno.ELOOP: "it is a link that leads to itself",
}


class UnreadableError(ValueError):
    """A file that cannot be read; the message says why, as the end of a sentence."""


def read_small(path: Path) -> bytes:
    """Read a file that is no larger than a mebibyte; a pipe serves too.

    Raises:
        UnreadableError: it is missing, empty, larger, a folder, or forbidden.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UnreadableError(why_unreadable(error)) from error
    except ValueError as error:  # a NUL in the name
        raise UnreadableError("it has no name of a file") from error
    if not data:
        raise UnreadableError("it is empty")
    if len(data) > _MOST_BYTES:
        raise UnreadableError("it is larger than a mebibyte, which none of its kind is")
    return data


def why_unreadable(error: OSError) -> str:
    """Say why a file cannot be read, as the end of a sentence."""
    return _WHY.get(error.errno or 0) or (error.strerror or "the system does not say why").lower()
