"""Where bytes lie: files, parts of files, and URLs through fsspec; read and listed."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, cast

from koda.errors import DataError, PrerequisiteError
from koda.secrets import conceal, redact, reveal

_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp", "az": "adlfs"}
READS_AT_ONCE = 4  # threads that read files of one data set


@dataclass(frozen=True, slots=True)
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
            with _without_credentials():
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
        return conceal(name)
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
    """Tell whether there is a file.

    Raises:
        DataError: that cannot be known.
    """
    return _is(location, Path.is_file, "isfile")


def is_folder(location: str) -> bool:
    """Tell whether there is a folder.

    Raises:
        DataError: that cannot be known.
    """
    return _is(location, Path.is_dir, "isdir")


def list_folder(folder: str) -> list[str]:
    """Return the names of what lies in a folder, sorted.

    Raises:
        DataError: the folder cannot be listed.
    """
    if not is_url(folder):
        try:
            return sorted(os.listdir(folder))  # noqa: PTH208 (names, a string each: a folder may hold millions)
        except OSError as error:
            raise DataError(f"{folder} cannot be listed: {reason_of(error)}.") from error
    system, path = _filesystem(folder)
    listing = _asked(folder, lambda: system.ls(path, detail=False))
    return sorted(str(name).rstrip("/").rpartition("/")[2] for name in listing)


def list_files(folder: str) -> list[str]:
    """Return the names, relative to a folder, of all files at any depth below it, sorted.

    Links to folders are followed, each folder once. A link that leads nowhere is listed too: reading it then says
    what is wrong.

    Raises:
        DataError: the folder, or one below it, cannot be listed.
    """
    if not is_url(folder):
        return sorted(_walk(folder))
    system, path = _filesystem(folder)
    prefix = path.rstrip("/") + "/"
    listing = _asked(folder, lambda: system.find(path))
    return sorted(str(name).removeprefix(prefix) for name in listing)


def _walk(folder: str) -> Iterator[str]:
    """Yield the files below a local folder, without following a loop of links."""
    waiting, seen = [""], set()
    while waiting:
        below = waiting.pop()
        place = os.path.join(folder, below)  # noqa: PTH118 (as above)
        try:
            status = os.stat(place)  # noqa: PTH116
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(place) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    name = below + entry.name
                    try:
                        if entry.is_dir():
                            waiting.append(name + "/")
                        elif entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists()):
                            yield name
                    except OSError:  # a link to itself
                        yield name
        except OSError as error:
            raise DataError(f"{place} cannot be listed: {reason_of(error)}.") from error


def open_file(location: str) -> BinaryIO:
    """Open a file to read at any place in it.

    Raises:
        OSError: it cannot be opened; a store behind a URL may raise errors of its own.
    """
    if not is_url(location):
        return Path(location).open("rb")
    system, path = _filesystem(location)
    with _without_credentials():
        return cast(BinaryIO, system.open(path, "rb"))


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
    with _without_credentials():
        info = system.info(path)
    changed = next((info[key] for key in ("ETag", "etag", "LastModified", "mtime", "updated") if info.get(key)), None)
    return None if changed is None else f"{info.get('size')} {changed}"


def reason_of(error: BaseException) -> str:
    """Return the first line of what an error says, without credentials."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return redact((str(error).splitlines() or [type(error).__name__])[0])[:200] or type(error).__name__


@contextlib.contextmanager
def _without_credentials() -> Iterator[None]:
    """Let an error name a URL only without its credentials: the libraries behind URLs put the whole of it in theirs.

    Raises:
        OSError: in place of any error whose words hold credentials.
    """
    try:
        yield
    except Exception as error:
        words = str(error)
        if (plain := redact(words)) == words:
            raise
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else OSError
        raise kind(plain) from None


def _filesystem(url: str) -> tuple[Any, str]:
    """Return the file system behind a URL, and the path in it.

    Raises:
        DataError: a protocol that fsspec does not know, or a store that refuses.
        PrerequisiteError: a protocol whose package is not installed.
    """
    protocol = url.partition("://")[0]
    system = _open_filesystem(protocol)
    return system, system._strip_protocol(reveal(url))


@cache
def _open_filesystem(protocol: str) -> Any:
    import fsspec

    try:
        return fsspec.filesystem(protocol)
    except ImportError as error:
        raise PrerequisiteError(
            f"{protocol}:// needs a package that is not installed: {reason_of(error)}.",
            f"pip install {package}"
            if (package := _PACKAGES.get(protocol))
            else f"Install what fsspec needs for {protocol}.",
        ) from error
    except ValueError as error:
        raise DataError(f"{protocol}:// is not a protocol that fsspec knows.", "Use a path, s3:// or gs://.") from error
    except Exception as error:
        raise DataError(f"{protocol}:// cannot be reached: {reason_of(error)}.", "Check the credentials.") from error


def _is(location: str, local: Callable[[Path], bool], remote: str) -> bool:
    """Ask whether a location is a file or a folder."""
    if is_url(location):
        system, path = _filesystem(location)
        return bool(_asked(location, lambda: getattr(system, remote)(path)))
    try:
        return local(Path(location))
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise DataError(f"{location} cannot be reached: {reason_of(error)}.") from error


def _asked(location: str, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Exception as error:
        raise DataError(f"{location} cannot be reached: {reason_of(error)}.", "Check the URL.") from error
