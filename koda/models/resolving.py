"""From a spec to a model: the right kind, its fingerprint, and the loaded encoder."""

from __future__ import annotations

from koda.config import PYTHON, STORED, TIMM, ModelSpec
from koda.devices import device_of
from koda.models import clip, custom, embedding_folder, timm_models
from koda.models.encoder import Encoder
from koda.models.fingerprint import ModelFingerprint, ResolvedModel
from koda.models.precision import resolve_precision

_FINDERS = {TIMM: timm_models.find, PYTHON: custom.find, STORED: embedding_folder.find}
_LOADERS = {TIMM: timm_models.load, PYTHON: custom.load}


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
    precision = "as stored" if _kind(spec) == STORED else resolve_precision(spec, place)
    contents = _FINDERS.get(_kind(spec), clip.find)(spec, place)
    fingerprint = ModelFingerprint(contents.weights, contents.config, contents.preprocessing, precision)
    return ResolvedModel(spec, contents.checkpoint, fingerprint, contents.modalities)


def load_encoder(resolved: ResolvedModel, device: str = "auto") -> Encoder:
    """Load a resolved model for inference, in the precision of its fingerprint.

    Raises:
        ModelError: weights that do not fit the configuration, or that hold NaN or infinity.
        PrerequisiteError: a tokenizer whose package is not installed.
    """
    return _LOADERS.get(_kind(resolved.spec), clip.load)(resolved, device_of(device))


def _kind(spec: ModelSpec) -> str:
    """Return the prefix that names the kind of a model; open_clip's names, hub ids and folders have none here."""
    return next((prefix for prefix in _FINDERS if spec.name.startswith(prefix)), "")
