"""Columns of the data that are called as koda's own, in embedding folders that koda writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from koda.embeddings import EmbeddingTable
from koda.embeddings.layout import Layout
from koda.embeddings.writing import save_table
from koda.slicing.export import metadata_names


@pytest.mark.parametrize("layout", ["koda", "clip-retrieval"])
def test_a_column_called_key_does_not_take_the_place_of_the_keys(tmp_path: Path, layout: Layout) -> None:
    x = np.eye(3, dtype=np.float32)
    table = EmbeddingTable(["a", "b", "c"], x, x, {"key": ["1", "1", "1"], "colour": ["red", "blue", "red"]})
    save_table(table, tmp_path / "out", layout)
    back = EmbeddingTable.load(tmp_path / "out")
    assert list(back.keys) == ["a", "b", "c"] and list(back.metadata["colour"]) == ["red", "blue", "red"]


def test_an_export_keeps_such_a_column_under_another_name() -> None:
    assert metadata_names(["key", "image_path", "data.key", "colour"], ("key", "image_path")) == {
        "key": "data.data.key", "image_path": "data.image_path", "data.key": "data.key", "colour": "colour",
    }  # fmt: skip
