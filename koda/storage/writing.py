"""Writing files: each whole or not at all, and what a disk refuses is said in words."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from koda.errors import StoreError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_UNFINISHED = re.compile(r"\.[0-9a-f]{16}\.tmp")


@contextlib.contextmanager
def explain_os_errors(path: Path) -> Iterator[None]:
    """Turn failures to write below `path` into a :class:`StoreError` that says what to do."""
    try:
        yield
    except OSError as error:
        if (explained := explain_os_error(error, path)) is None:
            raise
        raise explained from error


def explain_os_error(error: OSError, path: Path) -> StoreError | None:
    """Return a StoreError for a full, read-only or forbidden disk; None for any other failure."""
    if error.errno in _NO_SPACE:
        return full_disk(Path(error.filename or path))
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}:
        return StoreError(
            f"{error.filename or path} cannot be written: {error.strerror}.", "Set KODA_HOME to a folder of your own."
        )
    return None


def full_disk(path: Path) -> StoreError:
    """Return the error that says that there is no room to write a path."""
    free = shutil.disk_usage(nearest_existing(path)).free
    return StoreError(
        f"The disk is full: writing {path} failed ({free / 2**20:.0f} MiB are free there).",
        "Free some space or set KODA_HOME to a larger disk, and run the same command again: it finishes what is "
        "missing.",
    )


def nearest_existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the whole of it or nothing, whatever happens to this process.

    Who may read it is what the umask leaves.

    Raises:
        StoreError: the disk is full, read-only or forbidden.
    """
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, handle = _open_unfinished(path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _open_unfinished(folder: Path) -> tuple[Path, int]:
    """Make a file that is to be renamed; the kernel's lock on it says that its writer lives."""
    while True:
        temporary = folder / f".{secrets.token_hex(8)}.tmp"
        # the modules for temporary files make private ones, and the umask can only be asked by setting it
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with contextlib.suppress(OSError):  # where a file system has no locks, nobody removes files by them
            fcntl.flock(handle, fcntl.LOCK_EX)
        if temporary.exists():
            return temporary, handle
        os.close(handle)  # it was removed in the instant before it was locked


def is_locked(path: Path) -> bool:
    """Tell whether somebody holds the lock on a file; nothing is written, so that it can be asked anywhere."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False  # nobody can hold what is not there
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def remove_unfinished(home: Path) -> None:
    """Remove the files that killed processes were writing in a KODA_HOME, outside its artifacts.

    Those of an artifact are removed by whoever completes it, those of an audit's folder with the folder.
    """
    for pattern in (".*.tmp", "[!.]*/.*.tmp", "notifications/*/.*.tmp"):
        for path in home.glob(pattern):
            if not _UNFINISHED.fullmatch(path.name):
                continue
            with contextlib.suppress(OSError):  # it was renamed just now, or its writer lives
                handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                finally:
                    os.close(handle)


def new_folder(parent: Path, prefix: str) -> Path:
    """Make a folder of a name that nobody has, for whom the umask leaves it to.

    Raises:
        OSError: it cannot be made.
    """
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f"{prefix}{secrets.token_hex(6)}"
    folder.mkdir()
    return folder
