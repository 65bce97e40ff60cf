"""The artifact store: content-addressed folders, each written whole or not at all.

An artifact is a folder `artifacts/<kind>/<key>/`, where the key is a digest of everything that
decides its content. Files are written to a temporary name, flushed and renamed; the sidecar
`complete.json` comes last and is the commit mark. A folder without it is unfinished work that
the next run takes up again.

What is read is checked against the digests in the sidecar. An artifact that is made anew is put
aside first, under `replaced/`, where those who are about to read it find it until the new one is
complete.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from koda.errors import StoreError
from koda.storage.digests import digest_once
from koda.storage.marks import MARK, Mark
from koda.storage.writing import explain_os_errors, is_locked, make_folder, write_atomically

T = TypeVar("T")

_TRIES = 20  # to read an artifact that others are replacing
_LOOKS = 4  # for one that is in neither place: it is between two only for an instant
_REMEDY = "Run the same command again: what is damaged is made anew."


@dataclass(frozen=True)
class ArtifactStore:
    """Artifacts below one folder, by kind and key."""

    root: Path

    def folder(self, kind: str, key: str) -> Path:
        """Return where an artifact lies, or is to lie."""
        return self.root / kind / key

    def has(self, kind: str, key: str) -> bool:
        """Tell whether an artifact is complete: its mark is there, and every file it lists, byte for byte."""
        return _whole(self.folder(kind, key)) is not None

    def damage(self, kind: str, key: str) -> str | None:
        """Return what is damaged of an artifact that was complete once; None where nothing is, or none was."""
        folder = self.folder(kind, key)
        try:
            return Mark.read(folder).fault(folder)
        except OSError:
            return None
        except ValueError as error:
            return f"{folder / MARK} is damaged: {error}"

    def info(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return what was noted when the artifact was completed, or None if it is not complete."""
        found = self._readable(kind, key)
        return None if found is None else found[1].info

    def digest(self, kind: str, key: str) -> str:
        """Return the digest of a complete artifact's content.

        Raises:
            StoreError: it is not there, or damaged.
        """
        return self.read(kind, key, Mark.read).digest

    def read(self, kind: str, key: str, load: Callable[[Path], T]) -> T:
        """Load a complete artifact whose files are those that were written.

        Args:
            kind, key: of the artifact.
            load: reads its folder to the end, and keeps no file open. Where another process replaces the artifact
                meanwhile it is called again.

        Raises:
            StoreError: it is not there, or damaged.
        """
        looks = 0
        for _ in range(_TRIES):
            found = self._readable(kind, key)
            if found is None:
                if (looks := looks + 1) == _LOOKS:
                    break
                time.sleep(0.02)
                continue
            folder, _, identity = found
            try:
                loaded = load(folder)
            except Exception:
                if _identity(folder) == identity:
                    raise
            else:
                if _identity(folder) == identity:
                    return loaded
        if (damage := self.damage(kind, key)) is not None:
            raise StoreError(f"{damage}.", _REMEDY)
        raise StoreError(
            f"{self.folder(kind, key)} is not there or not complete.",
            "It was removed while it was needed; run the same command again.",
        )

    def complete(self, kind: str, key: str, info: dict[str, Any] | None = None) -> str:
        """Set the commit mark over the files of an artifact, and return the digest of their content."""
        folder = self.folder(kind, key)
        for leftover in folder.rglob(".*.tmp"):  # of a process that was killed; the lock is ours
            leftover.unlink(missing_ok=True)
        mark = Mark.of(folder, info or {})
        write_atomically(folder / MARK, mark.to_json())
        _remove(self._replaced(kind, key))
        return mark.digest

    def discard(self, kind: str, key: str) -> None:
        """Remove an artifact, the mark first so that it is never taken for whole."""
        _remove(self.folder(kind, key))

    def discard_damaged(self, kind: str, key: str) -> None:
        """Of an artifact that was complete once remove the mark and every file that is not as it was written."""
        folder = self.folder(kind, key)
        try:
            mark = Mark.read(folder)
        except OSError:
            return
        except ValueError:
            self.discard(kind, key)  # nothing says any more what its files were
            return
        (folder / MARK).unlink(missing_ok=True)
        for name, entry in mark.files.items():
            with contextlib.suppress(FileNotFoundError):
                if digest_once(folder / name) != entry.sha256:
                    (folder / name).unlink()

    def retire(self, kind: str, key: str) -> None:
        """Put an artifact aside to be made anew; who reads it goes on with it until the new one is complete."""
        if not self.has(kind, key):
            self.discard(kind, key)
            return
        old = self._replaced(kind, key)
        with explain_os_errors(old):
            _remove(old)
            old.parent.mkdir(parents=True, exist_ok=True)
            self.folder(kind, key).rename(old)

    @contextlib.contextmanager
    def lock(self, kind: str, key: str) -> Iterator[None]:
        """Hold the kernel's lock on one key; it is released even when the holder is killed."""
        lock = self._lock(kind, key)
        with explain_os_errors(Path(lock.lock_file)):
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def lock_if_free(self, kind: str, key: str) -> Iterator[bool]:
        """Hold the lock on one key if nobody has it; tell whether it is held."""
        lock = self._lock(kind, key)
        try:
            with explain_os_errors(Path(lock.lock_file)):
                lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def named_in(self, value: Any) -> list[tuple[str, str]]:
        """Return kind and key of the artifacts whose folders, or what lies in them, plain data name.

        Args:
            value: such as a configuration, of which a model may be `embeddings:` or `local-dir:` and a path.
        """
        if isinstance(value, Mapping):
            return [key for inner in value.values() for key in self.named_in(inner)]
        if isinstance(value, list | tuple):
            return [key for inner in value for key in self.named_in(inner)]
        if not isinstance(value, str):
            return []
        found = []
        for root in dict.fromkeys((self.root.absolute(), self.root.resolve())):
            kind, _, rest = value.partition(f"{root}{os.sep}")[2].partition(os.sep)
            if key := rest.partition(os.sep)[0]:
                found.append((kind, key))
        return found

    def is_held(self, kind: str, key: str) -> bool:
        """Tell whether somebody holds the lock on one key; nothing is written, so that it can be asked anywhere."""
        return is_locked(self._lock_file(kind, key))

    def forget_lock(self, kind: str, key: str) -> None:
        """Remove the file of a lock that nobody will ask for again."""
        self._lock_file(kind, key).unlink(missing_ok=True)

    def _lock_file(self, kind: str, key: str) -> Path:
        return self.root / "locks" / f"{kind}-{key}.lock"

    def _lock(self, kind: str, key: str) -> FileLock:
        path = self._lock_file(kind, key)
        with explain_os_errors(path):
            make_folder(path.parent)
        return FileLock(path)

    def _replaced(self, kind: str, key: str) -> Path:
        return self.root / "replaced" / f"{kind}-{key}"

    def _readable(self, kind: str, key: str) -> tuple[Path, Mark, tuple[int, int]] | None:
        """Return the complete artifact, or the one that is being replaced, with its mark and its identity."""
        for folder in (self.folder(kind, key), self._replaced(kind, key)):
            identity = _identity(folder)
            if identity is not None and (mark := _whole(folder)) is not None:
                return folder, mark, identity
        return None


def _remove(folder: Path) -> None:
    """Remove an artifact, the mark first: whoever reads it sees by the mark that it went."""
    (folder / MARK).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _whole(folder: Path) -> Mark | None:
    """Return the mark of a folder that is complete and undamaged, else None."""
    try:
        mark = Mark.read(folder)
    except (OSError, ValueError):
        return None
    return mark if mark.fault(folder) is None else None


def _identity(folder: Path) -> tuple[int, int] | None:
    """Tell one artifact in a place from the next: by the file that is its mark."""
    try:
        at = (folder / MARK).stat()
    except OSError:
        return None
    return at.st_ino, at.st_mtime_ns
