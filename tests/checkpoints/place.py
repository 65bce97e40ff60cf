"""A folder in which a training leaves checkpoints of a tiny model, and a configuration that watches it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from koda.checkpoints import Look, look_around
from koda.config import AuditConfig, check_config
from koda.storage.checkpoints import list_checkpoints
from tests.tiny import _CONFIG, write_tiny_model

PATTERN = "runs/*/checkpoints/epoch_*.pt"
AS = {"name": "tiny", "config": "arch.json", "image_mean": [0.5, 0.4, 0.3], "image_std": [0.25, 0.25, 0.25]}


@dataclass
class Place:
    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "koda-runs"

    def config(self, path: str = PATTERN, **sections: Any) -> AuditConfig:
        watch = {"path": path, "every": 0.01, "settle": 1, "as": AS, **sections.pop("watch", {})}
        raw = {"baseline": {"name": "local-dir:base"}, "candidate": {"name": "local-dir:base"},
               "data": {"path": "p.tsv"}, "watch": watch, **sections}  # fmt: skip
        return check_config(raw, "audit.yaml", self.folder)

    def look(self, config: AuditConfig | None = None) -> Look:
        return look_around(config or self.config(), self.home)

    def states(self) -> dict[str, str]:
        return {Path(entry.paths[0]).name: entry.state for entry in list_checkpoints(self.home)}

    def epoch(self, number: int, run: str = "a", seed: int | None = None) -> Path:
        path = self.folder / "runs" / run / "checkpoints" / f"epoch_{number}.pt"
        return write_checkpoint(path, number if seed is None else seed)


def make_place(folder: Path) -> Place:
    (folder / "arch.json").write_text(json.dumps(_CONFIG), encoding="utf-8")
    return Place(folder)


_made: dict[int, dict[str, torch.Tensor]] = {}


def weights(seed: int, folder: Path) -> dict[str, torch.Tensor]:
    if seed not in _made:
        _made[seed] = load_file(write_tiny_model(folder / f".model-{seed}", seed) / "open_clip_model.safetensors")
    return _made[seed]


def write_checkpoint(path: Path, seed: int) -> Path:
    """Write a checkpoint as open_clip's training does, in place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {f"module.{name}": value for name, value in weights(seed, path.parent).items()}
    torch.save({"epoch": seed, "state_dict": state}, path)
    return path
