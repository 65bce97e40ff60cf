"""Small files that somebody names on a command line: read whole, or refused in words."""

from __future__ import annotations

from pathlib import Path

from koda.errors import reason_of

_MOST_BYTES = 1 << 20


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
        raise UnreadableError(reason_of(error)) from error
    except ValueError as error:  # a NUL in the name
        raise UnreadableError("it has no name of a file") from error
    if not data:
        raise UnreadableError("it is empty")
    if len(data) > _MOST_BYTES:
        raise UnreadableError("it is larger than a mebibyte, which none of its kind is")
    return data
