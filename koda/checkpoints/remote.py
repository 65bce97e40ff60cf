"""Checkpoints in stores behind URLs: listed where they lie, and fetched whole before they are opened."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from koda.checkpoints.places import Found, fixed_parts, is_unfinished
from koda.datasets.blobs import reason_of, shown
from koda.errors import ConfigError, KodaError, MachineError, PrerequisiteError
from koda.models import FOLDER_CONFIGS
from koda.secrets import conceal, reveal
from koda.storage import ArtifactStore, digest_json
from koda.storage.checkpoints import CHECKPOINTS
from koda.storage.writing import explain_os_errors, new_folder

FETCHED = "fetched"
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")
_MARKS = ("ETag", "etag", "md5Hash", "generation")
_SECONDS_KEPT = 24 * 3600  # of a copy that a killed process left


def find_remote(pattern: str) -> list[Found]:
    """Return what a URL with a pattern matches.

    Raises:
        ConfigError: a protocol that there is not.
        MachineError: the store does not answer.
        PrerequisiteError: a protocol whose package is not installed.
    """
    with _reaching(pattern):
        system, path = _filesystem(pattern)
        system.invalidate_cache()
        matches = system.glob(path, detail=True).items()
        found = [_found(system, str(name), info, pattern) for name, info in matches]
    return [each for each in found if each is not None and not is_unfinished(each.label.split("/"))]


def at_remote(url: str, pattern: str) -> Found | None:
    """Return what lies at a URL, under the name that a pattern gives it; None where there is nothing.

    Raises:
        ConfigError, MachineError, PrerequisiteError: as for :func:`find_remote`.
    """
    with _reaching(url):
        system, path = _filesystem(url)
        system.invalidate_cache()
        try:
            info = system.info(path)
        except FileNotFoundError:
            return None
        return _found(system, path, info, pattern)


def _found(system: Any, name: str, info: Mapping[str, Any], pattern: str) -> Found | None:
    """Return what lies there; None where it is a folder but not that of a model."""
    folder = info.get("type") == "directory"
    files: dict[str, Any] = system.find(name, detail=True) if folder else {name: info}
    if folder and not {f"{name.strip('/')}/{each}" for each in FOLDER_CONFIGS} & {at.lstrip("/") for at in files}:
        return None
    marks = [[at.lstrip("/"), each.get("size"), _mark_of(each)] for at, each in files.items()]
    times = [when for each in files.values() if (when := _time_of(each)) is not None]
    parts = name.rstrip("/").split("/")
    label = "/".join(parts[min(fixed_parts(system._strip_protocol(pattern)), len(parts) - 1) :])
    url = conceal(system.unstrip_protocol(name), remember=False)
    return Found(url, label, digest_json(sorted(marks)), max(times, default=None), folder)


def copy_of(home: Path, found: Found) -> Path:
    """Return where the copy of a checkpoint lies, or is to lie."""
    folder = home / CHECKPOINTS / FETCHED / digest_json([found.location, found.stamp])[:32]
    return folder / shown(found.location).rstrip("/").rpartition("/")[2]


def fetch(home: Path, found: Found) -> Path:
    """Fetch a checkpoint, unless its copy is there, and return the path of the copy.

    Raises:
        MachineError: the store does not answer, or it changed meanwhile.
        StoreError: the disk is full.
    """
    copy = copy_of(home, found)
    with ArtifactStore(home / "artifacts").lock(FETCHED, copy.parent.name), explain_os_errors(copy):
        if copy.exists():
            return copy
        temporary = new_folder(copy.parent.parent, ".new-")
        try:
            with _reaching(found.location):
                system, path = _filesystem(found.location)
                system.get(path, str(temporary / copy.name), recursive=found.is_folder)
            now = at_remote(found.location, found.location)
            if now is None or now.stamp != found.stamp:
                raise MachineError(f"{shown(found.location)} changed while it was fetched.", "The next look takes it.")
            temporary.rename(copy.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return copy


def forget(home: Path, found: Found) -> None:
    """Remove the copy of a checkpoint that is dealt with, and copies that killed processes left long ago."""
    shutil.rmtree(copy_of(home, found).parent, ignore_errors=True)
    for left in (home / CHECKPOINTS / FETCHED).glob("*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _SECONDS_KEPT:
                with ArtifactStore(home / "artifacts").lock_if_free(FETCHED, left.name) as free:
                    if free:
                        shutil.rmtree(left, ignore_errors=True)


def _filesystem(url: str) -> tuple[Any, str]:
    import fsspec

    protocol = url.partition("://")[0]
    try:
        system = fsspec.filesystem(protocol)
    except ImportError as error:
        raise PrerequisiteError(
            f"{protocol}:// needs a package that is not installed: {reason_of(error)}.",
            f"Install what fsspec needs for {protocol}.",
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"watch.path: {protocol}:// is not a protocol that fsspec knows.", "Use a path, s3:// or gs://."
        ) from error
    return system, str(system._strip_protocol(reveal(url)))


@contextlib.contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Say of whatever goes wrong that a store cannot be reached; whoever watches it asks again."""
    try:
        yield
    except KodaError:
        raise
    except Exception as error:
        raise MachineError(
            f"{shown(url)} could not be reached: {reason_of(error)}.", "Look at the network and the credentials."
        ) from error


def _mark_of(info: Mapping[str, Any]) -> str | None:
    """Return what changes with the content, or else the time; a store writes that in one way or another."""
    mark = next((info[name] for name in _MARKS if info.get(name)), None)
    if mark is not None:
        return str(mark).strip('"')
    when = _time_of(info)
    return None if when is None else f"{when:.3f}"


def _time_of(info: Mapping[str, Any]) -> float | None:
    for name in _TIMES:
        value = info.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return None
