"""What a sample shows: its caption, and which image it is, whatever its key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from koda.datasets import Pair
from koda.embeddings import EmbeddingTable


def image_ids(keys: Sequence[str], pairs: Mapping[str, Pair]) -> list[str]:
    """Return what tells the images of samples apart: the same bytes under several keys are one image."""
    return [pairs[key].image_digest or key for key in keys]


def with_captions_and_images(table: EmbeddingTable, pairs: Mapping[str, Pair]) -> EmbeddingTable:
    """Return the table with the columns ``caption`` and ``image``, see :func:`image_ids`, and no others."""
    columns = {"caption": [pairs[key].caption for key in table.keys], "image": image_ids(table.keys, pairs)}
    return EmbeddingTable(table.keys, table.image, table.text, columns)
