"""A folder with two small models, pictures and a configuration, and what to run there."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from typer.testing import CliRunner

from flows.cli.app import app
from tests.tiny import write_tiny_model

N = 90


@dataclass
class Workplace:
    """A folder with two models, a data set and a configuration, and a KODA_HOME of its own."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "koda-runs"

    @property
    def config(self) -> Path:
        return self.folder / "audit.yaml"

    def run(self, *arguments: str) -> tuple[int, dict[str, Any], str]:
        os.environ["KODA_HOME"] = str(self.home)
        result = CliRunner().invoke(app, ["audit", str(self.config), "--json", *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, json.loads(result.stdout), result.stderr

    def executed(self, result: dict[str, Any]) -> list[str]:
        return [step["name"] for step in result["steps"] if step["executed"]]


def make_workplace(folder: Path) -> Workplace:
    rng = np.random.default_rng(0)
    (folder / "data").mkdir(parents=True)
    rows = ["filepath\ttitle\tkey\tcolour"]
    for i in range(N):
        colour = ("red", "green", "blue")[i % 3]
        base = np.zeros((16, 16, 3)) + np.eye(3)[i % 3] * 180
        Image.fromarray((base + rng.integers(0, 60, base.shape)).astype(np.uint8)).save(folder / "data" / f"{i}.png")
        rows.append(f"{i}.png\ta {colour} thing number {i}\tk{i:03d}\t{colour}")
    (folder / "data" / "pairs.tsv").write_text("\n".join(rows), encoding="utf-8")
    for seed, name in enumerate(("old", "new")):
        write_tiny_model(folder / name, seed)
    settings = {
        # auto is bf16 on some machines, which is compared with fp32 first
        "baseline": {"name": "local-dir:old", "precision": "fp32"},
        "candidate": {"name": "local-dir:new", "precision": "fp32"},
        "data": {"path": "data/pairs.tsv"},
        "discrepancy": {"n_directions": 2, "device": "cpu"},
        "significance": {"spike_ins": 0},  # in so few samples none would be found, and no audit could pass
        "report": {"pdf": False},
    }
    (folder / "audit.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return Workplace(folder)
