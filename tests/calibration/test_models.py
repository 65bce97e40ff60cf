"""The names of equals on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from koda.calibration import equal_models
from koda.config import AuditConfig
from koda.errors import ConfigError


def config(baseline: dict[str, Any], candidate: dict[str, Any] | None = None) -> AuditConfig:
    candidate = candidate or {"name": "embeddings:/there/new"}
    return AuditConfig.model_validate({"baseline": baseline, "candidate": candidate, "data": {"path": "p.tsv"}})


def test_names_are_those_of_a_configuration(tmp_path: Path) -> None:
    names = ["ViT-B-32@openai", "hf-hub:a/b", "local-dir:runs/0", "embeddings:/e", "timm:resnet18", "python:m.py:make"]
    specs = equal_models(names, config({"name": "timm:vit"}), tmp_path)
    assert [(spec.name, spec.pretrained) for spec in specs] == [
        ("ViT-B-32", "openai"),
        ("hf-hub:a/b", None),
        (f"local-dir:{tmp_path / 'runs/0'}", None),
        ("embeddings:/e", None),
        ("timm:resnet18", None),
        (f"python:{tmp_path / 'm.py'}:make", None),
    ]


def test_a_checkpoint_file_is_relative_to_the_configuration(tmp_path: Path) -> None:
    (spec, _) = equal_models(["ViT-B-32@runs/e@1.pt", "candidate"], config({"name": "x"}), tmp_path)
    assert spec.pretrained == str(tmp_path / "runs/e@1.pt")


def test_the_configurations_own_models_have_its_settings(tmp_path: Path) -> None:
    own = {"name": "ViT-B-32", "pretrained": "/w/0.pt", "precision": "fp32", "label": "seed 0", "licence": "MIT"}
    own |= {"image_mean": [0.5] * 3, "image_std": [0.2] * 3}
    audit = config(own)
    for name in ("baseline", "ViT-B-32@/w/0.pt"):
        assert equal_models([name, "candidate"], audit, tmp_path) == (audit.baseline, audit.candidate)
    _, other, stored = equal_models(["baseline", "ViT-B-32@/w/1.pt", "embeddings:e"], audit, tmp_path)
    assert (other.precision, other.image_mean, other.pretrained) == ("fp32", (0.5,) * 3, "/w/1.pt")
    assert other.label is None and other.licence is None, "which are of one model alone"
    assert stored.precision == "auto" and stored.image_mean is None


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "names 0 of the models"),
        (["baseline"], "two at the least"),
        (["hf-hub:a", "hf-hub:a"], "names hf-hub:a twice"),
        (["baseline", "timm:vit"], "names timm:vit twice, also as baseline"),
        (["baseline", " "], "empty text"),
    ],
)
def test_what_cannot_be_is_refused_in_words(tmp_path: Path, names: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        equal_models(names, config({"name": "timm:vit"}), tmp_path)
    assert words in str(caught.value)
