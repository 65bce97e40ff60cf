"""Where bytes lie: files, parts of files, and URLs through fsspec; read and listed."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, cast

from koda.errors import DataError, PrerequisiteError
from koda.secrets import conceal, redact, reveal

_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp", "az": "adlfs"}
_WITH_QUERIES = ("http", "https")  # protocols whose URLs end in ?name=value; elsewhere a ? is part of a name
_SPECIAL = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
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

    @property
    def shown(self) -> str:
        """The location for people: of a URL neither its credentials nor its query."""
        return shown(self.location)

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
            with open_file(self.location) as file:
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


def shown(location: str) -> str:
    """Return a location for people: of a URL neither its credentials nor its query.

    >>> shown("https://me:secret@host/a.png?sig=x")
    'https://host/a.png'
    """
    if not is_url(location):
        return location
    protocol, _, rest = without_query(location).partition("://")
    host, slash, path = rest.partition("/")
    return f"{protocol}://{host.rpartition('@')[2]}{slash}{path}"


def join(folder: str, name: str) -> str:
    """Return a name below a folder or URL; an absolute path or URL stays what it is."""
    if is_url(name):
        return conceal(name)
    if is_url(folder):
        return f"{folder.rstrip('/')}/{name.lstrip('/')}"
    return str(Path(folder) / name)


def parent_of(location: str) -> str:
    """Return the folder that a file lies in."""
    return without_query(location).rpartition("/")[0] if is_url(location) else str(Path(location).parent)


def stem_of(location: str) -> str:
    """Return the name of a file without its folder and its suffix."""
    return Path(_name_of(location)).stem


def suffix_of(location: str) -> str:
    """Return the suffix of a file's name in small letters; the query of a URL is no part of it.

    >>> suffix_of("https://host/a/pairs.TSV?signature=x/y.z")
    '.tsv'
    """
    return Path(_name_of(location)).suffix.lower()


def without_query(url: str) -> str:
    """Return a URL without what follows its path, where its protocol has such."""
    if url.partition("://")[0] in _WITH_QUERIES:
        return url.partition("?")[0].partition("#")[0]
    return url


def _name_of(location: str) -> str:
    if not is_url(location):
        return Path(location).name
    return without_query(location).rstrip("/").rpartition("/")[2]


def why_no_file(location: str) -> str:
    """Return why there is no file at a location, for a message that begins with its name."""
    if is_url(location) or not os.path.lexists(location):
        return "does not exist"
    try:
        _check_regular(os.stat(location))  # noqa: PTH116 (as above)
    except FileNotFoundError:
        return f"is a link to {os.readlink(location)}, which does not exist"  # noqa: PTH115 (as above)
    except OSError as error:
        return f"cannot be used: {reason_of(error)}"
    return "does not exist"


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
            raise DataError(f"{shown(folder)} cannot be listed: {reason_of(error)}.") from error
    system, path = _filesystem(folder)
    listing = _asked(folder, lambda: system.ls(path, detail=False))
    return sorted(str(name).rstrip("/").rpartition("/")[2] for name in listing)


def list_entries(folder: str) -> tuple[list[str], list[str]]:
    """Return the names of the files in a folder and those of the folders in it, each sorted; none is looked into.

    Raises:
        DataError: the folder cannot be listed.
    """
    if not is_url(folder):
        try:
            with os.scandir(folder) as entries:
                found = [(entry.name, entry.is_dir()) for entry in entries]
        except OSError as error:
            raise DataError(f"{shown(folder)} cannot be listed: {reason_of(error)}.") from error
    else:
        system, path = _filesystem(folder)
        listing = _asked(folder, lambda: system.ls(path, detail=True))
        places = [(str(entry["name"]).rstrip("/"), entry["type"] == "directory") for entry in listing]
        # some stores list the folder itself among what lies in it
        own = path.strip("/")
        found = [(place.rpartition("/")[2], below) for place, below in places if place.strip("/") != own]
    return sorted(name for name, below in found if not below), sorted(name for name, below in found if below)


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
        OSError: it cannot be opened, or is a pipe, a device or the like, from which reading might never end; a store
            behind a URL may raise errors of its own.
    """
    if is_url(location):
        system, path = _filesystem(location)
        with _without_credentials():
            return cast(BinaryIO, system.open(path, "rb"))
    # opening a pipe waits for its other end unless it is told not to; a regular file takes no notice
    descriptor = os.open(location, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    try:
        _check_regular(os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check_regular(status: os.stat_result) -> None:
    """Refuse what is no file of bytes with an end.

    Raises:
        OSError: it is a folder, a pipe, a device or a socket.
    """
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for test, name in _SPECIAL if test(status.st_mode)), "something else")
        raise OSError(f"it is {kind}, not a file")


def read_location(location: str) -> bytes:
    """Return the bytes of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return Blob(location).read()
    except OSError as error:
        raise DataError(f"{shown(location)} cannot be read: {reason_of(error)}.") from error
    except Exception as error:  # the library behind the URL has errors of its own
        if not is_url(location):
            raise
        raise DataError(f"{shown(location)} cannot be read: {reason_of(error)}.") from error


def stamp_of(location: str) -> str | None:
    """Return what changes when a file does: size, times and inode; None where the store behind a URL does not tell.

    A program that copies a file with its size and time of change leaves neither its inode nor the inode's own time.

    Raises:
        OSError: the file is not there, or is none.
    """
    if not is_url(location):
        status = os.stat(location)  # noqa: PTH116 (a call a sample)
        _check_regular(status)
        return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
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
    # a signature holds for the URL as it was written: what is escaped in it must not be escaped anew
    system = _open_filesystem(protocol, protocol in _WITH_QUERIES and "%" in reveal(url))
    return system, system._strip_protocol(reveal(url))


@cache
def _open_filesystem(protocol: str, is_escaped: bool) -> Any:
    import fsspec

    try:
        return fsspec.filesystem(protocol, **({"encoded": True} if is_escaped else {}))
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
        raise DataError(f"{shown(location)} cannot be reached: {reason_of(error)}.") from error


def _asked(location: str, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Exception as error:
        raise DataError(f"{shown(location)} cannot be reached: {reason_of(error)}.", "Check the URL.") from error
