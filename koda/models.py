"""Vision-language models through open_clip: found, fingerprinted, loaded, and never with random weights."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from koda.config import ModelSpec
from koda.digest import digest_json, digest_weights
from koda.errors import ModelError, PrerequisiteError

if TYPE_CHECKING:
    import torch
    from PIL import Image

LOCAL, HUB = "local-dir:", "hf-hub:"
_OPENAI_NOTE = (
    "For a model trained with open_clip's defaults:\n"
    "    image_mean: [0.48145466, 0.4578275, 0.40821073]\n    image_std: [0.26862954, 0.26130258, 0.27577711]"
)
_FINGERPRINT_VERSION = 1


@dataclass(frozen=True)
class ModelFingerprint:
    """What decides the embeddings of a model: weights, configuration, preprocessing, precision.

    ``digest`` names all of it; two specs with the same digest give the same embeddings.
    """

    weights: str
    config: dict[str, Any]
    preprocessing: dict[str, Any]
    precision: str

    @property
    def activation(self) -> str:
        """The activation function, which weights alone do not tell."""
        return "QuickGELU" if self.config.get("quick_gelu") else "GELU"

    @property
    def config_digest(self) -> str:
        """Digest of the architecture with its activation and preprocessing."""
        return digest_json([self.config, self.preprocessing])

    @property
    def digest(self) -> str:
        """Digest of the whole fingerprint."""
        return digest_json([_FINGERPRINT_VERSION, self.weights, self.config, self.preprocessing, self.precision])


@dataclass(frozen=True)
class ResolvedModel:
    """A model whose files were found, before it is loaded."""

    spec: ModelSpec
    checkpoint: Path
    fingerprint: ModelFingerprint

    @property
    def label(self) -> str:
        """The name the report uses."""
        if self.spec.label:
            return self.spec.label
        if self.spec.name.startswith(LOCAL):
            return Path(self.spec.name.removeprefix(LOCAL)).name
        name = self.spec.name.removeprefix(HUB)
        return f"{name}@{Path(self.spec.pretrained).name}" if self.spec.pretrained else name


def resolve_model(spec: ModelSpec) -> ResolvedModel:
    """Find a model's configuration and weights and compute its fingerprint, without loading it.

    Raises:
        ModelError: no such model, no weights, a configuration that cannot be read, an activation
            that is not the one the weights were trained with, or preprocessing that nobody stated.
    """
    if spec.name.startswith(LOCAL):
        config, preprocessing, checkpoint = _from_folder(spec, Path(spec.name.removeprefix(LOCAL)))
    elif spec.name.startswith(HUB):
        config, preprocessing, checkpoint = _from_hub(spec)
    else:
        config, preprocessing, checkpoint = _from_name(spec)
    if spec.force_quick_gelu:
        config = {**config, "quick_gelu": True}
    if spec.image_mean is not None and spec.image_std is not None:
        preprocessing = {**preprocessing, "mean": list(spec.image_mean), "std": list(spec.image_std)}
    fingerprint = ModelFingerprint(digest_weights(checkpoint), config, preprocessing, spec.precision)
    return ResolvedModel(spec, checkpoint, fingerprint)


def _from_folder(spec: ModelSpec, folder: Path) -> tuple[dict[str, Any], dict[str, Any], Path]:
    if spec.pretrained:
        raise ModelError(
            f"The model {spec.name} is a folder with its own weights; `pretrained: {spec.pretrained}` contradicts it.",
            "Remove `pretrained`.",
        )
    if not folder.is_dir():
        raise ModelError(f"The model folder {folder} does not exist.", "Check the path after `local-dir:`.")
    path = folder / "open_clip_config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        config, preprocessing = dict(raw["model_cfg"]), raw.get("preprocess_cfg")
        if not {"embed_dim", "vision_cfg", "text_cfg"} <= config.keys():
            raise ValueError("model_cfg lacks embed_dim, vision_cfg or text_cfg")
    except FileNotFoundError:
        raise ModelError(
            f"The model folder {folder} has no open_clip_config.json.",
            'Write one: {"model_cfg": {...}, "preprocess_cfg": {"mean": [...], "std": [...]}}.',
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is not an open_clip configuration: {error}.") from error
    if not preprocessing and spec.image_mean is None:
        raise ModelError(
            f"{path} does not state the preprocessing (preprocess_cfg: mean and std).",
            "Wrong means change every embedding, so koda does not guess. State image_mean and image_std for the "
            "model in koda's configuration. " + _OPENAI_NOTE,
        )
    known = ("open_clip_model.safetensors", "model.safetensors", "open_clip_pytorch_model.bin", "model.pth")
    candidates = [folder / name for name in known] + [
        file for suffix in ("*.safetensors", "*.pt", "*.bin", "*.pth") for file in sorted(folder.glob(suffix))
    ]
    checkpoint = next((file for file in candidates if file.is_file()), None)
    if checkpoint is None:
        raise ModelError(
            f"The model folder {folder} holds a configuration but no weights.",
            "Put open_clip_model.safetensors beside open_clip_config.json; koda never audits random weights.",
        )
    return config, _full_preprocessing(preprocessing or {}, config), checkpoint


def _from_hub(spec: ModelSpec) -> tuple[dict[str, Any], dict[str, Any], Path]:
    from open_clip.factory import _get_hf_config
    from open_clip.pretrained import download_pretrained_from_hf

    name = spec.name.removeprefix(HUB)
    try:
        with _quiet():
            raw = _get_hf_config(name)
            config, preprocessing = dict(raw["model_cfg"]), raw.get("preprocess_cfg", {})
            checkpoint = Path(download_pretrained_from_hf(name))
    except Exception as error:
        raise ModelError(
            f"The model {spec.name} cannot be fetched: {_first_line(error)}",
            "Without internet, copy the repository to this machine and use local-dir:FOLDER.",
        ) from error
    return config, _full_preprocessing(preprocessing, config), checkpoint


def _from_name(spec: ModelSpec) -> tuple[dict[str, Any], dict[str, Any], Path]:
    import difflib

    import open_clip
    from open_clip.pretrained import download_pretrained, get_pretrained_cfg

    name = spec.name.replace("/", "-")
    config = open_clip.get_model_config(name)
    if config is None:
        near = difflib.get_close_matches(name, open_clip.list_models(), n=1, cutoff=0.4)
        raise ModelError(
            f"open_clip knows no model {spec.name!r}." + (f" Did you mean {near[0]!r}?" if near else ""),
            "For a folder of your own use local-dir:FOLDER.",
        )
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not spec.pretrained:
        raise ModelError(
            f"The model {spec.name} has no weights: `pretrained` is missing.",
            f"Give a tag ({', '.join(tags) or 'open_clip has none for it'}) or a checkpoint file.",
        )
    tag = get_pretrained_cfg(name, spec.pretrained)
    if tag:
        quick = bool(config.get("quick_gelu") or spec.force_quick_gelu)
        if quick != bool(tag.get("quick_gelu")):
            right = "QuickGELU" if tag.get("quick_gelu") else "GELU"
            raise ModelError(
                f"The weights {spec.pretrained!r} were trained with {right}, but {spec.name} would run them with "
                "another activation, which changes every embedding.",
                f"Use {name}-quickgelu or set force_quick_gelu: true."
                if right == "QuickGELU"
                else "Use the plain name.",
            )
        try:
            with _quiet():
                checkpoint = Path(download_pretrained(tag))
        except Exception as error:
            raise ModelError(
                f"The weights {spec.pretrained!r} of {spec.name} cannot be fetched: {_first_line(error)}",
                "Without internet, put the checkpoint on this machine and give its path as `pretrained`.",
            ) from error
        return config, _full_preprocessing(tag, config), checkpoint
    checkpoint = Path(spec.pretrained)
    if not checkpoint.is_file():
        raise ModelError(
            f"{spec.pretrained!r} is neither a checkpoint file nor a tag of {spec.name}.",
            f"Its tags: {', '.join(tags) or 'none'}.",
        )
    if spec.image_mean is None:
        raise ModelError(
            f"The checkpoint file {checkpoint} does not say how its images were normalised.",
            "Wrong means change every embedding, so koda does not guess. State image_mean and image_std for the "
            "model. " + _OPENAI_NOTE,
        )
    return config, _full_preprocessing({}, config), checkpoint


def _full_preprocessing(stated: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Fill in what open_clip would, so that the fingerprint holds every value that is used."""
    defaults = {
        "size": config["vision_cfg"].get("image_size", 224),
        "mode": "RGB",
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        "fill_color": 0,
    }
    merged = {key: stated.get(key, value) for key, value in defaults.items()}
    merged["size"] = config["vision_cfg"].get("image_size", merged["size"])
    return {key: list(value) if isinstance(value, tuple) else value for key, value in merged.items()}


@dataclass(frozen=True)
class Encoder:
    """A loaded model: images and captions in, unit-length embeddings out."""

    resolved: ResolvedModel
    model: Any
    transform: Any
    tokenizer: Any
    device: torch.device
    dtype: torch.dtype
    context_length: int

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """Return one image as the model wants it: (3, height, width)."""
        tensor: torch.Tensor = self.transform(image)
        return tensor

    def encode_images(self, pixels: torch.Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Encode preprocessed images (b, 3, h, w); returns (b, d) of unit length, float32."""
        return self._encode(self.model.encode_image, pixels.to(self.device, self.dtype))

    def encode_texts(self, captions: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Encode captions; returns (b, d) of unit length, float32. Longer ones are cut, see :meth:`count_long`."""
        return self._encode(self.model.encode_text, self.tokenizer(list(captions)).to(self.device))

    def _encode(self, encode: Any, batch: torch.Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
        import torch

        with torch.inference_mode():
            features = encode(batch).float()
            features = features / features.norm(dim=-1, keepdim=True)
        array: np.ndarray[Any, np.dtype[np.float32]] = features.cpu().numpy()
        return array

    def count_long(self, captions: Sequence[str]) -> int:
        """Count the captions that the tokenizer cuts at the context length."""
        if hasattr(self.tokenizer, "encode"):  # CLIP's own byte-pair encoding; two places go to start and end
            return sum(len(self.tokenizer.encode(text)) + 2 > self.context_length for text in captions)
        inner = getattr(self.tokenizer, "tokenizer", None)
        if inner is None:
            return 0
        return sum(len(ids) > self.context_length for ids in inner(list(captions))["input_ids"])

    def describe(self) -> dict[str, Any]:
        """Return what the audit record says of the loaded model; it depends on the fingerprint alone."""
        found = self.resolved.fingerprint
        vision = found.config["vision_cfg"]
        size = found.preprocessing["size"]
        layers = vision.get("timm_model_name") or (
            f"ViT, {vision.get('layers')} layers of {vision.get('width')}, patch {vision.get('patch_size')}"
            if vision.get("patch_size")
            else f"ResNet, {vision.get('layers')}"
        )
        return {
            "architecture": f"{type(self.model).__name__}, {layers}",
            "weights_digest": found.weights,
            "config_digest": found.config_digest,
            "fingerprint": found.digest,
            "activation": found.activation,
            "image_size": (size, size) if isinstance(size, int) else tuple(size),
            "preprocessing": found.preprocessing,
            "tokenizer": type(self.tokenizer).__name__,
            "context_length": self.context_length,
            "embedding_dim": int(found.config["embed_dim"]),
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "precision": found.precision,
        }


def load_encoder(resolved: ResolvedModel, device: str = "auto") -> Encoder:
    """Load a resolved model for inference.

    Raises:
        ModelError: weights that do not fit the configuration, or a precision the device lacks.
        PrerequisiteError: a tokenizer whose package is not installed.
    """
    import open_clip
    import torch
    from open_clip.factory import load_checkpoint
    from open_clip.transform import PreprocessCfg, image_transform_v2

    from koda.kernels import device_of

    place = device_of(device)
    spec, found = resolved.spec, resolved.fingerprint
    if spec.precision == "fp16" and place.type == "cpu":
        raise ModelError(f"{resolved.label}: fp16 needs a GPU.", "Use precision: bf16 or fp32.")
    precision = {"fp32": "fp32", "bf16": "pure_bf16", "fp16": "pure_fp16"}[spec.precision]
    try:
        with _quiet():
            name = spec.name if spec.name.startswith((LOCAL, HUB)) else spec.name.replace("/", "-")
            model = open_clip.create_model(
                name,
                precision=precision,
                device=place,
                load_weights=False,
                pretrained_text=False,
                force_quick_gelu=spec.force_quick_gelu,
            )
            load_checkpoint(model, str(resolved.checkpoint), strict=True, weights_only=True, device="cpu")
            tokenizer = open_clip.get_tokenizer(name)
    except ImportError as error:
        raise PrerequisiteError(
            f"{resolved.label} needs a package that is not installed: {_first_line(error)}",
            "pip install 'koda[siglip]'",
        ) from error
    except Exception as error:
        raise ModelError(
            f"{resolved.label}: the weights {resolved.checkpoint} do not load: {_first_line(error)}",
            "The configuration must be the one they were trained with.",
        ) from error
    if bad := [key for key, value in model.state_dict().items() if not torch.isfinite(value).all()]:
        raise ModelError(
            f"{resolved.label}: {len(bad)} weight tensors hold NaN or infinity, the first is {bad[0]!r}.",
            "The training diverged, or the file is damaged.",
        )
    model.eval()
    transform = image_transform_v2(PreprocessCfg(**found.preprocessing), is_train=False)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[spec.precision]
    length = int(getattr(tokenizer, "context_length", None) or found.config["text_cfg"].get("context_length", 77))
    return Encoder(resolved, model, transform, tokenizer, place, dtype, length)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence open_clip's root-logger chatter; what matters is raised as an error of ours."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__).rstrip(".") + "."
