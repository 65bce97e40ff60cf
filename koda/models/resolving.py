"""From a spec to a model: the right kind, its fingerprint, and the loaded encoder."""

from __future__ import annotations

import os
from pathlib import Path

from koda.config import ModelSpec
from koda.devices import device_of, kind_of
from koda.errors import ModelError
from koda.models import clip, clip_sources, custom, embedding_folder, timm_models, transformers_models
from koda.models.encoder import Encoder
from koda.models.fingerprint import ModelFingerprint, ResolvedModel
from koda.models.precision import resolve_precision

_FINDERS = {
    "timm": timm_models.find,
    "python": custom.find,
    "embeddings": embedding_folder.find,
    "transformers": transformers_models.find,
}
_LOADERS = {"timm": timm_models.load, "python": custom.load, "transformers": transformers_models.load}


def _kind(spec: ModelSpec) -> str:
    """Return the kind of a model; a folder without a configuration of open_clip may be one of transformers."""
    folder = Path(spec.place)
    if spec.kind == "local-dir" and not os.path.lexists(folder / clip_sources.CONFIG):
        return "transformers" if os.path.lexists(folder / transformers_models.CONFIG) else spec.kind
    return spec.kind


#: files of which a folder has one that says what model its weights are of: of open_clip, and of transformers
FOLDER_CONFIGS = (clip_sources.CONFIG, transformers_models.CONFIG)


def is_model_folder(folder: Path) -> bool:
    """Tell whether a folder says what model its weights are of: one of open_clip, or one that transformers saved."""
    return any(os.path.lexists(folder / name) for name in FOLDER_CONFIGS)


def resolve_model(spec: ModelSpec, device: str = "auto") -> ResolvedModel:
    """Find a model's configuration and weights and compute its fingerprint, without keeping it in memory.

    Args:
        spec: which model.
        device: where it will run; ``precision: auto`` depends on it.

    Raises:
        ConfigError: a device that is not there.
        ModelError: no such model, no weights, a configuration that cannot be read, an activation that is not the
            one the weights were trained with, preprocessing that nobody stated, or a precision the device lacks.
        PrerequisiteError: a tokenizer whose package is not installed.
    """
    kind_of(device)  # whatever else is wrong, a device that is not there is said first
    precision = _precision(spec, device)
    if spec.config is not None and spec.kind != "open_clip":
        raise ModelError(
            f"{spec.name}: config is for an open_clip architecture of your own; this model has its own.",
            "Remove `config`, or give the model a name without a prefix.",
        )
    contents = _FINDERS.get(_kind(spec), clip_sources.find)(spec, device)
    fingerprint = ModelFingerprint(
        contents.weights, contents.config, contents.preprocessing, precision, contents.files, contents.libraries
    )
    return ResolvedModel(
        spec, contents.checkpoint, fingerprint, contents.modalities, contents.entry, contents.tokenizer
    )


def _precision(spec: ModelSpec, device: str) -> str:
    """Return what is resolved without torch where it can be: a cached audit loads no model."""
    if spec.kind == "embeddings":
        return "as stored"
    if spec.precision in ("fp32", "bf16"):  # which no device lacks
        return spec.precision
    return resolve_precision(spec, device_of(device))


def load_encoder(resolved: ResolvedModel, device: str = "auto") -> Encoder:
    """Load a resolved model for inference, in the precision of its fingerprint.

    Raises:
        ModelError: weights that do not fit the configuration, or that hold NaN or infinity.
        PrerequisiteError: a tokenizer whose package is not installed.
    """
    return _LOADERS.get(_kind(resolved.spec), clip.load)(resolved, device_of(device))
