"""How transformers prepares pictures, as its processor's file says, and the same with torchvision."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from koda.errors import ModelError, reason_of
from koda.models.weight_files import check_regular

_FILES = ("preprocessor_config.json", "processor_config.json")  # of version 4, and of 5, which has it as a part
_RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers


def read_processor(folder: Path) -> dict[str, Any] | None:
    """Return how pictures are prepared; None where no file says so.

    Returns:
        ``resize`` (the shorter side, [height, width] or None), ``crop`` ([height, width] or None), ``interpolation``,
        ``mean`` and ``std``.

    Raises:
        ModelError: a file that cannot be read, or a step that koda does not know.
    """
    for name in _FILES:
        path = folder / name
        if not path.exists():
            continue
        check_regular(path, "The processor's file")
        try:
            raw: dict[str, Any] = json.loads(path.read_bytes())
            raw = raw if name == _FILES[0] else raw.get("image_processor") or {}
            if raw:
                return _understood(raw)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ModelError(
                f"{path} states a preprocessing that koda does not know: {reason_of(error)}.",
                "Make the model in a function of your own: python:file.py:function.",
            ) from error
    return None


def _understood(raw: dict[str, Any]) -> dict[str, Any]:
    if not raw.get("do_normalize", True) or not raw.get("do_rescale", True):
        raise ValueError("do_normalize or do_rescale is off")
    if not math.isclose(raw.get("rescale_factor", 1 / 255), 1 / 255, rel_tol=1e-6):
        raise ValueError(f"rescale_factor {raw['rescale_factor']}")
    if raw.get("do_pad"):
        raise ValueError("do_pad")
    return {
        "resize": _resize(raw["size"]) if raw.get("do_resize", True) else None,
        "crop": _crop(raw["crop_size"]) if raw.get("do_center_crop", "crop_size" in raw) else None,
        "interpolation": _RESAMPLING[raw.get("resample", 3)],
        "mean": [float(value) for value in raw["image_mean"]],
        "std": [float(value) for value in raw["image_std"]],
    }


def _resize(size: Any) -> int | list[int]:
    """Return the shorter side, or [height, width]; a bare number is the shorter side, as of CLIP's older files."""
    if isinstance(size, int):
        return size
    if size.keys() == {"shortest_edge"}:
        return int(size["shortest_edge"])
    if size.keys() == {"height", "width"}:
        return [int(size["height"]), int(size["width"])]
    raise ValueError(f"size {size}")


def _crop(size: Any) -> list[int]:
    return [size, size] if isinstance(size, int) else [int(size["height"]), int(size["width"])]


def transform_of(preprocessing: dict[str, Any]) -> Any:
    """Return the transform: picture -> (3, h, w)."""
    from torchvision import transforms
    from torchvision.transforms import InterpolationMode

    steps: list[Any] = []
    if preprocessing["resize"] is not None:
        how = InterpolationMode(preprocessing["interpolation"])
        steps.append(transforms.Resize(preprocessing["resize"], interpolation=how))
    if preprocessing["crop"] is not None:
        steps.append(transforms.CenterCrop(preprocessing["crop"]))
    normalise = transforms.Normalize(preprocessing["mean"], preprocessing["std"])
    return transforms.Compose([*steps, transforms.ToTensor(), normalise])
