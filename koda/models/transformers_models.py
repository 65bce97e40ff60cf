"""CLIP and SigLIP as transformers saves them: a folder with config.json, a processor and a tokenizer beside weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koda.config import ModelSpec
from koda.errors import ModelError, reason_of
from koda.models.encoder import Encoder
from koda.models.fingerprint import ModelContents, ResolvedModel, TokenizerFiles
from koda.models.libraries import versions_of
from koda.models.messages import first_line, loading, needing, quiet
from koda.models.pixels import Pixels
from koda.models.precision import dtype_of
from koda.models.processors import read_processor, transform_of
from koda.models.tokenizers import digest_files, refuse_code
from koda.models.weight_files import check_regular, find_weights, weights_at
from koda.models.weights import check_finite, load_all, look_at_weights, read_weights

if TYPE_CHECKING:
    import torch

CONFIG = "config.json"
# model type -> what its text tower is given; SigLIP's was trained without a mask
_INPUTS = {"clip": ("input_ids", "attention_mask"), "siglip": ("input_ids",)}
_NOTES = ("transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype")  # that decide nothing


@dataclass(frozen=True)
class TransformersTokenizer:
    """A tokenizer of transformers that gives what a text tower takes.

    Args:
        tokenizer: of transformers.
        context_length: in tokens; longer captions are cut.
        inputs: names of what the tower takes.
    """

    tokenizer: Any
    context_length: int
    inputs: tuple[str, ...]

    def __call__(self, captions: Sequence[str], place: torch.device) -> dict[str, torch.Tensor]:
        """Return the text tower's inputs, each (b, context length), on a device."""
        made = self.tokenizer(
            list(captions), padding="max_length", truncation=True, max_length=self.context_length, return_tensors="pt"
        )
        return {name: made[name].to(place) for name in self.inputs}


def find(spec: ModelSpec, device: str) -> ModelContents:
    """Find the configuration, the weights, the processor and the tokenizer in a folder.

    Raises:
        ModelError: another kind of model, code that would run, no weights, or preprocessing that nobody stated.
        PrerequisiteError: transformers is not installed.
    """
    folder = Path(spec.place)
    config = _read_config(folder / CONFIG)
    if spec.force_quick_gelu or spec.image_size is not None:
        raise ModelError(
            f"{spec.name}: force_quick_gelu and image_size are not for models of transformers; config.json says both.",
            "Remove them.",
        )
    refuse_code(folder, "AutoConfig", "AutoModel", "AutoTokenizer", "AutoProcessor", "AutoImageProcessor")
    preprocessing = read_processor(folder)
    if spec.image_mean is not None and spec.image_std is not None:
        size = config["vision_config"].get("image_size", 224)
        preprocessing = preprocessing or {"resize": size, "crop": [size, size], "interpolation": "bicubic"}
        preprocessing |= {"mean": list(spec.image_mean), "std": list(spec.image_std)}
    if not preprocessing:
        raise ModelError(
            f"{folder} does not state the preprocessing (preprocessor_config.json).",
            "Wrong means change every embedding, so koda does not guess. Copy that file from the model that was "
            "fine-tuned, or state image_mean and image_std.",
        )
    with needing("koda-audit[siglip]", f"The model {spec.name}"):
        import transformers  # noqa: F401 (it is to be missed here, not after an hour)
    checkpoint = weights_at(Path(spec.pretrained)) if spec.pretrained else find_weights(folder)
    weights = look_at_weights(checkpoint)
    return ModelContents(
        weights.digest,
        {"transformers": {name: value for name, value in config.items() if name not in _NOTES}},
        preprocessing,
        checkpoint,
        entry=weights.entry,
        files=_files(folder),
        libraries=versions_of("torch", "torchvision", "PIL", "transformers", "tokenizers"),
        tokenizer=TokenizerFiles(folder, {}),
    )


def _files(folder: Path) -> dict[str, str]:
    """Digest the tokenizer; the configuration stands in the fingerprint by itself."""
    return {name: digest for name, digest in digest_files(folder).items() if name != f"tokenizer/{CONFIG}"}


def _read_config(path: Path) -> dict[str, Any]:
    check_regular(path, "The configuration")
    try:
        config: dict[str, Any] = dict(json.loads(path.read_text(encoding="utf-8")))
        kind = config.get("model_type")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"{path} is not a configuration of transformers: {reason_of(error)}.") from error
    if kind not in _INPUTS or not all(isinstance(config.get(f"{t}_config"), dict) for t in ("vision", "text")):
        raise ModelError(
            f"{path.parent} holds a model of transformers of the type {kind!r}; koda loads {' and '.join(_INPUTS)} "
            "with both towers from such folders.",
            "Make it in a function of your own (python:file.py:function), or write open_clip_config.json beside "
            "weights of open_clip.",
        )
    return config


def load(resolved: ResolvedModel, place: torch.device) -> Encoder:
    """Load a model of transformers; no class of it comes from the folder.

    Raises:
        ModelError: as :func:`koda.models.load_encoder`.
        PrerequisiteError: transformers is not installed.
    """
    import torch
    from transformers import AutoConfig, AutoModel

    fingerprint = resolved.fingerprint
    settings = dict(fingerprint.config["transformers"])
    kind = settings.pop("model_type")
    assert resolved.checkpoint is not None
    with loading(resolved, "The configuration must be the one they were trained with."):
        make: Any = AutoModel.from_config
        model = make(AutoConfig.for_model(kind, **settings), dtype=torch.float32)
        _fill(model, read_weights(resolved.checkpoint, fingerprint.weights))
    check_finite(resolved.label, model)
    dtype = dtype_of(fingerprint.precision)
    model.eval().to(place, dtype)
    tokenizer = _tokenizer(resolved, int(model.config.text_config.max_position_embeddings), _INPUTS[kind])
    pixels = Pixels.of(transform_of(fingerprint.preprocessing), dtype)

    def image(batch: torch.Tensor) -> torch.Tensor:
        return _pooled(model.get_image_features(pixel_values=batch))

    def text(captions: Sequence[str]) -> torch.Tensor:
        return _pooled(model.get_text_features(**tokenizer(captions, place)))

    with torch.inference_mode():
        dims = {"image": image(pixels.empty(1).zero_().to(place)).shape[1], "text": text(["a photo"]).shape[1]}
    vision = model.config.vision_config
    return Encoder(
        resolved=resolved,
        device=place,
        dtype=dtype,
        architecture=f"{type(model).__name__} of transformers, ViT, {vision.num_hidden_layers} layers of "
        f"{vision.hidden_size}, patch {vision.patch_size}",
        dims={name: int(width) for name, width in dims.items()},
        image=image,
        text=text,
        pixels=pixels,
        tokenizer=tokenizer,
        context_length=tokenizer.context_length,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        model=model,
    )


def _fill(model: Any, state: dict[str, Any]) -> None:
    """Load weights, every one of them; older versions of transformers also saved the numbers of the positions."""
    wanted = model.state_dict()
    state = {name: t for name, t in state.items() if name in wanted or not name.endswith(".position_ids")}
    load_all(model, state)


def _pooled(output: Any) -> torch.Tensor:
    """Return the embeddings (b, d): transformers gives them alone up to version 4, and among others from 5 on."""
    pooled: torch.Tensor = output if hasattr(output, "shape") else output.pooler_output
    return pooled


def _tokenizer(resolved: ResolvedModel, length: int, inputs: tuple[str, ...]) -> TransformersTokenizer:
    """Load the tokenizer, and see that its files are still those that were digested."""
    from transformers import AutoTokenizer

    assert resolved.tokenizer is not None and resolved.tokenizer.folder is not None
    folder = resolved.tokenizer.folder
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except Exception as error:
        raise ModelError(
            f"{resolved.label}: its tokenizer cannot be loaded: {first_line(error)}",
            "Save it into the folder: tokenizer.save_pretrained(...).",
        ) from error
    if _files(folder) != resolved.fingerprint.files:
        raise ModelError(
            f"{resolved.label}: the files of its tokenizer changed between their digest and their loading.",
            "Wait until they are whole, or audit a copy.",
        )
    return TransformersTokenizer(tokenizer, length, inputs)
