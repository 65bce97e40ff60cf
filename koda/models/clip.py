"""Models of open_clip (CLIP, SigLIP, SigLIP 2, CoCa and the like): found by name, in a folder, or on the hub."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koda.config import ModelSpec
from koda.errors import ModelError, PrerequisiteError, did_you_mean, nearest
from koda.models.encoder import Encoder
from koda.models.fingerprint import ModelContents, ResolvedModel
from koda.models.messages import fetching, first_line, loading, needing, quiet
from koda.models.pixels import Pixels
from koda.models.precision import dtype_of
from koda.models.weights import check_finite, digest_weights

if TYPE_CHECKING:
    import torch

OPENAI_NOTE = (
    "For a model trained with open_clip's defaults:\n"
    "    image_mean: [0.48145466, 0.4578275, 0.40821073]\n    image_std: [0.26862954, 0.26130258, 0.27577711]"
)
_CLIP_VOCABULARY = 49408  # tokens of open_clip's own tokenizer


def find(spec: ModelSpec, place: torch.device) -> ModelContents:
    """Find an open_clip model's configuration and weights.

    Raises:
        ModelError: as :func:`koda.models.resolve_model`.
        PrerequisiteError: a tokenizer whose package is not installed.
    """
    if spec.image_size is not None:
        raise ModelError(
            f"{spec.name}: image_size is for timm: and python: models; an open_clip model's configuration has its own.",
            "Remove image_size.",
        )
    if spec.kind == "local-dir":
        config, preprocessing, checkpoint = _from_folder(spec, Path(spec.place))
    elif spec.kind == "hf-hub":
        config, preprocessing, checkpoint = _from_hub(spec)
    else:
        config, preprocessing, checkpoint = _from_name(spec)
    _check_text(spec, config)
    if spec.force_quick_gelu:
        config = {**config, "quick_gelu": True}
    if spec.image_mean is not None and spec.image_std is not None:
        preprocessing = {**preprocessing, "mean": list(spec.image_mean), "std": list(spec.image_std)}
    return ModelContents(digest_weights(checkpoint), config, preprocessing, checkpoint)


def _check_text(spec: ModelSpec, config: dict[str, Any]) -> None:
    """Refuse a tokenizer that is missing, would be fetched in silence, or is not the one of the text tower."""
    text = config["text_cfg"]
    named = text.get("hf_tokenizer_name")
    if named or text.get("hf_model_name"):
        if importlib.util.find_spec("transformers") is None:
            raise PrerequisiteError(
                f"The tokenizer of {spec.name} ({named or text['hf_model_name']}) needs the package transformers.",
                "pip install 'koda-audit[siglip]'",
            )
    elif spec.kind == "open_clip" and "siglip" in spec.name.lower():
        raise ModelError(
            f"The configuration of {spec.name} names no tokenizer (text_cfg: hf_tokenizer_name); open_clip would "
            "fetch one from the internet because of the model's name.",
            "Make a local-dir: folder of it that states hf_tokenizer_name and holds the tokenizer's files.",
        )
    elif text.get("vocab_size", _CLIP_VOCABULARY) != _CLIP_VOCABULARY:
        raise ModelError(
            f"The text tower of {spec.name} has a vocabulary of {text['vocab_size']}, but its configuration names no "
            f"tokenizer, and open_clip's own has {_CLIP_VOCABULARY}.",
            "State text_cfg: hf_tokenizer_name and put the tokenizer's files beside open_clip_config.json.",
        )


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
            "model in koda's configuration. " + OPENAI_NOTE,
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

    remedy = "Without internet, copy the repository to this machine and use local-dir:FOLDER."
    with fetching(f"The model {spec.name}", remedy), quiet():
        raw = _get_hf_config(spec.place)
        config, preprocessing = dict(raw["model_cfg"]), raw.get("preprocess_cfg", {})
        checkpoint = Path(download_pretrained_from_hf(spec.place))
    return config, _full_preprocessing(preprocessing, config), checkpoint


def _from_name(spec: ModelSpec) -> tuple[dict[str, Any], dict[str, Any], Path]:
    import open_clip
    from open_clip.pretrained import download_pretrained, get_pretrained_cfg

    name = spec.name.replace("/", "-")
    config = open_clip.get_model_config(name)
    if config is None:
        hint = did_you_mean(nearest(name, open_clip.list_models(), alike=0.4))
        raise ModelError(
            f"open_clip knows no model {spec.name!r}. {hint}".rstrip(),
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
        remedy = "Without internet, put the checkpoint on this machine and give its path as `pretrained`."
        with fetching(f"The weights {spec.pretrained!r} of {spec.name}", remedy), quiet():
            checkpoint = Path(download_pretrained(tag))
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
            "model. " + OPENAI_NOTE,
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


def load(resolved: ResolvedModel, place: torch.device) -> Encoder:
    """Load an open_clip model.

    Raises:
        ModelError: as :func:`koda.models.load_encoder`.
        PrerequisiteError: a package that the model needs.
    """
    import open_clip
    from open_clip.factory import load_checkpoint
    from open_clip.transform import PreprocessCfg, image_transform_v2

    spec, fingerprint = resolved.spec, resolved.fingerprint
    name = spec.name.replace("/", "-") if spec.kind == "open_clip" else spec.name
    tokenizer = _tokenizer(resolved, name)
    remedy = "The configuration must be the one they were trained with."
    with loading(resolved, remedy), needing("koda-audit[siglip]", resolved.label):
        model = open_clip.create_model(
            name,
            precision={"fp32": "fp32", "bf16": "pure_bf16", "fp16": "pure_fp16"}[fingerprint.precision],
            device=place,
            load_weights=False,
            pretrained_text=False,
            force_quick_gelu=spec.force_quick_gelu,
        )
        load_checkpoint(model, str(resolved.checkpoint), strict=True, weights_only=True, device="cpu")
    check_finite(resolved.label, model)
    model.eval()
    dtype, width = dtype_of(fingerprint.precision), int(fingerprint.config["embed_dim"])
    return Encoder(
        resolved=resolved,
        device=place,
        dtype=dtype,
        architecture=f"{type(model).__name__}, {_layers(fingerprint.config['vision_cfg'])}",
        dims={"image": width, "text": width},
        image=model.encode_image,
        text=lambda captions: model.encode_text(tokenizer(list(captions)).to(place)),
        pixels=Pixels.of(image_transform_v2(PreprocessCfg(**fingerprint.preprocessing), is_train=False), dtype),
        tokenizer=tokenizer,
        context_length=int(
            getattr(tokenizer, "context_length", None) or fingerprint.config["text_cfg"].get("context_length", 77)
        ),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        model=model,
    )


def _tokenizer(resolved: ResolvedModel, name: str) -> Any:
    import open_clip

    try:
        with quiet(), needing("koda-audit[siglip]", f"The tokenizer of {resolved.label}"):
            return open_clip.get_tokenizer(name)
    except PrerequisiteError:
        raise
    except Exception as error:
        raise ModelError(
            f"{resolved.label}: its tokenizer cannot be loaded: {first_line(error)}",
            "Without internet, make a local-dir: folder of the model that holds the tokenizer's files.",
        ) from error


def _layers(vision: dict[str, Any]) -> str:
    """Say what the image tower is made of."""
    if vision.get("timm_model_name"):
        return str(vision["timm_model_name"])
    if vision.get("patch_size"):
        return f"ViT, {vision.get('layers')} layers of {vision.get('width')}, patch {vision['patch_size']}"
    return f"ResNet, {vision.get('layers')}"
