"""What cannot be read is told in words: what, why and what to do, without the words of Python or of the system."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from flows.cli.app import app
from koda.embeddings import EmbeddingTable
from koda.embeddings.writing import save_table

FOREIGN = re.compile(r"errno|traceback|not your fault|Error\b|NoneType|codec|expecting value|char \d", re.IGNORECASE)
BAD: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "folder": lambda path: path.mkdir(),
    "empty": lambda path: path.touch(),
    "binary": lambda path: path.write_bytes(bytes(range(256))),
    "list": lambda path: path.write_text("[1, 2]"),
    "null": lambda path: path.write_text("null"),
    "broken": lambda path: path.write_text("{a: [1,\n b"),
    "nul bytes": lambda path: path.write_bytes(b"filepath,title\0\na.png,b\0\n"),
    "loop": lambda path: path.symlink_to(path),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KODA_HOME", str(tmp_path / "home"))
    rows = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    table = EmbeddingTable(tuple(f"k{row}" for row in range(12)), image=rows)
    save_table(table, tmp_path / "shards")
    save_table(table, tmp_path / "parts", "clip-retrieval")
    return tmp_path


def _config(place: Path, **changes: dict[str, str]) -> str:
    model = {"name": "local-dir:model"}
    settings = {"baseline": model, "candidate": model, "data": {"path": "pairs.tsv"}, **changes}
    (place / "audit.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return "audit.yaml"


def _said(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 2, f"{arguments}: {result.stderr}"
    assert FOREIGN.search(result.stderr) is None, f"{arguments}: {result.stderr}"
    return result.stderr


@pytest.mark.parametrize("bad", BAD)
def test_no_input_that_is_bad_is_told_in_the_words_of_python(bad: str, place: Path) -> None:
    for name in ("settings.yaml", "record.json", "captions.json", "pairs.csv", "model.json"):
        BAD[bad](place / name)
    for command in ("audit", "models", "data", "align", "sweep"):
        assert "settings.yaml" in _said(command, "settings.yaml")
    for command in (["show"], ["report"], ["diff", "record.json"], ["export", "--out", "out"], ["align", "--audit"]):
        _said(*command, "./record.json")
    for name in ("captions.json", "pairs.csv"):
        assert name in _said("data", _config(place, data={"path": name}))
    stated = {"name": "mine", "config": "model.json", "pretrained": "audit.yaml"}
    assert "model.json" in _said("models", _config(place, baseline=stated))
    for file in ("shards/shard-00000.safetensors", "parts/img_emb/img_emb_0.npy", "parts/metadata/metadata_0.parquet"):
        folder, _, inner = file.partition("/")
        shutil.copytree(place / folder, place / "damaged")
        (place / "damaged" / inner).unlink()
        BAD[bad](place / "damaged" / inner)
        assert "damaged" in _said("compare", "damaged", folder)
        shutil.rmtree(place / "damaged")


def test_a_name_that_is_too_long_for_the_disk_is_told_in_words(place: Path) -> None:
    name = 300 * "n"
    for command in (["audit", name], ["serve", name], ["compare", name, "shards"], ["models", _config(place)]):
        if command[0] == "models":
            _config(place, baseline={"name": f"local-dir:{name}"})
        assert "nnn" in _said(*command)


def test_a_home_that_no_disk_takes_is_told_in_words(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _config(place, watch={"path": "*"})
    for home in ("/proc/koda", str(place / (300 * "n"))):
        monkeypatch.setenv("KODA_HOME", home)
        for command in (["demo"], ["site"], ["watch", "audit.yaml", "--once"]):
            result = CliRunner().invoke(app, command)
            assert result.exit_code in (2, 3), result.stderr
            assert FOREIGN.search(result.stderr) is None, result.stderr
            assert "disk is full" not in result.stderr
