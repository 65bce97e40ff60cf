"""Weights in memory: read without running code, digested as they are loaded, and never with NaN in them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koda.errors import ModelError, reason_of
from koda.models.pickles import load_pickle
from koda.models.state_dicts import OPEN_CLIP_ORDER, check_merged, model_names, state_dict_of
from koda.models.weight_files import check_regular, files_of, is_index, read_index
from koda.storage.safetensors import read_header

if TYPE_CHECKING:
    import torch

_SETTLED_NS = 2_000_000_000  # no clock of a file system is coarser; a file that just changed could do so unseen
_Stamps = tuple[tuple[int, ...], ...]
# what files were when they were digested, and the order -> the digest, and the key that held the weights
_digested: dict[tuple[_Stamps, tuple[str, ...]], tuple[str, str]] = {}
_HEADER_STARTS_AT = 8  # bytes of a safetensors file, after which its JSON begins


@dataclass(frozen=True)
class WeightsOnDisk:
    """The weights that a path stands for.

    Args:
        digest: sha256 over (name, dtype, shape, bytes) of the tensors, sorted by the names that the model gives.
        entry: the key under which a training checkpoint holds them; "" where the file holds nothing else.
        files: that hold them.
    """

    digest: str
    entry: str
    files: tuple[Path, ...]


def look_at_weights(path: Path, order: Sequence[str] = OPEN_CLIP_ORDER) -> WeightsOnDisk:
    """Digest the weights of a file, or of the shards of an index: the same for .pt, re-saved .pt and safetensors.

    In one process files that stood still are digested once: a sweep looks at the same weights in each of its cells.

    Args:
        path: a checkpoint, or the index of one in several files.
        order: see :func:`koda.models.state_dicts.state_dict_of`.

    Raises:
        ModelError: a file that cannot be read, holds more than tensors, or no or several state dicts.
    """
    files = files_of(path)
    stamps, now = _stamps(path, files), time.time_ns()
    if (known := _digested.get((stamps, tuple(order)))) is not None:
        return WeightsOnDisk(*known, tuple(files))
    if all(map(_is_safetensors, files)):
        digest, entry = _digest_tensors(_safetensors_items(path, files)), ""
    else:
        state, entry = _read(path, files, order)
        digest = digest_state_dict(state)
    if _stamps(path, files) == stamps and all(now - changed > _SETTLED_NS for *_, changed in stamps):
        _digested[stamps, tuple(order)] = digest, entry
    return WeightsOnDisk(digest, entry, tuple(files))


def read_weights(path: Path, digest: str, order: Sequence[str] = OPEN_CLIP_ORDER) -> dict[str, Any]:
    """Read the tensors that :func:`look_at_weights` digested, under the names that the model gives.

    Raises:
        ModelError: as there, or other weights than when they were digested.
    """
    files = files_of(path)
    stamps = _stamps(path, files)
    state, _ = _read(path, files, order)
    known, _ = _digested.get((stamps, tuple(order)), ("", ""))
    untouched = _stamps(path, files) == stamps and known == digest
    if not untouched and digest_state_dict(state) != digest:
        raise ModelError(
            f"The weights {path} changed between their digest and their loading: something is writing to them.",
            "Wait until they are whole, or audit a copy.",
        )
    return state


def _stamps(path: Path, files: Sequence[Path]) -> _Stamps:
    """Return what changes with files: their places on the disk, sizes and times; the last is that of any change.

    An index counts beside its shards: what it names must be in them.
    """
    found = [each.stat() for each in dict.fromkeys([*files, path])]
    return tuple((at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns) for at in found)


def _read(path: Path, files: Sequence[Path], order: Sequence[str]) -> tuple[dict[str, Any], str]:
    if not is_index(path):
        loaded = _load(files[0])
        return state_dict_of(loaded, path, order)
    together: dict[str, Any] = {}
    for file in files:
        part = _load(file)
        together |= part if isinstance(part, dict) else {}
    if missing := sorted(set(read_index(path)) - set(together)):
        raise _not_in_the_shards(path, missing)
    return state_dict_of(together, path, ())[0], ""


def _load(path: Path) -> Any:
    """Load a file, by what it is rather than by its name: files of the hub's cache have none."""
    if not _is_safetensors(path):
        return load_pickle(path)
    return _load_safetensors(path)


def _load_safetensors(path: Path) -> dict[str, Any]:
    """Read the tensors into memory: mapped from the file, as safetensors does, they would follow a change of it."""
    import torch
    from safetensors.torch import _TYPES

    header, start = _header(path)
    state: dict[str, Any] = {}
    types: dict[str, Any] = dict(_TYPES)
    try:
        with path.open("rb") as file:
            for name, entry in header.items():
                first, last = entry["data_offsets"]
                data = torch.empty(last - first, dtype=torch.uint8)
                file.seek(start + first)
                room: Any = data.numpy()
                if file.readinto(room) != last - first:
                    raise ValueError(f"the file ends before the tensor {name!r}")
                state[name] = data.view(types[entry["dtype"]]).reshape(entry["shape"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise _unreadable(path, error) from error
    return state


def _is_safetensors(path: Path) -> bool:
    if path.suffix == ".safetensors":
        return True
    check_regular(path, "The checkpoint")
    with path.open("rb") as file:
        return file.read(_HEADER_STARTS_AT + 2)[_HEADER_STARTS_AT:] == b'{"'


def digest_state_dict(state: Mapping[str, Any]) -> str:
    """Return the digest of a state dict in memory: that of a file with the same tensors."""
    return _digest_tensors(_tensor_items(state))


def _digest_tensors(tensors: Iterable[tuple[str, str, list[int], bytes]]) -> str:
    state = hashlib.sha256()
    for name, dtype, shape, data in tensors:
        state.update(f"{name}\0{dtype}\0{tuple(shape)}\0".encode())
        state.update(data)
    return state.hexdigest()


def _safetensors_items(path: Path, files: Sequence[Path]) -> Iterator[tuple[str, str, list[int], bytes]]:
    """Read tensors as raw bytes, sorted by name, without torch: the headers say where each one lies."""
    places: dict[str, tuple[Path, dict[str, Any], int]] = {}
    for file in files:
        header, start = _header(file)
        places |= {name: (file, entry, start) for name, entry in header.items()}
    if is_index(path) and (missing := sorted(set(read_index(path)) - set(places))):
        raise _not_in_the_shards(path, missing)
    check_merged(places, path)
    own = model_names(places)
    for name in sorted(own, key=own.__getitem__):
        file, entry, start = places[name]
        try:
            first, last = entry["data_offsets"]
            with file.open("rb") as opened:
                opened.seek(start + first)
                data = opened.read(last - first)
            if len(data) != last - first:
                raise ValueError(f"the file ends before the tensor {name!r}")
            yield own[name], entry["dtype"], entry["shape"], data
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _unreadable(file, error) from error


def _header(path: Path) -> tuple[dict[str, Any], int]:
    try:
        with path.open("rb") as file:
            header, start = read_header(file, path.stat().st_size)
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, error) from error
    header.pop("__metadata__", None)
    return header, start


def _unreadable(path: Path, error: BaseException) -> ModelError:
    return ModelError(
        f"The weights file {path} cannot be read: {reason_of(error)}.", "It may be truncated; copy it again."
    )


def _not_in_the_shards(path: Path, missing: Sequence[str]) -> ModelError:
    return ModelError(
        f"The files that {path} lists lack {len(missing)} tensors, the first is {missing[0]!r}.", "Copy them again."
    )


def _tensor_items(state: Mapping[str, Any]) -> Iterator[tuple[str, str, list[int], bytes]]:
    """Give the tensors of a state dict in the form safetensors has them; anything else in it is passed over."""
    import torch
    from safetensors.torch import _TYPES

    names = {dtype: name for name, dtype in _TYPES.items()}
    for name, tensor in sorted(state.items()):
        if isinstance(tensor, torch.Tensor):
            flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            yield name, names.get(tensor.dtype, str(tensor.dtype)), list(tensor.shape), flat.numpy().tobytes()


def load_all(model: torch.nn.Module, state: Mapping[str, Any]) -> None:
    """Load weights, every one of them and no other.

    Raises:
        ModelError: quantised ones, which would be taken for the numbers themselves.
        RuntimeError: what is missing, is too much or has another shape.
    """
    for name, own in model.state_dict().items():
        if name in state and own.is_floating_point() and not state[name].is_floating_point():
            raise ModelError(
                f"The weights hold {name!r} as {str(state[name].dtype).removeprefix('torch.')}: they are quantised.",
                "Give the weights as they were before.",
            )
    model.load_state_dict(state, strict=True)


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
