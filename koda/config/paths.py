"""Relative paths of a configuration, which are relative to its file, made absolute."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from koda.config.data import DataConfig
from koda.config.models import ModelSpec, model_name
from koda.config.report import ReportConfig
from koda.errors import ConfigError, reason_of


def absolute_model(spec: ModelSpec, folder: Path) -> ModelSpec:
    """Make the paths of a model, which are relative to `folder`, absolute."""
    changes: dict[str, Any] = {}
    if spec.kind in {"local-dir", "embeddings"}:
        changes["name"] = model_name(spec.kind, _absolute(spec.place, folder))
    if spec.kind == "python":
        source, function = spec.source_and_function
        if source.endswith(".py"):
            changes["name"] = model_name("python", f"{_absolute(source, folder)}:{function}")
    if (folder / spec.name).is_dir() and (folder / spec.name / "open_clip_config.json").is_file():
        changes["name"] = model_name("local-dir", _absolute(spec.name, folder))
    if spec.pretrained and _is_path(spec.pretrained, folder):
        changes["pretrained"] = _absolute(spec.pretrained, folder)
    if spec.config is not None:
        changes["config"] = _absolute(spec.config, folder)
    return spec.model_copy(update=changes)


def _is_path(pretrained: str, folder: Path) -> bool:
    """Tell the path of a checkpoint from a tag; a folder beside the file that has a tag's name is none."""
    place = folder / pretrained
    return bool(Path(pretrained).suffix) or "/" in pretrained or (os.path.lexists(place) and not place.is_dir())


def absolute_data(data: DataConfig, folder: Path) -> DataConfig:
    """Make the paths of a data set, which are relative to `folder`, absolute."""
    return data.model_copy(
        update={
            "path": "::".join(_absolute(part, folder) if part else "" for part in data.path.split("::")),
            "images": None if data.images is None else _absolute(data.images, folder),
            "roots": tuple(_absolute(root, folder) for root in data.roots),
        }
    )


def absolute_report(report: ReportConfig, folder: Path) -> ReportConfig:
    """Make the paths of a report's fonts and crosswalk, which are relative to `folder`, absolute."""
    return report.model_copy(
        update={
            "fonts": tuple(_absolute(font, folder) for font in report.fonts),
            "crosswalk": None if report.crosswalk is None else _absolute(report.crosswalk, folder),
        }
    )


def absolute_place(text: str, folder: Path) -> str:
    """Make a path that is relative to `folder` absolute; an address of fsspec's stays as it is.

    Raises:
        ConfigError: what is no path.
    """
    return _absolute(text, folder)


def local_path(text: str) -> str:
    """Return the path that a file:// URL stands for; any other text as it is.

    >>> local_path("file:///data/a%20b.png")
    '/data/a b.png'
    """
    protocol, mark, rest = text.partition("://")
    if not mark or protocol.lower() not in {"file", "local"}:
        return text
    return unquote("/" + rest.partition("/")[2] if rest.startswith("localhost/") else rest)


def _absolute(text: str, folder: Path) -> str:
    """Return a path as an absolute one. A link stays a link: its name, and what lies beside it, is what was meant."""
    text = local_path(text)
    if "://" in text:
        return text
    try:
        path = str(folder.absolute() / Path(text).expanduser())
        shorter = os.path.normpath(path)
        # without its `..` a path leads elsewhere where one of them steps out of a link
        path = shorter if os.path.realpath(shorter) == os.path.realpath(path) else path
        _check_loop(path)
    except (OSError, ValueError, RuntimeError) as error:  # a loop of links, a NUL, ~nobody
        raise ConfigError(f"{text!r} is not a path: {reason_of(error)}.", "Give another path.") from error
    return path


def _check_loop(path: str) -> None:
    """Refuse links that lead in a circle.

    Raises:
        OSError: they do.
    """
    try:
        Path(path).stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise
