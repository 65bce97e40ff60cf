"""Retrieval by workers: the ranks of one process, with ties, several captions an image, and images without any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from koda import EmbeddingTable
from koda.metrics import retrieval
from koda.metrics.retrieval import recall
from koda.parallel import using
from tests.parallel.here import Here


def test_parts_with_equal_ranks_are_each_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    values = np.random.default_rng(1).normal(size=(32, 5)).astype(np.float32)
    monkeypatch.setattr(retrieval, "_QUERIES", 2)
    with using(here := Here(tmp_path)):
        found = recall(EmbeddingTable([f"{i:02}" for i in range(32)], values, values))  # every rank is 1
    assert len(here.parts) == 4 and found.image_to_text.ranks.tolist() == [1] * 32
    assert not any(Path(here.exchange.url).iterdir())


def test_the_ranks_are_those_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    n = 60
    text = rng.normal(size=(n, 5)).astype(np.float32)
    text[10:20] = text[:10]  # ties
    images = text + 0.5 * rng.normal(size=(n, 5)).astype(np.float32)
    table = EmbeddingTable([f"{i:02}" for i in range(n)], images, text)
    monkeypatch.setattr(retrieval, "_QUERIES", 2)
    alone = recall(table)
    with using(here := Here(tmp_path)):
        found = recall(table)
    assert here.parts == ["ranks_of_part"] * 8  # 60 queries in parts of 16, both ways
    for one, other in ((alone.image_to_text, found.image_to_text), (alone.text_to_image, found.text_to_image)):
        assert one.ranks.tolist() == other.ranks.tolist()
        assert one.ranks.dtype == other.ranks.dtype
