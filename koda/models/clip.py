"""Models of open_clip (CLIP, SigLIP, SigLIP 2, CoCa and the like), loaded as they were found and digested."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koda.errors import ModelError
from koda.models.encoder import Encoder
from koda.models.fingerprint import ResolvedModel
from koda.models.messages import loading, needing
from koda.models.pixels import Pixels
from koda.models.precision import dtype_of
from koda.models.tokenizers import digest_tokenizer, load_tokenizer
from koda.models.weights import check_finite, load_all, read_weights

if TYPE_CHECKING:
    import torch

# what decides no embedding: sizes that OpenAI's archives hold, and numbers that older versions of transformers saved
_NOTES = ("input_resolution", "context_length", "vocab_size", "text.transformer.embeddings.position_ids")
_POSITIONS = ("visual.positional_embedding", "positional_embedding", "text.positional_embedding")


def load(resolved: ResolvedModel, place: torch.device) -> Encoder:
    """Load an open_clip model.

    Raises:
        ModelError: as :func:`koda.models.load_encoder`.
        PrerequisiteError: a package that the model needs.
    """
    from open_clip.transform import PreprocessCfg, image_transform_v2

    fingerprint = resolved.fingerprint
    tokenizer = _tokenizer(resolved)
    assert resolved.checkpoint is not None
    remedy = "The configuration must be the one they were trained with."
    with loading(resolved, remedy), needing("koda-audit[siglip]", resolved.label):
        model = _create(resolved, place)
        _fill(model, read_weights(resolved.checkpoint, fingerprint.weights))
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


def _create(resolved: ResolvedModel, place: torch.device) -> Any:
    """Make the model of the configuration that was digested, which its file may no longer hold; no weights yet."""
    import open_clip

    fingerprint = resolved.fingerprint
    config = json.loads(json.dumps(fingerprint.config))
    if resolved.tokenizer is not None and resolved.tokenizer.tower is not None:
        config["text_cfg"]["hf_model_name"] = str(resolved.tokenizer.tower)
    with tempfile.TemporaryDirectory(prefix="koda-model-") as folder:
        text = json.dumps({"model_cfg": config})
        (Path(folder) / "open_clip_config.json").write_text(text, encoding="utf-8")
        return open_clip.create_model(
            f"local-dir:{folder}",
            precision={"fp32": "fp32", "bf16": "pure_bf16", "fp16": "pure_fp16"}[fingerprint.precision],
            device=place,
            load_weights=False,
            pretrained_text=False,
        )


def _fill(model: Any, state: dict[str, Any]) -> None:
    """Load weights, every one of them, as open_clip's load_checkpoint does of a file.

    What decides no embedding is forgiven: a bias of SigLIP's loss that one side lacks. Positions of another size are
    resized in full precision, since there is no such resizing of half-precision numbers.
    """
    import torch
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed, resize_text_pos_embed

    state = convert_state_dict(model, state)
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    for name in ("logit_scale", "logit_bias"):
        own = getattr(model, name, None)
        if own is None:
            state.pop(name, None)
        elif name in state:
            state[name] = state[name].reshape(own.shape)
    if getattr(model, "logit_bias", None) is not None:
        state.setdefault("logit_bias", torch.zeros_like(model.logit_bias))
    wanted = model.state_dict()
    computed = [name for name, _ in model.named_buffers()]  # a causal mask, which other savings keep
    for name in (*_NOTES, *computed):
        if name not in wanted:
            state.pop(name, None)
    for name in _POSITIONS:
        if name in state and name in wanted and state[name].shape != wanted[name].shape:
            state[name] = state[name].float()
    resize_pos_embed(state, model)
    resize_text_pos_embed(state, model)
    load_all(model, state)


def _tokenizer(resolved: ResolvedModel) -> Any:
    """Load the tokenizer, and see that its files are still those that were digested."""
    found, config = resolved.tokenizer, resolved.fingerprint.config
    assert found is not None
    tokenizer = load_tokenizer(resolved.label, config, found)
    if digest_tokenizer(config, found.folder, found.tower) != resolved.fingerprint.files:
        raise ModelError(
            f"{resolved.label}: the files of its tokenizer changed between their digest and their loading.",
            "Wait until they are whole, or audit a copy.",
        )
    return tokenizer


def _layers(vision: dict[str, Any]) -> str:
    """Say what the image tower is made of."""
    if vision.get("timm_model_name"):
        return str(vision["timm_model_name"])
    if vision.get("patch_size"):
        depth = "1 layer" if vision.get("layers") == 1 else f"{vision.get('layers')} layers"
        return f"ViT, {depth} of {vision.get('width')}, patch {vision['patch_size']}"
    return f"ResNet, {vision.get('layers')}"
