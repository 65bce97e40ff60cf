"""Weights in memory: read without running code, and never with NaN in them."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koda.errors import ModelError
from koda.storage.safetensors import read_header

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


def read_state_dict(path: Path) -> dict[str, Any]:
    """Read a .pt checkpoint with the loader that runs no code, and return its state dict.

    A training checkpoint (``state_dict`` beside epoch and optimiser) and the ``module.`` prefix of
    distributed training are understood.

    Raises:
        ModelError: a file that is no checkpoint, or whose pickle asks for more than tensors.
    """
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"The checkpoint {path} holds more than tensors and was refused: reading it could run code.",
            "Save its state dict alone, best as safetensors, and point koda at that file.",
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise ModelError(f"The checkpoint {path} cannot be read: {error}.", "It may be truncated.") from error
    for inner in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(inner), dict):
            loaded = loaded[inner]
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(v, torch.Tensor) for v in loaded.values()):
        raise ModelError(f"The checkpoint {path} holds no state dict.", "Save model.state_dict().")
    if all(name.startswith("module.") for name in loaded):
        loaded = {name.removeprefix("module."): tensor for name, tensor in loaded.items()}
    return loaded


def digest_weights(path: Path) -> str:
    """Return the digest of a checkpoint's state dict: the same for .pt, re-saved .pt and safetensors.

    It is the sha256 over (name, dtype, shape, bytes) of the tensors in the file, sorted by name.

    Raises:
        ModelError: a file that cannot be read, or that holds more than tensors.
    """
    if path.suffix == ".safetensors":
        return _digest_tensors(_safetensors_items(path))
    return digest_state_dict(read_state_dict(path))


def digest_state_dict(state: Mapping[str, Any]) -> str:
    """Return the digest of a state dict in memory: that of a file with the same tensors."""
    return _digest_tensors(_tensor_items(state))


def _digest_tensors(tensors: Iterable[tuple[str, str, list[int], bytes]]) -> str:
    state = hashlib.sha256()
    for name, dtype, shape, data in tensors:
        state.update(f"{name}\0{dtype}\0{tuple(shape)}\0".encode())
        state.update(data)
    return state.hexdigest()


def _safetensors_items(path: Path) -> Iterable[tuple[str, str, list[int], bytes]]:
    """Read tensors as raw bytes, sorted by name, without torch: the header says where each one lies."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            header, start = read_header(file, size)
            header.pop("__metadata__", None)
            for name in sorted(header):
                first, last = header[name]["data_offsets"]
                if start + last > size:
                    raise ValueError(f"the file ends before the tensor {name!r}")
                file.seek(start + first)
                yield name, header[name]["dtype"], header[name]["shape"], file.read(last - first)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"The weights file {path} cannot be read: {error}.", "It may be truncated; copy it again."
        ) from error


def _tensor_items(state: Mapping[str, Any]) -> Iterable[tuple[str, str, list[int], bytes]]:
    """Give the tensors of a state dict in the form safetensors has them; anything else in it is passed over."""
    import torch
    from safetensors.torch import _TYPES

    names = {dtype: name for name, dtype in _TYPES.items()}
    for name, tensor in sorted(state.items()):
        if isinstance(tensor, torch.Tensor):
            flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            yield name, names.get(tensor.dtype, str(tensor.dtype)), list(tensor.shape), flat.numpy().tobytes()


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
