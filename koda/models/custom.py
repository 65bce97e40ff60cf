"""A team's own model: a Python function of theirs that makes it, called and held to what it says.

`python:package.module:function` or `python:/path/file.py:function`. The function takes no argument and returns

- a torch.nn.Module or any callable: images (b, 3, h, w) -> (b, d); or
- an object with `encode_image` (as above), `encode_text` (a list of b captions -> (b, d)), or both.

It runs with the rights of whoever runs koda, as any import does.
"""

from __future__ import annotations

import importlib
import inspect
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from koda.config import ModelSpec
from koda.devices import device_of
from koda.errors import ModelError
from koda.models.encoder import Encoder
from koda.models.fingerprint import ModelContents, ResolvedModel
from koda.models.libraries import versions_imported, versions_of
from koda.models.messages import first_line
from koda.models.own_code import own_code
from koda.models.own_imports import fresh_imports, import_file
from koda.models.pixels import Pixels
from koda.models.precision import dtype_of
from koda.models.weight_files import check_regular
from koda.models.weights import check_finite, digest_state_dict
from koda.storage import digest_json
from koda.typing import MODALITIES

if TYPE_CHECKING:
    import torch

_PROBE_CAPTION = "a photo"
_METHODS = {"image": "encode_image", "text": "encode_text"}


def find(spec: ModelSpec, device: str) -> ModelContents:
    """Make the model once, to see what it can do, and digest its weights and the source that made it.

    A Module's weights are its state dict. Of any other object not all weights can be seen, so the embeddings of a
    fixed picture and caption are digested beside the Modules that it holds.

    Raises:
        ModelError: code that cannot be imported or fails, or preprocessing that nobody stated.
    """
    if spec.pretrained or spec.force_quick_gelu:
        raise ModelError(f"{spec.name}: pretrained and force_quick_gelu are not for python: models.", "Remove them.")
    with fresh_imports(_file(spec)) as reads:
        function, module = _function(spec)
        made = _make(spec.name, function)
        towers = _towers(spec.name, made)
        modalities = tuple(name for name in MODALITIES if name in towers)
        preprocessing = _preprocessing(spec) if "image" in towers else {}
        if spec.precision in ("bf16", "fp16") and not _is_module(made):
            raise ModelError(
                f"{spec.name} returns no torch.nn.Module, so koda cannot change its precision.",
                "Remove `precision`; the function may choose it.",
            )
        weights = held = _digest(_modules(made))
        if not _is_module(made):
            weights = digest_json([held, _probes(spec.name, towers, preprocessing, device_of(device))])
        code = own_code(_modules_of(module, function, made), reads)
    config = {"python": function.__name__, "class": type(made).__name__, "held_weights": held}
    libraries = versions_of("torch", *(["torchvision", "PIL"] if "image" in towers else []))
    return ModelContents(
        weights,
        config,
        preprocessing,
        None,
        modalities,
        files=code.digests,
        libraries={**libraries, **versions_imported(code.imports | {module})},
    )


def load(resolved: ResolvedModel, place: torch.device) -> Encoder:
    """Make the model again, on a device and in a precision.

    A Module is moved there; any other object is left where it put itself, and gets its pixels on the device.

    Raises:
        ModelError: code that fails, another shape than agreed, or other weights than when it was looked at.
    """
    fingerprint, name = resolved.fingerprint, resolved.spec.name
    with fresh_imports(_file(resolved.spec)) as reads:
        function, module = _function(resolved.spec)
        made = _make(name, function)
        towers = _towers(name, made)
        modules = _modules(made)
        _check_same(resolved, made, towers, place)
        dtype = dtype_of(fingerprint.precision)
        for held in modules.values():
            check_finite(resolved.label, held)
        if _is_module(made):
            made.to(place, dtype)
        pixels = Pixels.of(_transform(fingerprint.preprocessing), dtype) if "image" in towers else None
        calls = {modality: _checked(name, tower) for modality, tower in towers.items()}
        dims = {modality: _probe(calls[modality], modality, pixels, place).shape[1] for modality in calls}
        code = own_code(_modules_of(module, function, made), reads).digests
    if any(code.get(file, digest) != digest for file, digest in fingerprint.files.items()):
        raise ModelError(
            f"The code of {name}, or a file that it reads, changed since it was digested.", "Run it again."
        )
    return Encoder(
        resolved=resolved,
        device=place,
        dtype=dtype,
        architecture=f"{type(made).__name__} of {function.__module__}.{function.__name__}",
        dims=dims,
        image=calls.get("image"),
        text=calls.get("text"),
        pixels=pixels,
        parameters=sum(p.numel() for held in modules.values() for p in held.parameters()) if modules else None,
        model=made,
    )


def _check_same(resolved: ResolvedModel, made: Any, towers: Mapping[str, Any], place: torch.device) -> None:
    """Refuse a model whose weights, as far as they can be seen, are not those that were digested."""
    fingerprint, name = resolved.fingerprint, resolved.spec.name
    held = _digest(_modules(made))
    if held != fingerprint.config["held_weights"]:
        raise ModelError(
            f"{name} makes a model with other weights each time it is called.",
            "Let it load trained weights, or set a seed in it; and let nothing write to them while koda runs.",
        )
    if not _is_module(made):
        probes = _probes(name, towers, fingerprint.preprocessing, place)
        if digest_json([held, probes]) != fingerprint.weights:
            raise ModelError(
                f"{name} gives other embeddings of the same picture or caption each time it is made.",
                "Let it load trained weights, set a seed in it, and leave out what is random.",
            )


def _file(spec: ModelSpec) -> Path | None:
    source, _ = spec.source_and_function
    return Path(source) if source.endswith(".py") else None


def _modules_of(module: str, function: Callable[[], Any], made: Any) -> list[str]:
    """Return the names of the modules in which a model's code lies: the one asked for, and those of its classes."""
    parts = [made, *_modules(made).values(), *getattr(made, "__dict__", {}).values()]
    inner = [part for held in _modules(made).values() for part in held.modules()]
    classes = {kind.__module__ for each in (*parts, *inner) for kind in type(each).__mro__}
    functions = {getattr(each, "__module__", None) for each in (inspect.unwrap(function), *parts)}
    return [module, *sorted(classes | {name for name in functions if isinstance(name, str)})]


def _function(spec: ModelSpec) -> tuple[Callable[[], Any], str]:
    """Return the function that a spec names, and the name of the module that it was found in."""
    name, (place, wanted) = spec.name, spec.source_and_function
    if not place or not wanted.isidentifier():
        raise ModelError(f"{name!r} names no function.", "Write python:package.module:function or python:file.py:name.")
    try:
        module = _import_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and (place == error.name or place.startswith(f"{error.name}.")):
            raise ModelError(
                f"{name}: there is no module {error.name!r}.", "Install it, or give the path of a file: python:file.py:"
                f"{wanted}",
            ) from error  # fmt: skip
        raise _failure(f"{name} cannot be imported", error) from error
    except ModelError:
        raise
    except (Exception, SystemExit) as error:
        raise _failure(f"{name} cannot be imported", error) from error
    function = getattr(module, wanted, None)
    if not callable(function):
        raise ModelError(f"{name}: {place} has no function {wanted!r}.", "Define it at the top level of the module.")
    if module.__file__ is None or not module.__file__.endswith(".py"):
        raise ModelError(f"{name}: the source of {wanted!r} cannot be found.", "Define it in a .py file.")
    return function, module.__name__


def _import_file(path: Path) -> ModuleType:
    check_regular(path, "The file")
    # a name of its own for each path: two files called model.py are two modules
    name = f"koda_model_{digest_json(str(path.resolve()))[:16]}"
    return import_file(name, path)


def _make(name: str, function: Callable[[], Any]) -> Any:
    try:
        made = function()
    except (Exception, SystemExit) as error:
        raise _failure(f"{name} failed", error) from error
    for module in _modules(made).values():
        module.eval()
    return made


def _towers(name: str, made: Any) -> dict[str, Callable[[Any], Any]]:
    """Return modality -> what embeds it."""
    towers = {modality: getattr(made, method, None) for modality, method in _METHODS.items()}
    callables = {modality: tower for modality, tower in towers.items() if callable(tower)}
    if not callables and callable(made):
        return {"image": made}
    if not callables:
        raise ModelError(
            f"{name} returned {type(made).__name__}, which is no model.",
            "Return a torch.nn.Module or callable on images, or an object with encode_image or encode_text.",
        )
    return callables


def _preprocessing(spec: ModelSpec) -> dict[str, Any]:
    if spec.image_size is None or spec.image_mean is None or spec.image_std is None:
        raise ModelError(
            f"{spec.name} does not say how its images are prepared.",
            "Wrong values change every embedding, so koda does not guess. State image_size, image_mean and image_std "
            "for the model.",
        )
    return {
        "size": spec.image_size,
        "mode": "RGB",
        "mean": list(spec.image_mean),
        "std": list(spec.image_std),
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        "fill_color": 0,
    }


def _transform(preprocessing: Mapping[str, Any]) -> Any:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    return image_transform_v2(PreprocessCfg(**preprocessing), is_train=False)


def _is_module(made: Any) -> bool:
    import torch

    return isinstance(made, torch.nn.Module)


def _modules(made: Any) -> dict[str, Any]:
    """Return the Modules that can be seen: the object itself, or those that it, or its function, holds."""
    if _is_module(made):
        return {"": made}
    held = dict(getattr(made, "__dict__", {}))
    if inspect.isfunction(made):
        held = dict(inspect.getclosurevars(made).nonlocals)
    return {name: value for name, value in sorted(held.items()) if _is_module(value)}


def _digest(modules: Mapping[str, Any]) -> str:
    return digest_state_dict({f"{at}.{name}": t for at, m in modules.items() for name, t in m.state_dict().items()})


def _probes(name: str, towers: Mapping[str, Any], preprocessing: dict[str, Any], place: torch.device) -> str:
    """Digest the embeddings of one fixed picture and caption."""
    import torch

    pixels = Pixels.of(_transform(preprocessing), torch.float32) if "image" in towers else None
    return digest_state_dict({m: _probe(_checked(name, t), m, pixels, place) for m, t in towers.items()})


def _probe(call: Callable[[Any], torch.Tensor], modality: str, pixels: Pixels | None, place: torch.device) -> Any:
    """Embed one fixed picture or caption: (1, d)."""
    import torch

    with torch.inference_mode():
        if modality == "text" or pixels is None:
            return call([_PROBE_CAPTION])
        shape = pixels.empty(1).shape
        return call(torch.linspace(-1, 1, shape.numel()).view(shape).to(place, pixels.dtype))


def _checked(name: str, tower: Callable[[Any], Any]) -> Callable[[Any], torch.Tensor]:
    """Return a tower whose failures are told with file and line, and whose results have the agreed shape."""

    def call(batch: Any) -> torch.Tensor:
        import torch

        try:
            result = torch.as_tensor(tower(batch))
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:
            if "allocate" in str(error):  # the CPU's allocator has no error class of its own
                raise
            raise _failure(f"{name} failed on a batch of {len(batch)}", error) from error
        if result.ndim != 2 or len(result) != len(batch) or not result.is_floating_point():
            raise ModelError(
                f"{name} returned {result.dtype} of shape {tuple(result.shape)} for a batch of {len(batch)}.",
                f"It is to return floating-point embeddings of shape ({len(batch)}, d).",
            )
        return result

    return call


def _failure(what: str, error: BaseException) -> ModelError:
    """Say what went wrong in someone's code, with the file and the line."""
    where = ""
    if isinstance(error, SyntaxError):
        where = f" ({error.filename}, line {error.lineno})"
    elif frames := [f for f in traceback.extract_tb(error.__traceback__) if not _is_ours(f.filename)]:
        own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
        where = f" ({own[-1].filename}, line {own[-1].lineno})"
    return ModelError(f"{what}: {type(error).__name__}: {first_line(error)}{where}", "Mend it and run again.")


def _is_ours(file: str) -> bool:
    return file == __file__ or file.startswith("<frozen")
