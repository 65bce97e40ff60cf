"""What a model is, before it is loaded: its files, and a digest of everything that decides its embeddings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from koda.config import ModelSpec
from koda.storage import digest_json
from koda.typing import MODALITIES

_FINGERPRINT_VERSION = 1


@dataclass(frozen=True)
class ModelFingerprint:
    """What decides the embeddings of a model: weights, configuration, preprocessing, precision.

    ``digest`` names all of it; two specs with the same digest give the same embeddings.
    """

    weights: str
    config: dict[str, Any]
    preprocessing: dict[str, Any]
    precision: str

    @property
    def activation(self) -> str | None:
        """The activation function of an open_clip model, which weights alone do not tell; None for any other."""
        if "vision_cfg" not in self.config:
            return None
        return "QuickGELU" if self.config.get("quick_gelu") else "GELU"

    @property
    def config_digest(self) -> str:
        """Digest of the architecture with its activation and preprocessing."""
        return digest_json([self.config, self.preprocessing])

    @property
    def digest(self) -> str:
        """Digest of the whole fingerprint."""
        return digest_json([_FINGERPRINT_VERSION, self.weights, self.config, self.preprocessing, self.precision])


@dataclass(frozen=True)
class ModelContents:
    """What one kind of model is made of, as its files say; with a precision it has a fingerprint.

    Args:
        weights: digest of the weights.
        config: of the architecture.
        preprocessing: every value that is used; empty for a model without images.
        checkpoint: the file of the weights, where there is one.
        modalities: of "image" and "text".
    """

    weights: str
    config: dict[str, Any]
    preprocessing: dict[str, Any]
    checkpoint: Path | None = None
    modalities: tuple[str, ...] = MODALITIES


@dataclass(frozen=True)
class ResolvedModel:
    """A model whose files were found, before it is loaded."""

    spec: ModelSpec
    checkpoint: Path | None
    fingerprint: ModelFingerprint
    modalities: tuple[str, ...] = MODALITIES

    @property
    def label(self) -> str:
        """The name the report uses."""
        return self.spec.display_name

    @property
    def stored(self) -> bool:
        """Whether its embeddings were made by another program, so that there is no model to load."""
        return self.spec.kind == "embeddings"

    def in_fp32(self) -> ResolvedModel:
        """Return the same model in full precision."""
        return replace(self, fingerprint=replace(self.fingerprint, precision="fp32"))
