"""Which checkpoints there are: what a pattern matches, each with a stamp that changes whenever it does."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from koda.checkpoints.places import Found, fixed_parts, is_unfinished, label_of, natural
from koda.checkpoints.remote import at_remote, find_remote
from koda.config import WatchConfig
from koda.errors import ModelError
from koda.models import is_model_folder
from koda.models.weight_files import files_of, is_index
from koda.storage import digest_json


def find(watch: WatchConfig) -> list[Found]:
    """Return what is there, in the order in which people count: epoch_2 before epoch_10.

    Raises:
        MachineError: a store behind a URL does not answer.
        PrerequisiteError: a protocol whose package is not installed.
    """
    if "://" in watch.path:
        return sorted(find_remote(watch.path), key=lambda found: natural(found.location))
    literal = [watch.path] if os.path.lexists(watch.path) else []
    start = fixed_parts(watch.path)
    paths = {os.path.normpath(path) for path in (*glob.glob(watch.path, recursive=True), *literal)}  # noqa: PTH207
    seen = [look_at(path, watch.path) for path in sorted(paths) if not is_unfinished(path.split("/")[start:])]
    there = _outermost(found for found in seen if found is not None)
    return sorted(there, key=lambda found: natural(found.location))


def at(watch: WatchConfig, location: str) -> Found | None:
    """Return what lies at one location; None where there is nothing."""
    if "://" in location:
        return at_remote(location, watch.path)
    return look_at(os.path.normpath(Path(location).absolute()), watch.path)


def look_at(path: str, pattern: str) -> Found | None:
    """Look at a local path; None where it is gone, cannot be named as text, or is a folder but not that of a model."""
    try:
        path.encode()
        status = os.stat(path)  # noqa: PTH116 (a call a file)
    except (OSError, UnicodeEncodeError):
        return None
    folder = Path(path).is_dir()
    if folder and not is_model_folder(Path(path)):
        return None  # of many models, of no model, or of one that is still being written
    files = _files_below(path) if folder else _with_shards(Path(path))
    stamps = [(os.path.relpath(path, path), status), *_stats(files, path)]
    changed = max(max(at.st_mtime_ns, at.st_ctime_ns) for _, at in stamps) / 1e9
    parts = [[name, at.st_size, at.st_mtime_ns, at.st_ctime_ns, at.st_ino] for name, at in stamps]
    return Found(path, label_of(path, pattern), digest_json(parts), changed, folder)


def _outermost(found: Iterable[Found]) -> Iterator[Found]:
    """Leave out what lies in the folder of a model that is found itself: `runs/**` matches that too."""
    models: list[str] = []
    for each in sorted(found, key=lambda each: each.location.count("/")):
        if any(each.location.startswith(f"{model}/") for model in models):
            continue
        if each.is_folder and is_model_folder(Path(each.location)):
            models.append(each.location)
        yield each


def _files_below(folder: str) -> list[str]:
    return [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]  # noqa: PTH118


def _with_shards(path: Path) -> list[str]:
    """Return the shards that an index of weights names: they are the checkpoint too."""
    if is_index(path):
        with contextlib.suppress(ModelError):
            return [str(file) for file in files_of(path)]
    return []


def _stats(files: Iterable[str], start: str) -> Iterator[tuple[str, os.stat_result]]:
    for file in sorted(files):
        with contextlib.suppress(OSError):  # it went meanwhile, which the next look will see
            yield os.path.relpath(file, start), os.stat(file)  # noqa: PTH116
