"""Relative paths of a configuration, which are relative to its file, made absolute."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from koda.config.data import DataConfig
from koda.config.models import ModelSpec, model_name
from koda.errors import ConfigError


def absolute_model(spec: ModelSpec, folder: Path) -> ModelSpec:
    """Make the paths of a model, which are relative to `folder`, absolute."""
    changes: dict[str, Any] = {}
    if spec.kind in {"local-dir", "embeddings"}:
        changes["name"] = model_name(spec.kind, _resolve(spec.place, folder))
    if spec.kind == "python":
        source, function = spec.source_and_function
        if source.endswith(".py"):
            changes["name"] = model_name("python", f"{_resolve(source, folder)}:{function}")
    if (folder / spec.name).is_dir() and (folder / spec.name / "open_clip_config.json").is_file():
        changes["name"] = model_name("local-dir", _resolve(spec.name, folder))
    if spec.pretrained and _is_path(spec.pretrained, folder):
        changes["pretrained"] = _resolve(spec.pretrained, folder)
    if spec.config is not None:
        changes["config"] = _resolve(spec.config, folder)
    return spec.model_copy(update=changes)


def _is_path(pretrained: str, folder: Path) -> bool:
    """Tell the path of a checkpoint from a tag; a folder beside the file that has a tag's name is none."""
    place = folder / pretrained
    return bool(Path(pretrained).suffix) or "/" in pretrained or (os.path.lexists(place) and not place.is_dir())


def absolute_data(data: DataConfig, folder: Path) -> DataConfig:
    """Make the paths of a data set, which are relative to `folder`, absolute."""
    return data.model_copy(
        update={
            "path": "::".join(_resolve(part, folder) if part else "" for part in data.path.split("::")),
            "images": None if data.images is None else _resolve(data.images, folder),
        }
    )


def _resolve(text: str, folder: Path) -> str:
    if "://" in text:
        return text
    try:
        return str((folder / Path(text).expanduser()).resolve())
    except (OSError, ValueError, RuntimeError) as error:  # a loop of links, a NUL, ~nobody
        raise ConfigError(f"{text!r} is not a path: {error}.") from error
