"""Embedded data and models: labelled scenes, and three small open_clip checkpoints to compare on them."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koda.errors import ConfigError

if TYPE_CHECKING:
    from koda.demo.data import write_data

__all__ = ["MODELS", "PAIRS", "model_path", "write_data"]

MODELS = ("baseline", "blind", "candidate")

#: what ``koda demo --pair`` compares: name -> (baseline, candidate)
PAIRS: dict[str, tuple[str, str]] = {
    "regressed": ("baseline", "candidate"),
    "colour": ("baseline", "blind"),
    "self": ("baseline", "baseline"),
}


def model_path(name: str) -> Path:
    """Return the folder of a demonstration model; ``local-dir:`` before it makes an open_clip name.

    Raises:
        ConfigError: no model has this name.

    >>> model_path("baseline").name
    'baseline'
    """
    if name not in MODELS:
        raise ConfigError(
            f"There is no demonstration model {name!r}.",
            f"Choose one of {', '.join(MODELS)}.",
        )
    return Path(str(files(__name__).joinpath("models", name)))


def __getattr__(name: str) -> Any:
    if name == "write_data":  # brings in Pillow, which a look at the names does not need
        from koda.demo.data import write_data

        return write_data
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
