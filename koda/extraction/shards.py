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


@dataclass(frozen=True)
class Pictures:
    """What is known of a shard once its pictures went through the model, and before its captions do.

    Args:
        rows: the pairs whose pictures can be used; all of them where the model takes none.
        arrays: "image" -> (n, d); nothing where the model takes none.
        rejected: key -> reason.
        altered: kind -> pictures that were altered on the way into the model.
    """

    rows: list[Pair]
    arrays: dict[str, FloatArray]
    rejected: dict[str, str]
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
    pictures = embed_pictures(encoder, pairs, images, batches, progress)
    text = None
    if "text" in encoder.modalities:
        width = encoder.dims["text"]
        text = joined([], width)
        if pictures.rows:
            text = captions.encode(
                [pair.caption for pair in pictures.rows],
                lambda new: joined(batches.run(encoder.encode_texts, new), width),
            )
    return shard_of(encoder, pictures, text)


def embed_pictures(
    encoder: Encoder,
    pairs: Sequence[Pair],
    images: ImageStream,
    batches: Batches,
    progress: Callable[[int, int], None] | None,
) -> Pictures:
    """Embed the pictures of one shard; see :func:`embed_shard`."""
    if "image" not in encoder.modalities:
        return Pictures(list(pairs), {}, {}, {})
    rejected: dict[str, str] = {}
    rows: list[Pair] = []
    parts: list[FloatArray] = []
    altered: Counter[str] = Counter()
    seen = 0
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
    return Pictures(rows, arrays, rejected, dict(altered))


def shard_of(encoder: Encoder, pictures: Pictures, text: FloatArray | None) -> Shard:
    """Put a shard together.

    Args:
        encoder: the model.
        pictures: of the shard.
        text: the captions of the rows of the pictures (n, d); None where the model takes none.
    """
    rows, arrays, rejected = pictures.rows, pictures.arrays, dict(pictures.rejected)
    if text is not None:
        rows, arrays = _usable(rows, {**arrays, "text": text}, rejected)
    n_long = encoder.count_long([pair.caption for pair in rows])
    return Shard([pair.key for pair in rows], arrays, rejected, n_long, pictures.altered)


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
