"""From what a training loop saved to the state dict of the model, under the names that the model itself gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from koda.errors import ModelError

TIMM_ORDER = ("state_dict_ema", "model_ema", "state_dict", "model")  # timm's own: averaged weights before the last
OPEN_CLIP_ORDER = ("state_dict",)
_TRAINED = ("state_dict", "model", "module", "model_state_dict", "model_state", "net", "network", "weights", "params")
_AVERAGED = ("state_dict_ema", "model_ema", "ema", "ema_state_dict", "ema_model", "params_ema")
_NO_MODEL = ("optim", "scheduler", "scaler", "lr_", "rng", "callbacks", "loops", "hyper_parameters", "args", "config")
# names that wrappers put before, or among, the names of the model
_LEADING = ("module.", "model.")
_ANYWHERE = ("_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_COUNTER = "n_averaged"  # torch's AveragedModel counts in it; no weight
_MAX_DEPTH = 4
_SHOWN = 8


def state_dict_of(loaded: Any, path: Path, order: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Find the state dict in what a checkpoint holds, and say under which key it lay ("" where it is the whole).

    Args:
        loaded: what the file holds.
        path: for messages.
        order: keys of which the library that the model belongs to takes the first that is there.

    Raises:
        ModelError: none, or several of which no rule takes one.
    """
    import torch

    found = loaded
    at: list[str] = []
    while not _is_state(found):
        if not isinstance(found, Mapping) or len(at) == _MAX_DEPTH:
            raise _no_state(loaded, path)
        key = _key_of_state(found, path, order if not at else ())
        if key is None:
            raise _no_state(loaded, path)
        at.append(key)
        found = found[key]
    state = {name: value for name, value in found.items() if _is_tensor(value)}
    if odd := [name for name, value in state.items() if value.is_quantized or value.layout != torch.strided]:
        raise ModelError(
            f"The checkpoint {path} holds quantised or sparse tensors ({odd[0]}).",
            "Give the weights as they were before.",
        )
    check_merged(state, path)
    own = model_names(state)
    return {own[name]: state[name] for name in state if name in own}, ".".join(at)


def check_merged(names: Iterable[str], path: Path) -> None:
    """Refuse the weights of an adapter, which are not those of the model.

    Raises:
        ModelError: with the first of them.
    """
    if adapters := [name for name in names if ".lora_" in name or name.startswith("lora_")]:
        raise ModelError(
            f"The checkpoint {path} holds a LoRA adapter that is not merged ({adapters[0]}).",
            "Merge it (peft: model.merge_and_unload()) and save the model's state dict.",
        )


def model_names(names: Iterable[str]) -> dict[str, str]:
    """Return each name of a checkpoint -> the model's own, without what DDP, FSDP, torch.compile and Lightning add.

    >>> model_names(["module._orig_mod.a.weight", "module._orig_mod.b"])
    {'module._orig_mod.a.weight': 'a.weight', 'module._orig_mod.b': 'b'}
    """
    own = {
        name: ".".join(part for part in name.split(".") if part not in _ANYWHERE) for name in names if name != _COUNTER
    }
    while prefix := next((p for p in _LEADING if own and all(name.startswith(p) for name in own.values())), None):
        own = {name: short.removeprefix(prefix) for name, short in own.items()}
    if len(set(own.values())) < len(own):  # then what looked like a wrapper's name is one of the model's
        return {name: name for name in own}
    return own


def _key_of_state(loaded: Mapping[Any, Any], path: Path, order: Sequence[str]) -> str | None:
    """Return the key under which the state dict lies: the library's choice, the only usual one, or the only one."""
    for key in order:
        if loaded.get(key) is not None and _holds_state(loaded[key]):
            return key
    holding = [key for key, value in loaded.items() if isinstance(key, str) and _holds_state(value)]
    usual = [key for key in (*_TRAINED, *_AVERAGED) if key in holding]
    candidates = usual or [key for key in holding if not key.lower().startswith(_NO_MODEL)]
    if len(candidates) > 1:
        listed = ", ".join(candidates[:_SHOWN])
        raise ModelError(
            f"The checkpoint {path} holds {len(candidates)} state dicts: {listed}.",
            "Save the one to audit by itself, such as torch.save(torch.load("
            f"{path.name!r}, map_location='cpu')[{candidates[0]!r}], 'weights.pt').",
        )
    return candidates[0] if candidates else None


def _holds_state(value: Any, depth: int = 0) -> bool:
    if _is_state(value):
        return True
    deeper = isinstance(value, Mapping) and "param_groups" not in value and depth < _MAX_DEPTH
    return deeper and any(isinstance(key, str) and _holds_state(inner, depth + 1) for key, inner in value.items())


def _is_state(value: Any) -> bool:
    """Tell whether a value is names with tensors; numbers and notes may lie among them, other containers not."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        return False
    tensors = any(_is_tensor(inner) for inner in value.values())
    return tensors and not any(isinstance(inner, Mapping | list | tuple | set) for inner in value.values())


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _no_state(loaded: Any, path: Path) -> ModelError:
    """Say what a checkpoint without a state dict holds."""
    if isinstance(loaded, Mapping) and "param_groups" in loaded:
        return ModelError(
            f"The checkpoint {path} holds no state dict: it is the state of an optimiser.",
            "Give the file of the model's weights, which lies beside it.",
        )
    held = f"a {type(loaded).__name__}"
    if isinstance(loaded, Mapping):
        held = "nothing" if not loaded else "the keys " + ", ".join(map(repr, list(loaded)[:_SHOWN]))
    return ModelError(f"The checkpoint {path} holds no state dict, but {held}.", "Save model.state_dict().")
