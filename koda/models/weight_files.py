"""Which file holds a model's weights: the one that open_clip would take, shards by their index, and never a guess."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from koda.errors import ModelError, reason_of

# open_clip's order of the files in a folder, each followed by the index of the same weights in several files
_PREFERRED = (
    "open_clip_model.safetensors",
    "open_clip_model.safetensors.index.json",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.bin.index.json",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "pytorch_model.pth",
    "model.pth",
)
_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".pth.tar", ".pt.tar")
# what Trainer, accelerate and DeepSpeed leave beside the weights
_BESIDE = ("optimizer", "optim", "scheduler", "scaler", "rng_state", "random_states", "training_args", "trainer_state")
_INDEX = ".index.json"
_MAX_LINKS = 40  # as many as the kernel follows
_SHOWN = 10  # candidates named in a message
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_regular(path: Path, what: str) -> None:
    """Refuse what is no regular file, before anything is opened: reading a pipe waits for ever.

    Raises:
        ModelError: it is not there, or something else than a file.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise ModelError(
                f"{what} {path} is a link to {path.readlink()}, which is not there.", "Fetch its target."
            ) from None
        raise ModelError(f"{what} {path} does not exist.", "Check the path.") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{what} {path} cannot be read: {reason_of(error)}.", "Check the path.") from error
    for is_kind, words in _KINDS:
        if is_kind(mode):
            raise ModelError(f"{what} {path} is {words}, not a file.", "Give a regular file.")


def find_weights(folder: Path) -> Path:
    """Return the file of the weights in a folder, or the index of those that lie in several.

    Raises:
        ModelError: none, several and no name that open_clip prefers, or shards without their index.
    """
    for name in _PREFERRED:
        if os.path.lexists(folder / name) and not (folder / name).is_dir():
            check_regular(folder / name, "The checkpoint")
            return folder / name
    names = sorted(path.name for path in folder.iterdir() if _may_be_weights(path))
    indexes = sorted(path for path in folder.iterdir() if path.name.endswith(_INDEX) and path.is_file())
    sharded = {shard for index in indexes for shard in read_index(index).values()}
    candidates = [folder / name for name in names if name not in sharded] + indexes
    if not candidates and any(folder.glob("*.distcp")):
        raise ModelError(
            f"The folder {folder} holds a distributed checkpoint of torch, in pieces.",
            f"Join it: python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} weights.pt",
        )
    if not candidates:
        raise ModelError(
            f"The folder {folder} holds no weights.",
            "Put open_clip_model.safetensors or model.safetensors there; koda never audits random weights.",
        )
    if len(candidates) > 1:
        shown = ", ".join(path.name for path in candidates[:_SHOWN])
        more = f" and {len(candidates) - _SHOWN} more" if len(candidates) > _SHOWN else ""
        raise ModelError(
            f"The folder {folder} holds {len(candidates)} files that may be the weights: {shown}{more}.",
            f"Say which: `pretrained: {candidates[-1]}` beside the model's name (or leave one of them there).",
        )
    check_regular(candidates[0], "The checkpoint")
    check_no_lone_shard(candidates[0])
    return candidates[0]


def _may_be_weights(path: Path) -> bool:
    name = path.name.lower()
    beside = any(name.startswith(word) or f"_{word}" in name for word in _BESIDE)
    return name.endswith(_SUFFIXES) and not name.startswith(".") and not beside and not path.is_dir()


def weights_at(path: Path) -> Path:
    """Return the file of weights that a path states: itself, or the one in a folder.

    Raises:
        ModelError: no regular file, or as :func:`find_weights`.
    """
    if path.is_dir():
        return find_weights(path)
    check_regular(path, "The checkpoint")
    check_no_lone_shard(path)
    return path


def check_no_lone_shard(path: Path) -> None:
    """Refuse one shard of several: the rest of the model would be missing.

    Raises:
        ModelError: with the index to give in its place.
    """
    stem, _, count = path.name.split(".", 1)[0].rpartition("-of-")
    first, _, number = stem.rpartition("-")
    if not (count.isdigit() and number.isdigit() and int(count) > 1):
        return
    index = path.with_name(f"{first}.{path.name.split('.', 1)[1]}{_INDEX}")
    raise ModelError(
        f"{path} is one of {int(count)} files that hold the weights together.",
        f"Give their index: {index}." if index.is_file() else f"Copy their index, {index.name}, beside them.",
    )


def is_index(path: Path) -> bool:
    """Tell whether a path is the index of weights that lie in several files."""
    return path.name.endswith(_INDEX)


def files_of(path: Path) -> list[Path]:
    """Return the files that hold the weights, in order: the file itself, or every shard of an index.

    Raises:
        ModelError: an index that cannot be read, or a shard that is not there.
    """
    if not is_index(path):
        check_regular(path, "The checkpoint")
        return [path]
    return [shard_beside(path, name) for name in sorted(set(read_index(path).values()))]


def folders_of(path: Path) -> list[Path]:
    """Return where neighbours of a file are looked for: beside it as it is written, then where each link leads."""
    folders = [path.parent]
    for _ in range(_MAX_LINKS):
        if not path.is_symlink():
            break
        path = path.parent / path.readlink()
        folders.append(path.parent)
    return folders


def shard_beside(index: Path, name: str) -> Path:
    """Return a shard that an index names, from the first of :func:`folders_of` that has it.

    Raises:
        ModelError: it is nowhere, or no regular file.
    """
    places = [folder / name for folder in folders_of(index)]
    shard = next((place for place in places if place.exists()), places[0])
    check_regular(shard, f"A file of the weights that {index.name} lists,")
    return shard


def read_index(path: Path) -> dict[str, str]:
    """Return tensor name -> shard, as an index of Hugging Face's form states it.

    Raises:
        ModelError: another form, or a shard outside of the folder.
    """
    try:
        check_regular(path, "The index")
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
        names = raw["weight_map"]
        if not names or not all(isinstance(name, str) and Path(name).name == name for name in names.values()):
            raise ValueError("weight_map does not name files beside it")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} is not an index of weights: {reason_of(error)}.", "Copy it again.") from error
    return dict(names)
