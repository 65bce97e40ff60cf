"""Which model: the kinds that koda knows by the prefix of their names, and what a configuration says of one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from koda.config.strict import Strict

ModelKind = Literal["open_clip", "hf-hub", "local-dir", "timm", "python", "embeddings"]
_PREFIXES: dict[ModelKind, str] = {
    "hf-hub": "hf-hub:",
    "local-dir": "local-dir:",
    "timm": "timm:",
    "python": "python:",
    "embeddings": "embeddings:",
}


class ModelSpec(Strict):
    """Where a model comes from, and how it is run.

    ``name`` is an open_clip name (with ``pretrained``, a tag or a checkpoint file), an ``hf-hub:`` id, a
    ``local-dir:`` folder or the path of such a folder (with ``pretrained``, a checkpoint in place of its weights), any
    name with ``config``, ``timm:`` and a timm name (images only), ``python:`` and ``module:function`` or
    ``file.py:function`` that makes a model of the team's own, or ``embeddings:`` and a folder of embeddings that
    another program made.
    """

    name: str = Field(
        min_length=1, description="an open_clip name, or one with hf-hub:, local-dir:, timm:, python: or embeddings:"
    )
    pretrained: str | None = Field(default=None, description="tag or checkpoint file of the weights")
    config: str | None = Field(
        default=None, description="file with the architecture of the team's own open_clip model; with pretrained"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="auto: bf16 where the hardware is fast at it, else fp32"
    )
    image_size: int | None = Field(
        default=None, ge=1, description="pixels of a side; for python: models and timm: checkpoint files"
    )
    label: str | None = Field(default=None, description="the name the report uses")
    force_quick_gelu: bool = Field(
        default=False, description="the activation of OpenAI's weights, where the name does not say it"
    )
    image_mean: tuple[float, float, float] | None = Field(
        default=None, description="subtracted from the pixels; for weights that do not bring it with them"
    )
    image_std: tuple[float, float, float] | None = Field(
        default=None, description="the pixels are divided by it; stated together with image_mean"
    )
    licence: str | None = Field(default=None, description="of the weights, for the report")
    source: str | None = Field(default=None, description="where the weights come from, for the report")

    @model_validator(mode="after")
    def _both_or_neither(self) -> ModelSpec:
        if (self.image_mean is None) != (self.image_std is None):
            raise ValueError("image_mean and image_std are stated together, or not at all")
        return self

    @property
    def display_name(self) -> str:
        """The name of the model in reports: its label, or what its name says."""
        if self.label:
            return self.label
        if self.kind in {"local-dir", "embeddings"}:
            return Path(self.place).name
        if self.kind == "python":
            source, function = self.source_and_function
            return f"{Path(source).name}:{function}"
        return f"{self.place}@{Path(self.pretrained).name}" if self.pretrained else self.place

    @property
    def kind(self) -> ModelKind:
        """The kind that the prefix of the name says; a name without one is open_clip's."""
        return next((kind for kind, prefix in _PREFIXES.items() if self.name.startswith(prefix)), "open_clip")

    @property
    def place(self) -> str:
        """What follows the prefix: a folder, an id of the hub, a name, or a function of the team's own.

        >>> ModelSpec(name="hf-hub:laion/CLIP-ViT-B-32").place
        'laion/CLIP-ViT-B-32'
        """
        return self.name.removeprefix(_PREFIXES.get(self.kind, ""))

    @property
    def source_and_function(self) -> tuple[str, str]:
        """The module or file, and the function in it, that the name of a python: model states.

        >>> ModelSpec(name="python:models/ours.py:make").source_and_function
        ('models/ours.py', 'make')
        """
        source, _, function = self.place.rpartition(":")
        return source, function


def model_name(kind: ModelKind, place: str) -> str:
    """Return the name of a model of a kind.

    >>> model_name("local-dir", "/models/ours")
    'local-dir:/models/ours'
    """
    return _PREFIXES.get(kind, "") + place
