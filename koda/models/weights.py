"""Weights in memory: read without running code, and never with NaN in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from koda.digest import read_state_dict
from koda.errors import ModelError

if TYPE_CHECKING:
    import torch


def read_weights(path: Path) -> dict[str, Any]:
    """Read the tensors of a checkpoint, from safetensors or with the loader that runs no code.

    Raises:
        ModelError: a file that cannot be read, or that holds more than tensors.
    """
    if path.suffix != ".safetensors":
        return read_state_dict(path)
    from safetensors.torch import load_file

    try:
        state: dict[str, Any] = load_file(path)
    except Exception as error:  # a format error of safetensors has no class of Python's own
        raise ModelError(f"The weights file {path} cannot be read: {error}.", "It may be truncated.") from error
    return state


def check_finite(label: str, model: torch.nn.Module) -> None:
    """Refuse a model with NaN or infinity in its weights.

    Raises:
        ModelError: with the first such tensor.
    """
    import torch

    tensors = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    if bad := [name for name, value in tensors.items() if not torch.isfinite(value).all()]:
        raise ModelError(
            f"{label}: {len(bad)} weight tensors hold NaN or infinity, the first is {bad[0]!r}.",
            "The training diverged, or the file is damaged.",
        )
