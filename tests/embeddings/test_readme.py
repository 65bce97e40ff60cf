"""The README's embedding folders: its example runs as it stands, and what it says of the layout is what is read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from koda.compare import compare_folders
from koda.embeddings import EmbeddingTable

README = Path(__file__).parents[2] / "README.md"


def test_the_example_of_the_readme_writes_two_folders_whose_colours_compare_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = README.read_text(encoding="utf-8").partition("### The layout of an embedding folder")[2]
    code = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0]
    monkeypatch.chdir(tmp_path)
    exec(code, {})  # the README is ours
    runs = tmp_path / "runs"
    found = compare_folders(runs / "clip", runs / "siglip", {"n_directions": 1})
    piece = found.questions[0].slices[0]
    assert {word.text for lobe in (piece.positive, piece.negative) for word in lobe.words} & {"red", "green", "blue"}
    table = EmbeddingTable.open(runs / "clip")
    assert table.keys[0] == "photo-0000"
    assert list(table.modalities) == ["image", "text"]
    for name in ("img_emb/img_emb_0.npy", "text_emb/text_emb_0.npy", "metadata/metadata_0.parquet"):
        assert (runs / "clip" / name).is_file()
        assert name in section
