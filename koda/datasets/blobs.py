"""Where bytes lie: files, parts of files, and URLs through fsspec; read, listed, and remembered by digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from koda.errors import DataError, PrerequisiteError

_READERS = 4  # files read at once


@dataclass(frozen=True)
class Blob:
    """Bytes that lie in a file or behind a URL, the whole of it or a part.

    Args:
        location: a path, or a URL that fsspec knows.
        offset, length: the part; None is up to the end.
    """

    location: str
    offset: int = 0
    length: int | None = None

    @property
    def name(self) -> str:
        """Name of these bytes among others."""
        return self.location if self.length is None else f"{self.location}#{self.offset}+{self.length}"

    def read(self) -> bytes:
        """Return the bytes.

        Raises:
            OSError: they are not there, or not all of them.
        """
        if is_url(self.location):
            system, path = _filesystem(self.location)
            end = None if self.length is None else self.offset + self.length
            data: bytes = system.cat_file(path, start=self.offset or None, end=end)
        else:
            with Path(self.location).open("rb") as file:
                file.seek(self.offset)
                data = file.read() if self.length is None else file.read(self.length)
        if self.length is not None and len(data) != self.length:
            raise OSError("the file ends early")
        return data

    def stamp(self) -> str | None:
        """Return what changes when the file does, or None where that cannot be known.

        Raises:
            OSError: the file is not there.
        """
        return stamp_of(self.location)


def is_url(location: str) -> bool:
    """Tell whether a location is a URL such as s3://bucket/key."""
    return "://" in location


def join(folder: str, name: str) -> str:
    """Return a name below a folder or URL; an absolute path or URL stays what it is."""
    if is_url(name):
        return name
    if is_url(folder):
        return f"{folder.rstrip('/')}/{name.lstrip('/')}"
    return str(Path(folder) / name)


def parent_of(location: str) -> str:
    """Return the folder that a file lies in."""
    return location.rpartition("/")[0] if is_url(location) else str(Path(location).parent)


def stem_of(location: str) -> str:
    """Return the name of a file without its folder and its suffix."""
    return Path(location.rstrip("/").rpartition("/")[2] if is_url(location) else location).stem


def is_file(location: str) -> bool:
    """Tell whether there is a file."""
    if not is_url(location):
        return Path(location).is_file()
    system, path = _filesystem(location)
    return bool(_told(location, lambda: system.isfile(path)))


def is_folder(location: str) -> bool:
    """Tell whether there is a folder."""
    if not is_url(location):
        return Path(location).is_dir()
    system, path = _filesystem(location)
    return bool(_told(location, lambda: system.isdir(path)))


def list_files(folder: str) -> list[str]:
    """Return the locations of all files below a folder, sorted.

    Raises:
        DataError: the folder cannot be listed.
    """
    if not is_url(folder):
        try:
            return sorted(str(path) for path in Path(folder).rglob("*") if path.is_file())
        except OSError as error:
            raise DataError(f"{folder} cannot be listed: {error.strerror or error}.") from error
    system, path = _filesystem(folder)
    found = _told(folder, lambda: system.find(path))
    return sorted(str(system.unstrip_protocol(name)) for name in found)


def read_location(location: str) -> bytes:
    """Return the bytes of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return Blob(location).read()
    except OSError as error:
        raise DataError(f"{location} cannot be read: {reason_of(error)}.") from error
    except Exception as error:  # the library behind the URL has errors of its own
        if not is_url(location):
            raise
        raise DataError(f"{location} cannot be read: {reason_of(error)}.") from error


def stamp_of(location: str) -> str | None:
    """Return size and time of change of a file, or None where the store behind a URL does not tell.

    Raises:
        OSError: the file is not there.
    """
    if not is_url(location):
        status = Path(location).stat()
        return f"{status.st_size} {status.st_mtime_ns}"
    system, path = _filesystem(location)
    info = system.info(path)
    changed = next((info[key] for key in ("ETag", "etag", "LastModified", "mtime", "updated") if info.get(key)), None)
    return None if changed is None else f"{info.get('size')} {changed}"


def reason_of(error: BaseException) -> str:
    """Return the first line of what an error says."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return (str(error).splitlines() or [type(error).__name__])[0][:200] or type(error).__name__


@dataclass
class ImageDigests:
    """The sha256 of images, remembered by location and by the stamp of the file.

    ``known`` may be loaded from and saved to disk by the caller, so that a second audit of an
    unchanged data set does not read every image again.
    """

    known: dict[str, tuple[str, str]] = field(default_factory=dict)
    changed: bool = False

    def of(self, blobs: Sequence[Blob]) -> Iterator[str | Exception]:
        """Yield the digest of each image, or the error that reading it gave."""
        stamps = _Stamps()
        with ThreadPoolExecutor(_READERS) as pool:
            yield from pool.map(lambda blob: self._one(blob, stamps), blobs)

    def _one(self, blob: Blob, stamps: _Stamps) -> str | Exception:
        try:
            stamp = stamps.of(blob)
            remembered = self.known.get(blob.name)
            if stamp is not None and remembered is not None and remembered[0] == stamp:
                return remembered[1]
            data = blob.read()
            if not data:
                return OSError("the file is empty")
            digest = hashlib.sha256(data).hexdigest()
        except Exception as error:  # a store behind a URL has errors of its own; each is a rejection
            return error
        if stamp is not None:
            self.known[blob.name] = (stamp, digest)
            self.changed = True
        return digest


class _Stamps:
    """Stamps of files that hold several images, asked for once."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}

    def of(self, blob: Blob) -> str | None:
        if blob.length is None:
            return blob.stamp()
        if blob.location not in self._known:
            self._known[blob.location] = blob.stamp()
        return self._known[blob.location]


def _filesystem(url: str) -> tuple[Any, str]:
    """Return the file system behind a URL, and the path in it.

    Raises:
        DataError: a protocol that fsspec does not know, or a store that refuses.
        PrerequisiteError: a protocol whose package is not installed.
    """
    protocol = url.partition("://")[0]
    system = _open_filesystem(protocol)
    return system, system._strip_protocol(url)


@cache
def _open_filesystem(protocol: str) -> Any:
    import fsspec

    try:
        return fsspec.filesystem(protocol)
    except ImportError as error:
        raise PrerequisiteError(
            f"{protocol}:// needs a package that is not installed: {reason_of(error)}.",
            {"s3": "pip install s3fs", "gs": "pip install gcsfs", "gcs": "pip install gcsfs"}.get(
                protocol, f"Install the fsspec implementation of {protocol}."
            ),
        ) from error
    except ValueError as error:
        raise DataError(f"{protocol}:// is not a protocol that fsspec knows.", "Use a path, s3:// or gs://.") from error
    except Exception as error:
        raise DataError(f"{protocol}:// cannot be reached: {reason_of(error)}.", "Check the credentials.") from error


def _told(location: str, ask: Any) -> Any:
    try:
        return ask()
    except Exception as error:
        raise DataError(f"{location} cannot be reached: {reason_of(error)}.", "Check the URL.") from error
