"""Where the models of open_clip come from: a name, a folder, the hub or a configuration file, each with its weights."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koda.config import ModelSpec
from koda.errors import ModelError, did_you_mean, nearest, reason_of
from koda.models.fingerprint import ModelContents
from koda.models.libraries import versions_of
from koda.models.messages import fetching, quiet
from koda.models.tokenizers import find_tokenizer, holds_tokenizer, refuse_trust
from koda.models.weight_files import check_regular, find_weights, folders_of, weights_at
from koda.models.weights import look_at_weights

CONFIG = "open_clip_config.json"
OPENAI_NOTE = (
    "For a model trained with open_clip's defaults:\n"
    "    image_mean: [0.48145466, 0.4578275, 0.40821073]\n    image_std: [0.26862954, 0.26130258, 0.27577711]"
)


@dataclass(frozen=True)
class _Source:
    """An open_clip model as it was found.

    Args:
        config: of the architecture.
        preprocessing: as stated with the model; empty or None where it states none.
        checkpoint: file of the weights, or their index.
        stated_in: what should state the preprocessing, for messages.
        folder: in which the configuration lies, where it is a file.
    """

    config: dict[str, Any]
    preprocessing: dict[str, Any] | None
    checkpoint: Path
    stated_in: str | None = None
    folder: Path | None = None


def find(spec: ModelSpec, device: str) -> ModelContents:
    """Find an open_clip model's configuration, weights and tokenizer.

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
        source = _from_folder(spec, Path(spec.place))
    elif spec.kind == "hf-hub":
        source = _from_hub(spec)
    elif spec.config is not None:
        source = _from_config(spec, Path(spec.config))
    else:
        source = _from_name(spec)
    config = source.config
    if not source.preprocessing and spec.image_mean is None and source.stated_in:
        raise ModelError(
            source.stated_in,
            "Wrong means change every embedding, so koda does not guess. State image_mean and image_std for the "
            "model in koda's configuration. " + OPENAI_NOTE,
        )
    refuse_trust(config, f"The configuration of {spec.name}")
    tower = str(config["vision_cfg"].get("timm_model_name") or "")
    if ":" in tower:
        raise ModelError(
            f"The image tower of {spec.name} is {tower}, whose configuration lies elsewhere and may change.",
            "Name an architecture of timm in vision_cfg: timm_model_name.",
        )
    tokenizer = find_tokenizer(spec, config, source.folder, always=spec.kind == "local-dir")
    if spec.force_quick_gelu:
        config = {**config, "quick_gelu": True}
    preprocessing = _full_preprocessing(source.preprocessing or {}, config)
    if spec.image_mean is not None and spec.image_std is not None:
        preprocessing = {**preprocessing, "mean": list(spec.image_mean), "std": list(spec.image_std)}
    weights = look_at_weights(source.checkpoint)
    return ModelContents(
        weights.digest,
        config,
        preprocessing,
        source.checkpoint,
        entry=weights.entry,
        files=tokenizer.digests,
        libraries=_libraries(config),
        tokenizer=tokenizer,
    )


def _libraries(config: dict[str, Any]) -> dict[str, str]:
    """Return the versions of what the embeddings of a configuration depend on."""
    packages = ["torch", "torchvision", "PIL", "open_clip"]
    if config["vision_cfg"].get("timm_model_name"):
        packages.append("timm")
    if config["text_cfg"].get("hf_tokenizer_name") or config["text_cfg"].get("hf_model_name"):
        packages += ["transformers", "tokenizers"]
    return versions_of(*packages)


def _read_config(path: Path, form: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Read a configuration: {"model_cfg", "preprocess_cfg"}, or as open_clip's own files are, the former alone."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        whole = "model_cfg" in raw or form == "folder"
        config, preprocessing = dict(raw["model_cfg"] if whole else raw), raw.get("preprocess_cfg") if whole else None
        if not {"embed_dim", "vision_cfg", "text_cfg"} <= config.keys():
            raise ValueError(f"{'model_cfg' if whole else 'it'} lacks embed_dim, vision_cfg or text_cfg")
        if not all(isinstance(config[part], dict) for part in ("vision_cfg", "text_cfg")):
            raise ValueError("vision_cfg and text_cfg are to be objects")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} is not an open_clip configuration: {reason_of(error)}.") from error
    return config, preprocessing


def _from_folder(spec: ModelSpec, folder: Path) -> _Source:
    if not folder.is_dir():
        raise ModelError(f"The model folder {folder} does not exist.", "Check the path after `local-dir:`.")
    path = folder / CONFIG
    if not os.path.lexists(path):
        raise ModelError(
            f"The model folder {folder} has no open_clip_config.json.",
            'Write one: {"model_cfg": {...}, "preprocess_cfg": {"mean": [...], "std": [...]}}.',
        )
    check_regular(path, "The configuration")
    config, preprocessing = _read_config(path, "folder")
    stated_in = f"{path} does not state the preprocessing (preprocess_cfg: mean and std)."
    checkpoint = _checkpoint_file(spec) if spec.pretrained else find_weights(folder)
    return _Source(config, preprocessing, checkpoint, stated_in, folder)


def _checkpoint_file(spec: ModelSpec) -> Path:
    """Return the checkpoint that takes the place of a model's own weights."""
    path = Path(spec.pretrained or "")
    if not path.exists():
        raise ModelError(
            f"The model {spec.name} has its own weights, and there is no checkpoint file {spec.pretrained!r}.",
            "Remove `pretrained`, or give a checkpoint of the same architecture.",
        )
    return weights_at(path)


def _from_config(spec: ModelSpec, path: Path) -> _Source:
    """Find an architecture of the team's own: a configuration as open_clip_train takes it, and a checkpoint."""
    check_regular(path, "The configuration")
    config, preprocessing = _read_config(path, "file")
    if not spec.pretrained:
        raise ModelError(
            f"The model {spec.name} has no weights: `pretrained` is missing.",
            "Give a checkpoint file, such as pretrained: runs/epoch_5.pt.",
        )
    checkpoint = weights_at(Path(spec.pretrained))
    folder = next((place for place in folders_of(path) if holds_tokenizer(place)), path.parent)
    return _Source(config, preprocessing, checkpoint, _unstated(checkpoint), folder)


def _unstated(checkpoint: Path) -> str:
    return f"The checkpoint file {checkpoint} does not say how its images were normalised."


def _from_hub(spec: ModelSpec) -> _Source:
    from open_clip.factory import _get_hf_config
    from open_clip.pretrained import download_pretrained_from_hf

    remedy = "Without internet, copy the repository to this machine and use local-dir:FOLDER."
    with fetching(f"The model {spec.name}", remedy), quiet():
        raw = _get_hf_config(spec.place)
        config, preprocessing = dict(raw["model_cfg"]), raw.get("preprocess_cfg", {})
        checkpoint = None if spec.pretrained else Path(download_pretrained_from_hf(spec.place))
    return _Source(config, preprocessing, checkpoint or _checkpoint_file(spec))


def _from_name(spec: ModelSpec) -> _Source:
    import open_clip
    from open_clip.pretrained import download_pretrained, get_pretrained_cfg

    name = spec.name.replace("/", "-")
    config = open_clip.get_model_config(name)
    if config is None:
        hint = did_you_mean(nearest(name, open_clip.list_models(), alike=0.4))
        raise ModelError(
            f"open_clip knows no model {spec.name!r}. {hint}".rstrip(),
            "For a folder of your own use local-dir:FOLDER; for an architecture of your own add config: FILE.json.",
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
        return _Source(config, dict(tag), checkpoint)
    checkpoint = Path(spec.pretrained)
    if not os.path.lexists(checkpoint):
        raise ModelError(
            f"{spec.pretrained!r} is neither a checkpoint file nor a tag of {spec.name}.",
            f"Its tags: {', '.join(tags) or 'none'}.",
        )
    checkpoint = weights_at(checkpoint)
    return _Source(config, None, checkpoint, _unstated(checkpoint))


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
