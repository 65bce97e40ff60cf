"""One shard: its pictures and captions through the model, and what was left out of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from koda.datasets import Pair
from koda.embeddings import EmbeddingTable
from koda.extraction.batches import Batches, joined
from koda.extraction.captions import CaptionMemory
from koda.extraction.images import ImageStream
from koda.models import Encoder
from koda.typing import FloatArray


@dataclass(frozen=True)
class Shard:
    """What is written of a shard.

    Args:
        keys: of the rows.
        arrays: modality -> (n, d).
        rejected: key -> reason; with the keys, all pairs of the shard.
        n_long: rows whose caption is cut at the context length.
        altered: kind -> pictures that were altered on the way into the model.
    """

    keys: list[str]
    arrays: dict[str, FloatArray]
    rejected: dict[str, str]
    n_long: int
    altered: dict[str, int]


def embed_shard(
    encoder: Encoder,
    pairs: Sequence[Pair],
    images: ImageStream,
    batches: Batches,
    captions: CaptionMemory,
    progress: Callable[[int, int], None] | None,
) -> Shard:
    """Embed the pairs of one shard, pictures first: a caption is encoded only where its picture can be used.

    Args:
        encoder: the model.
        pairs: of the shard.
        images: its next batches are those of the shard.
        batches: the batch size.
        captions: those that earlier shards had.
        progress: called with (pairs whose pictures are done, pairs of the shard).
    """
    rejected: dict[str, str] = {}
    rows = list(pairs)
    arrays: dict[str, FloatArray] = {}
    altered: Counter[str] = Counter()
    if "image" in encoder.modalities:
        rows, parts, seen = [], [], 0
        for _ in range(images.n_batches(pairs)):
            batch = images.next()
            for pair, written in zip(batch.pairs, batch.written, strict=True):
                altered.update(written.altered)
                if written.fault is not None:
                    rejected[pair.key] = written.fault
            good, pixels = batch.good()
            parts += batches.run(encoder.encode_images, pixels)
            rows += good
            seen += len(batch.pairs)
            if progress is not None:
                progress(seen, len(pairs))
        rows, arrays = _usable(rows, {"image": joined(parts, encoder.dims["image"])}, rejected)
    if "text" in encoder.modalities:
        width = encoder.dims["text"]
        text = joined([], width)
        if rows:
            text = captions.encode(
                [pair.caption for pair in rows], lambda new: joined(batches.run(encoder.encode_texts, new), width)
            )
        rows, arrays = _usable(rows, {**arrays, "text": text}, rejected)
    n_long = encoder.count_long([pair.caption for pair in rows])
    return Shard([pair.key for pair in rows], arrays, rejected, n_long, dict(altered))


def _usable(
    rows: list[Pair], arrays: dict[str, FloatArray], rejected: dict[str, str]
) -> tuple[list[Pair], dict[str, FloatArray]]:
    """Return the rows whose embeddings a kernel can use, and note the others as rejected."""
    if not rows:
        return rows, arrays
    table = EmbeddingTable([pair.key for pair in rows], arrays.get("image"), arrays.get("text"))
    broken = table.invalid_rows()
    if not broken:
        return rows, arrays
    rejected.update(broken)
    good = np.array([pair.key not in broken for pair in rows])
    return [p for p in rows if p.key not in broken], {name: values[good] for name, values in arrays.items()}
