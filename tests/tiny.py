"""A real open_clip model small enough to be made in a moment."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file

_CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
_PREPROCESSING = {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.25, 0.25], "interpolation": "bicubic"}


def write_tiny_model(folder: Path, seed: int) -> Path:
    """Write an open_clip folder with seeded weights that tell images and captions apart."""
    torch.manual_seed(seed)
    model = open_clip.model.CLIP(**json.loads(json.dumps(_CONFIG)))
    folder.mkdir(parents=True)
    text = json.dumps({"model_cfg": _CONFIG, "preprocess_cfg": _PREPROCESSING})
    (folder / "open_clip_config.json").write_text(text, encoding="utf-8")
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    state["token_embedding.weight"] *= 20
    save_file(state, folder / "open_clip_model.safetensors")
    return folder
