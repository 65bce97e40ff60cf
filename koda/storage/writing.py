"""Writing files: each whole or not at all, and what a disk refuses is said in words."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from koda.errors import WriteError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_UNFINISHED = re.compile(r"\.((?P<machine>[0-9a-f]{8})-)?[0-9a-f]{16}\.tmp")  # an older koda named no machine
_DEEPER = ("calibrations", "notifications", "sweeps")  # with folders of their own, in which files are written
_A_DAY = 86400  # seconds


@contextlib.contextmanager
def explain_os_errors(path: Path) -> Iterator[None]:
    """Turn failures to write below `path` into a :class:`WriteError` that says what to do."""
    try:
        yield
    except OSError as error:
        if (explained := explain_os_error(error, path)) is None:
            raise
        raise explained from error


def explain_os_error(error: OSError, path: Path) -> WriteError | None:
    """Return a WriteError for a full, read-only or forbidden disk; None for any other failure."""
    told = error.filename2 or error.filename  # of a renaming, what it was to become
    named = Path(os.fsdecode(told)) if isinstance(told, str | bytes) else path
    if is_unfinished(named):  # a name that nobody chose
        named = named.parent
    if is_full(error):
        return full_disk(named)
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY}:
        return WriteError(
            f"{named} cannot be written: {error.strerror}.", "Set KODA_HOME to a folder of your own.", named
        )
    return None


def is_full(error: OSError) -> bool:
    """Tell whether a failure is for want of room."""
    return error.errno in _NO_SPACE


def full_disk(path: Path) -> WriteError:
    """Return the error that says that there is no room to write a path."""
    free = shutil.disk_usage(nearest_existing(path)).free
    return WriteError(
        f"The disk is full: writing {path} failed ({free / 2**20:.0f} MiB are free there).",
        "Free some space or set KODA_HOME to a larger disk, and run the same command again: it finishes what is "
        "missing.",
        path,
        is_full=True,
    )


def nearest_existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists."""
    path = path.absolute()
    while not os.path.exists(path) and path != path.parent:  # noqa: PTH110 - which takes a name that is too long
        path = path.parent
    return path


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the whole of it or nothing, whatever happens to this process.

    Who may read it is what the umask leaves.

    Raises:
        StoreError: the disk is full, read-only or forbidden.
    """
    with explain_os_errors(path):
        make_folder(path.parent)
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


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are not there.

    Raises:
        OSError: it cannot be made.
        WriteError: it is on a file system that takes no folders.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:  # of a file system that takes no folders, such as /proc
        raise WriteError(f"{folder} cannot be made.", "Set KODA_HOME to a folder of your own.", folder) from error


def _open_unfinished(folder: Path) -> tuple[Path, int]:
    """Make a file that is to be renamed, and hold the kernel's lock on it, which says that its writer lives."""
    while True:
        temporary = folder / f".{_this_machine()}-{secrets.token_hex(8)}.tmp"
        # the modules for temporary files make private ones, and the umask can only be asked by setting it
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            if _locked_by_us(handle) and os.fstat(handle).st_nlink:
                return temporary, handle
        except BaseException:
            temporary.unlink(missing_ok=True)
            os.close(handle)
            raise
        os.close(handle)  # it was removed, or is about to be, in the instant before it was locked


def _locked_by_us(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks, where nobody gets one to remove files by
        return True
    return True


@functools.cache
def _this_machine() -> str:
    """Return eight digits that no other machine has: a lock may say nothing of the writers of another one."""
    try:
        name = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        name = socket.gethostname()
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def is_unfinished(path: Path) -> bool:
    """Tell by its name whether a file was to be renamed when it is whole."""
    return _UNFINISHED.fullmatch(path.name) is not None


def is_locked(path: Path) -> bool:
    """Tell whether somebody holds the lock on a file, or may hold it; nothing is written."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False  # nobody can hold what is not there
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def remove_unfinished(home: Path) -> None:
    """Remove the files that killed processes were writing in a KODA_HOME, outside its artifacts.

    Those of this machine are removed when the lock on them is free, those of others a day later. Those of an artifact
    are removed by whoever completes it, those of an audit's folder with the folder. What cannot be removed stays.
    """
    with contextlib.suppress(OSError):  # folders come and go
        for pattern in (".*.tmp", "[!.]*/.*.tmp", *(f"{folder}/*/.*.tmp" for folder in _DEEPER)):
            for path in home.glob(pattern):
                with contextlib.suppress(OSError):  # it was renamed just now, or its writer lives
                    _remove_if_left(path)


def _remove_if_left(path: Path) -> None:
    """Remove an unfinished file of this machine that nobody is writing, or one that nobody wrote to for a day.

    Raises:
        OSError: it is being written, gone, or not ours to remove.
    """
    if (found := _UNFINISHED.fullmatch(path.name)) is None:
        return
    if found["machine"] != _this_machine() and time.time() - path.stat().st_mtime < _A_DAY:
        return
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
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
    make_folder(parent)
    folder = parent / f"{prefix}{secrets.token_hex(6)}"
    folder.mkdir()
    return folder
