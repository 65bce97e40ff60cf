"""A model by one text, as a command line and a parameter of Prefect name it."""

from __future__ import annotations

from pathlib import Path

from koda.config.audit import AuditConfig
from koda.config.models import ModelSpec
from koda.config.paths import absolute_model
from koda.errors import ConfigError

_WEIGHTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
#: what a checkpoint of one training shares with the others, beside the name
OF_ONE_TRAINING = ("config", "precision", "image_size", "force_quick_gelu", "image_mean", "image_std")


def named_model(name: str, folder: Path) -> ModelSpec:
    """Return the model of a name that a configuration may give, with ``@`` and the weights behind an open_clip name.

    Args:
        name: of the model.
        folder: what relative paths are relative to: that of the configuration.
    """
    spec = ModelSpec(name=name)
    if spec.kind == "open_clip" and not (folder / name).is_dir():
        architecture, _, pretrained = name.partition("@")
        if architecture:
            spec = ModelSpec(name=architecture, pretrained=pretrained or None)
    return absolute_model(spec, folder)


def with_candidate(config: AuditConfig, candidate: str, folder: Path) -> AuditConfig:
    """Put a candidate in the place of the configuration's.

    A checkpoint file is one of the model that ``watch: as`` states, else of the configuration's candidate, whose
    preprocessing it shares.

    Args:
        config: of an audit.
        candidate: the path of a checkpoint file or of a model folder, or a name as for :func:`named_model`.
        folder: that of the configuration.

    Raises:
        ConfigError: a name of nothing, a file that is not there, or a checkpoint file of a model that the configuration
            does not state.
    """
    if not candidate.strip():
        raise ConfigError("The candidate is named by an empty text.", "Give a model's name, or leave it out.")
    path = _file(candidate, folder)
    if path is not None:
        return _changed(config, _of_training(config).model_copy(update={"pretrained": str(path), "label": None}))
    spec, own = named_model(candidate, folder), config.candidate
    if spec.kind == "open_clip" and spec.pretrained is None and _is_missing_path(candidate, folder):
        where = folder.absolute() / candidate
        raise ConfigError(f"There is no file {where}.", f"Relative paths are relative to {folder.absolute()}.")
    if (spec.name, spec.pretrained) == (own.name, own.pretrained):
        return config
    if spec.name == own.name and spec.pretrained is not None and Path(spec.pretrained).is_absolute():
        spec = spec.model_copy(update={field: getattr(own, field) for field in OF_ONE_TRAINING})
    elif spec.kind == own.kind:
        spec = spec.model_copy(update={"precision": own.precision})
    return _changed(config, spec)


def _of_training(config: AuditConfig) -> ModelSpec:
    stated = None if config.watch is None else config.watch.as_
    if stated is not None and stated.name != "local-dir:":
        return stated
    if config.candidate.kind in ("embeddings", "python"):
        raise ConfigError(
            f"A checkpoint file says not which model it is of, and the candidate is {config.candidate.name}.",
            "State it: watch: {as: {name: ViT-B-32}}, or give NAME@FILE.",
        )
    return config.candidate


def _file(candidate: str, folder: Path) -> Path | None:
    try:
        path = folder.absolute() / Path(candidate).expanduser()
        return path if path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # too long for a path, a NUL, ~nobody
        return None


def _is_missing_path(candidate: str, folder: Path) -> bool:
    """Tell the path of nothing from an open_clip name, which has no slash, and from a URL."""
    written = ("/" in candidate or candidate.endswith(_WEIGHTS)) and "://" not in candidate
    try:
        return written and not (folder / Path(candidate).expanduser()).exists()
    except (OSError, ValueError, RuntimeError):  # as above
        return written


def _changed(config: AuditConfig, candidate: ModelSpec) -> AuditConfig:
    return config.model_copy(update={"candidate": candidate})
