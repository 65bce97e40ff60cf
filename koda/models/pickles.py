"""Checkpoints that torch saved, read by its loader that runs no code; what it may make is said here, name by name."""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import pickle
import re
import types
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from koda.errors import ModelError, reason_of
from koda.models.messages import quiet

_ASKS_FOR_MORE = ("Trying to", "allowlisted", "Can only", "not initialized by BUILD")  # phrases of torch's own refusals
_NAMED = 5  # of what a refused pickle asks for
_NUMBERS = ("Bool", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float16", "Float32",
            "Float64", "Str", "Bytes")  # fmt: skip
_STARTS = {
    b"version https://git-lfs": ("a pointer of Git LFS; the file itself was not fetched", "Run git lfs pull."),
    b"<!DOCTYPE": ("a web page", "Download the file itself."),
    b"<html": ("a web page", "Download the file itself."),
    b"\x89HDF\r\n": ("an HDF5 file (Keras)", "Convert the weights to PyTorch."),
    b"GGUF": ("a GGUF file of quantised weights", "Use the weights that it was made of."),
    b"\x1f\x8b": ("compressed by gzip", "Unpack it."),
}


def load_pickle(path: Path) -> Any:
    """Load a checkpoint with the loader that makes tensors, containers, numbers and a few harmless classes.

    Training loops leave an argparse namespace, paths and numpy's numbers beside the weights; none of these can run
    code. Everything else is refused and named.

    Raises:
        ModelError: a file that is no checkpoint, or whose pickle asks for more, with what it is or asks for.
    """
    import torch

    _check_start(path)
    try:
        with quiet(), torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, str(error)) from error
    except (
        OSError,
        RuntimeError,
        EOFError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        RecursionError,
    ) as error:
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"The checkpoint {path} cannot be read: {words[0].rstrip('.')}.", "It may be truncated."
        ) from error


def _harmless() -> list[Any]:
    """Classes and functions that a checkpoint may ask for beside torch's own, with the names that pickles give them."""
    import numpy as np
    from numpy._core import multiarray  # where numpy's own pickles find these two

    allowed: list[Any] = [argparse.Namespace, types.SimpleNamespace, defaultdict, dict, list, int, float, str]
    for name, kind in (
        ("PosixPath", pathlib.PurePosixPath),
        ("PurePosixPath", pathlib.PurePosixPath),
        ("WindowsPath", pathlib.PureWindowsPath),
        ("PureWindowsPath", pathlib.PureWindowsPath),
    ):
        allowed += [(kind, f"pathlib.{name}"), (kind, f"pathlib._local.{name}")]
    for module in ("numpy._core.multiarray", "numpy.core.multiarray"):  # the names of numpy 2 and of numpy 1
        allowed += [(getattr(multiarray, name), f"{module}.{name}") for name in ("scalar", "_reconstruct")]
    allowed += [np.ndarray, np.dtype, *(getattr(np.dtypes, f"{name}DType") for name in _NUMBERS)]
    return allowed


def _check_start(path: Path) -> None:
    """Refuse by its first bytes what is no checkpoint of torch, or a program, and say what it is."""
    try:
        with path.open("rb") as file:
            start = file.read(32)
        if not start:
            raise ModelError(f"The checkpoint {path} cannot be read: the file is empty.", "Copy it again.")
        for known, (what, remedy) in _STARTS.items():
            if start.startswith(known):
                raise ModelError(f"The checkpoint {path} cannot be read: it is {what}.", remedy)
        names: list[str] = []
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"The checkpoint {path} cannot be read: {reason_of(error)}.", "It may be truncated."
        ) from error
    if any(name.endswith("/constants.pkl") for name in names):
        raise ModelError(
            f"{path} is a TorchScript archive: a program with its weights, which koda does not run.",
            "Save its weights alone, where you trust it: torch.save(torch.jit.load("
            f"{path.name!r}, map_location='cpu').state_dict(), 'weights.pt'). OpenAI's own files are QuickGELU models; "
            "open_clip has them under the tag `openai`.",
        )
    if names and all(name.endswith(".npy") for name in names):
        raise ModelError(
            f"{path} is an archive of NumPy arrays (big_vision's form), not a checkpoint of PyTorch.",
            "Load it with open_clip once and save model.state_dict().",
        )


def _refused(path: Path, words: str) -> ModelError:
    """Tell a pickle that asks for more than tensors, and for what, from a file that is no checkpoint."""
    import torch

    asked = re.findall(r"(?:GLOBAL|class) ([\w.]+)", words)
    if not asked and not any(phrase in words for phrase in _ASKS_FOR_MORE):
        return ModelError(
            f"The checkpoint {path} cannot be read: it is no checkpoint of PyTorch.",
            "It may be truncated; copy it again.",
        )
    with contextlib.suppress(Exception), torch.serialization.safe_globals(_harmless()):
        asked = torch.serialization.get_unsafe_globals_in_checkpoint(path) or asked
    named = f" It asks for {', '.join(sorted(set(asked))[:_NAMED])}." if asked else ""
    return ModelError(
        f"The checkpoint {path} holds more than tensors and was refused: reading it could run code.{named}",
        "Save its state dict alone, best as safetensors, and point koda at that file.",
    )
