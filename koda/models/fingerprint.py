"""What a model is, before it is loaded: its files, and a digest of everything that decides its embeddings."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from koda.config import ModelSpec
from koda.storage import digest_json
from koda.typing import MODALITIES

_FINGERPRINT_VERSION = 2


@dataclass(frozen=True)
class ModelFingerprint:
    """What decides the embeddings of a model: weights, configuration, preprocessing, precision, other files, libraries.

    ``digest`` names all of it; two specs with the same digest give the same embeddings.

    Args:
        weights: digest of the weights.
        config: of the architecture.
        preprocessing: every value that is used.
        precision: that it runs in.
        files: name -> digest of every other file that it is built from: tokenizer, code of the team's own.
        libraries: package -> version, of those whose releases change embeddings.
    """

    weights: str
    config: dict[str, Any]
    preprocessing: dict[str, Any]
    precision: str
    files: dict[str, str] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)

    @property
    def activation(self) -> str | None:
        """The activation function of an open_clip model, which weights alone do not tell; None for any other."""
        if "vision_cfg" not in self.config:
            return None
        return "QuickGELU" if self.config.get("quick_gelu") else "GELU"

    @property
    def config_digest(self) -> str:
        """Digest of the architecture with its activation, preprocessing, tokenizer and code."""
        return digest_json([self.config, self.preprocessing, self.files])

    @property
    def digest(self) -> str:
        """Digest of the whole fingerprint."""
        built_from = [self.weights, self.config, self.preprocessing, self.precision, self.files, self.libraries]
        return digest_json([_FINGERPRINT_VERSION, *built_from])


@dataclass(frozen=True)
class TokenizerFiles:
    """Where a tokenizer is loaded from.

    Args:
        folder: that transformers reads; None for open_clip's own tokenizer.
        digests: name -> digest of every file that it, or the text tower's configuration, is made of.
        tower: the folder of the text tower's configuration, where it is one of transformers.
    """

    folder: Path | None
    digests: dict[str, str]
    tower: Path | None = None


@dataclass(frozen=True)
class ModelContents:
    """What one kind of model is made of, as its files say; with a precision it has a fingerprint.

    Args:
        weights: digest of the weights.
        config: of the architecture.
        preprocessing: every value that is used; empty for a model without images.
        checkpoint: the file of the weights, or the index of several, where there is one.
        modalities: of "image" and "text".
        entry: the key under which a training checkpoint holds the weights; "" where it holds nothing else.
        files, libraries: see :class:`ModelFingerprint`.
        tokenizer: where the tokenizer of an open_clip model is loaded from.
    """

    weights: str
    config: dict[str, Any]
    preprocessing: dict[str, Any]
    checkpoint: Path | None = None
    modalities: tuple[str, ...] = MODALITIES
    entry: str = ""
    files: dict[str, str] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    tokenizer: TokenizerFiles | None = None


@dataclass(frozen=True)
class ResolvedModel:
    """A model whose files were found, before it is loaded."""

    spec: ModelSpec
    checkpoint: Path | None
    fingerprint: ModelFingerprint
    modalities: tuple[str, ...] = MODALITIES
    entry: str = ""
    tokenizer: TokenizerFiles | None = None

    @property
    def weights_file(self) -> str | None:
        """The name of the file that the weights are read from, with the key under which it holds them."""
        if self.checkpoint is None:
            return None
        return self.checkpoint.name + (f" [{self.entry}]" if self.entry else "")

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
