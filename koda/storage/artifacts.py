"""The artifact store: content-addressed folders, each written whole or not at all.

An artifact is a folder `artifacts/<kind>/<key>/`, where the key is a digest of everything that
decides its content. Files are written to a temporary name, flushed and renamed; the sidecar
`complete.json` comes last and is the commit mark. A folder without it is unfinished work that
the next run takes up again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from koda.errors import StoreError
from koda.storage.digests import digest_file, digest_json

MARK = "complete.json"
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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

    Raises:
        StoreError: the disk is full, read-only or forbidden.
    """
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


@dataclass(frozen=True)
class ArtifactStore:
    """Artifacts below one folder, by kind and key."""

    root: Path

    def folder(self, kind: str, key: str) -> Path:
        """Return where an artifact lies, or is to lie."""
        return self.root / kind / key

    def has(self, kind: str, key: str) -> bool:
        """Tell whether an artifact is complete: its mark is there, and every file it lists, at its size."""
        return self.info(kind, key) is not None

    def info(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return what was noted when the artifact was completed, or None if it is not complete."""
        folder = self.folder(kind, key)
        try:
            mark = json.loads((folder / MARK).read_bytes())
            sizes = {name: (folder / name).stat().st_size for name in mark["files"]}
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if any(sizes[name] != entry["size"] for name, entry in mark["files"].items()):
            return None
        info: dict[str, Any] = mark["info"]
        return info

    def digest(self, kind: str, key: str) -> str:
        """Return the digest of a complete artifact's content."""
        mark = json.loads((self.folder(kind, key) / MARK).read_bytes())
        return str(mark["digest"])

    def complete(self, kind: str, key: str, info: dict[str, Any] | None = None) -> str:
        """Set the commit mark over the files of an artifact, and return the digest of their content."""
        folder = self.folder(kind, key)
        files = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != MARK and not path.name.startswith("."):
                name = path.relative_to(folder).as_posix()
                files[name] = {"size": path.stat().st_size, "sha256": digest_file(path)}
        digest = digest_json({name: entry["sha256"] for name, entry in files.items()})
        mark = {"digest": digest, "files": files, "info": info or {}}
        write_atomically(folder / MARK, json.dumps(mark, indent=1, sort_keys=True).encode())
        return digest

    def discard(self, kind: str, key: str) -> None:
        """Remove an artifact, the mark first so that it is never taken for whole."""
        folder = self.folder(kind, key)
        (folder / MARK).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def lock(self, kind: str, key: str) -> Iterator[None]:
        """Hold the kernel's lock on one key; it is released even when the holder is killed."""
        path = self.root / "locks" / f"{kind}-{key}.lock"
        with explain_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()
