"""Two tables joined by key: the order is the target's, and what is left out has a reason."""

from __future__ import annotations

import numpy as np

from koda.embeddings import EmbeddingTable, join_tables


def test_joined_tables_keep_the_order_of_the_target(tmp_path):
    values = np.arange(1.0, 13.0).reshape(6, 2)
    target = EmbeddingTable(["c", "a", "x", "f", "b", "d"], image=values, metadata={"row": list(range(6))})
    image = 100 + values
    image[1] = np.nan  # of "d"
    reference = EmbeddingTable(["b", "d", "y", "f", "c", "a"], image=image)
    target.save(tmp_path / "target")
    reference.save(tmp_path / "reference")
    opened = EmbeddingTable.open(tmp_path / "target"), EmbeddingTable.open(tmp_path / "reference")
    for pair in ((target, reference), opened):
        ours, theirs, rejected = join_tables(*pair, ("image",))
        assert tuple(ours.keys) == tuple(theirs.keys) == ("c", "a", "f", "b")
        assert ours.take(range(4)).image.tolist() == values[[0, 1, 3, 4]].tolist()
        assert theirs.take(range(4)).image.tolist() == image[[4, 5, 3, 0]].tolist()
        assert list(rejected) == ["x", "y", "d"]
        assert "reference model has no embedding" in rejected["x"]
        assert "NaN" in rejected["d"]
