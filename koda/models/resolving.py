"""From a spec to a model: the right kind, its fingerprint, and the loaded encoder."""

from __future__ import annotations

from koda.config import ModelSpec
from koda.devices import device_of
from koda.models import clip, clip_sources, custom, embedding_folder, timm_models
from koda.models.encoder import Encoder
from koda.models.fingerprint import ModelFingerprint, ResolvedModel
from koda.models.precision import resolve_precision

_FINDERS = {"timm": timm_models.find, "python": custom.find, "embeddings": embedding_folder.find}
_LOADERS = {"timm": timm_models.load, "python": custom.load}


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
    place = device_of(device)
    precision = "as stored" if spec.kind == "embeddings" else resolve_precision(spec, place)
    contents = _FINDERS.get(spec.kind, clip_sources.find)(spec, place)
    fingerprint = ModelFingerprint(
        contents.weights, contents.config, contents.preprocessing, precision, contents.files, contents.libraries
    )
    return ResolvedModel(
        spec, contents.checkpoint, fingerprint, contents.modalities, contents.entry, contents.tokenizer
    )


def load_encoder(resolved: ResolvedModel, device: str = "auto") -> Encoder:
    """Load a resolved model for inference, in the precision of its fingerprint.

    Raises:
        ModelError: weights that do not fit the configuration, or that hold NaN or infinity.
        PrerequisiteError: a tokenizer whose package is not installed.
    """
    return _LOADERS.get(resolved.spec.kind, clip.load)(resolved, device_of(device))
