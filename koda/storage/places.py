"""Whether a file or a folder can be written somewhere, found out before the work that is to end there."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from koda.errors import WriteError
from koda.storage.writing import full_disk, is_full

Kind = Literal["file", "folder"]

_ELSEWHERE = "Give a place where you may write."
_REASONS = {
    errno.EACCES: "you may not write in {}",
    errno.EPERM: "you may not write in {}",
    errno.EROFS: "{} is read-only",
    errno.ENAMETOOLONG: "a name in it is longer than the disk allows",
}


def check_place(path: Path, kind: Kind = "folder") -> None:
    """Check by trying that something can be written; nothing stays of the trial.

    Args:
        path: which need not be there, nor the folders above it.
        kind: what it is to be.

    Raises:
        WriteError: something else is there or above it, or the disk refuses it; the message says where.
    """
    path = path.absolute()
    nearest = path
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    if (obstacle := _obstacle(path, nearest, kind)) is not None:
        raise WriteError(f"{path} cannot be written: {obstacle}.", _ELSEWHERE, path)
    missing = [above for above in (path, *path.parents) if above.is_relative_to(nearest) and above != nearest]
    place = nearest if nearest.is_dir() else nearest.parent
    try:
        with contextlib.ExitStack() as made:
            for folder in reversed(missing):
                made.enter_context(_made(folder))
            if not missing:
                made.enter_context(tempfile.TemporaryDirectory(dir=place, prefix=".koda-trial."))
    except OSError as error:
        if is_full(error):
            raise full_disk(path) from error
        reason = _REASONS.get(error.errno or 0, "nothing can be made in {}").format(place)
        raise WriteError(f"{path} cannot be written: {reason}.", _ELSEWHERE, path) from error


def _obstacle(path: Path, nearest: Path, kind: Kind) -> str | None:
    """Return what stands in the way, at the path or above it, in words; None where nothing does."""
    if nearest.is_symlink() and not nearest.exists():
        what = "it" if nearest == path else str(nearest)
        # a file takes the place of a link; a folder is made where the link leads
        return (
            None if what == "it" and kind == "file" else f"{what} is a link to {nearest.readlink()}, which is not there"
        )
    if nearest == path:
        if nearest.is_dir():
            return None if kind == "folder" else "it is a folder"
        if nearest.is_file():
            return None if kind == "file" else "it is a file, not a folder"
        return "it is a device or a pipe"
    return None if nearest.is_dir() else f"{nearest} is no folder"


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder, and remove it again unless somebody put something into it."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()
