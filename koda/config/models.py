"""Which model: the kinds that koda knows by the prefix of their names, and what a configuration says of one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from koda.config.strict import Strict

LOCAL, HUB, TIMM, PYTHON, STORED = "local-dir:", "hf-hub:", "timm:", "python:", "embeddings:"


class ModelSpec(Strict):
    """Where a model comes from, and how it is run.

    ``name`` is an open_clip name (with ``pretrained``, a tag or a checkpoint file), an ``hf-hub:`` id, a
    ``local-dir:`` folder or the path of such a folder, ``timm:`` and a timm name (images only), ``python:`` and
    ``module:function`` or ``file.py:function`` that makes a model of the team's own, or ``embeddings:`` and a folder
    of embeddings that another program made.
    """

    name: str = Field(min_length=1)
    pretrained: str | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="auto: bf16 where the hardware is fast at it, else fp32"
    )
    image_size: int | None = Field(
        default=None, ge=1, description="pixels of a side; for python: models and timm: checkpoint files"
    )
    label: str | None = Field(default=None, description="the name the report uses")
    force_quick_gelu: bool = False
    image_mean: tuple[float, float, float] | None = None
    image_std: tuple[float, float, float] | None = None
    licence: str | None = None
    source: str | None = None

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
        name = self.name
        if name.startswith((LOCAL, STORED)):
            return Path(name.removeprefix(LOCAL).removeprefix(STORED)).name
        if name.startswith(PYTHON):
            place, function = function_of(name)
            return f"{Path(place).name}:{function}"
        name = name.removeprefix(HUB).removeprefix(TIMM)
        return f"{name}@{Path(self.pretrained).name}" if self.pretrained else name


def function_of(name: str) -> tuple[str, str]:
    """Return the module or file, and the function in it, that the name of a python: model states.

    >>> function_of("python:models/ours.py:make")
    ('models/ours.py', 'make')
    """
    place, _, function = name.removeprefix(PYTHON).rpartition(":")
    return place, function
