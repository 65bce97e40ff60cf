"""Shards that the workers of a run embed: the pictures of each are a part, and so are the captions that it has first.

Which captions a shard encodes depends on the shards before it, and on which of their pictures can be used. So the
pictures go first, some shards ahead; the captions of a shard follow as soon as the pictures of all before it are known,
and are encoded in the same batches as in one process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from koda.config import ModelSpec
from koda.datasets import Pair
from koda.errors import KodaError, ModelError
from koda.extraction.batches import Batches, joined
from koda.extraction.captions import CaptionMemory
from koda.extraction.images import ImageStream
from koda.extraction.shards import Pictures, Shard, embed_pictures, shard_of
from koda.models import Encoder, ResolvedModel, load_encoder, resolve_model
from koda.parallel import Exchange, Handle, Kept, Workers
from koda.typing import FloatArray

_SHARDS_AHEAD = 2  # a worker: whose captions are encoded before their turn, and as many whose pictures are before that
ModelHandle = tuple[dict[str, Any], str, str]  # its spec, the digest of its fingerprint, the device


@dataclass(frozen=True)
class _UnderWay:
    """A shard whose pictures are known and whose new captions are being encoded."""

    pictures: Pictures
    captions: list[str]
    text: Callable[[], Handle] | None


class ShardsByWorkers:
    """Makes the missing shards of an extraction, asked for in their order.

    Args:
        workers: of the run.
        encoder: the model, as this process has it; no sample goes through it.
        shards: the pairs of every shard.
        missing: numbers of those that are to be made.
        captions: those that finished shards have.
        finished: number of a shard that is there -> the captions of its rows.
        batch_size: as for :func:`koda.extraction.extract`.
    """

    def __init__(
        self,
        workers: Workers,
        encoder: Encoder,
        shards: Sequence[Sequence[Pair]],
        missing: Sequence[int],
        captions: CaptionMemory,
        finished: Callable[[int], Iterable[str]],
        batch_size: int | None,
    ) -> None:
        self._workers, self._encoder, self._captions = workers, encoder, captions
        self._shards, self._finished, self._batch_size = shards, finished, batch_size
        resolved = encoder.resolved
        spec = resolved.spec.model_dump(mode="json")
        self._model: ModelHandle = (spec, resolved.fingerprint.digest, str(encoder.device))
        self._ahead = _SHARDS_AHEAD * workers.size
        self._without_pictures, self._without_text = deque(missing), deque(missing)
        self._pictures: deque[Callable[[], Any]] = deque()
        self._under_way: deque[_UnderWay] = deque()
        self._seen: set[str] = set()  # captions of the shards before the one whose captions come next
        self._next = 0  # the shard whose captions are seen next

    def make(self, number: int, progress: Callable[[int, int], None] | None) -> Shard:
        """Return the next missing shard.

        Args:
            number: of the shard.
            progress: called with (pairs whose pictures are done, pairs of the shard).
        """
        self._submit_pictures()
        while self._without_text and len(self._under_way) < self._ahead:
            self._begin_text(self._without_text.popleft())
            self._submit_pictures()
        here = self._under_way.popleft()
        if progress is not None:
            progress(len(self._shards[number]), len(self._shards[number]))
        return shard_of(self._encoder, here.pictures, self._text(here))

    def _submit_pictures(self) -> None:
        while self._without_pictures and len(self._pictures) < self._ahead:
            pairs = [replace(pair, metadata={}) for pair in self._shards[self._without_pictures.popleft()]]
            arguments = (self._workers.exchange, self._model, pairs, self._batch_size)
            self._pictures.append(self._workers.submit(pictures_of, *arguments))

    def _begin_text(self, number: int) -> None:
        """Wait for the pictures of a shard, and have the captions encoded that no shard before it has."""
        for before in range(self._next, number):
            self._seen.update(self._finished(before))
        self._next = number + 1
        kept, handle, rejected, altered = self._pictures.popleft()()
        arrays = {} if handle is None else self._workers.exchange.take_arrays(handle)
        pictures = Pictures([self._shards[number][row] for row in kept], arrays, rejected, altered)
        captions = dict.fromkeys(pair.caption for pair in pictures.rows)
        new = [caption for caption in captions if caption not in self._seen]
        self._seen.update(captions)
        self._under_way.append(_UnderWay(pictures, new, self._submit_captions(new)))

    def _submit_captions(self, captions: list[str]) -> Callable[[], Handle] | None:
        if not captions or "text" not in self._encoder.modalities:
            return None
        return self._workers.submit(captions_of, self._workers.exchange, self._model, captions, self._batch_size)

    def _text(self, here: _UnderWay) -> FloatArray | None:
        """Return the captions of the rows (n, d); None where the model takes none."""
        if "text" not in self._encoder.modalities:
            return None
        nothing = joined([], self._encoder.dims["text"])

        def encode(new: list[str]) -> FloatArray:
            # a caption whose vector no kernel can use is nobody's: the next shard that has it encodes it once more
            text = here.text if new == here.captions else self._submit_captions(new)
            return nothing if text is None else self._workers.exchange.take_arrays(text())["text"]

        if not here.pictures.rows:
            return nothing
        return self._captions.encode([pair.caption for pair in here.pictures.rows], encode)


def pictures_of(
    exchange: Exchange, model: ModelHandle, pairs: list[Pair], batch_size: int | None
) -> tuple[list[int], Handle | None, dict[str, str], dict[str, int]]:
    """Embed the pictures of one shard; the work of one part.

    Args:
        exchange: where the embeddings are left.
        model: what is to embed them.
        pairs: of the shard.
        batch_size: at most so many at once.

    Returns:
        The rows whose pictures can be used, the handle of their embeddings, why others cannot, and what was altered.

    Raises:
        ModelError: the model cannot be read here, or is another one than the run has.
    """
    encoder = _encoder(model)
    batches = Batches(encoder, batch_size)
    with ImageStream(encoder, [pairs], batches.size) as images:
        made = embed_pictures(encoder, pairs, images, batches, None)
    row_of = {pair.key: row for row, pair in enumerate(pairs)}
    handle = exchange.put_arrays(made.arrays) if made.arrays else None
    return [row_of[pair.key] for pair in made.rows], handle, made.rejected, made.altered


def captions_of(exchange: Exchange, model: ModelHandle, captions: list[str], batch_size: int | None) -> Handle:
    """Encode captions; the work of one part.

    Args:
        exchange: where the embeddings are left.
        model: what is to encode them.
        captions: distinct ones.
        batch_size: at most so many at once.

    Raises:
        ModelError: the model cannot be read here, or is another one than the run has.
    """
    encoder = _encoder(model)
    batches = Batches(encoder, batch_size)
    text = joined(batches.run(encoder.encode_texts, captions), encoder.dims["text"])
    return exchange.put_arrays({"text": np.ascontiguousarray(text)})


_encoders: Kept[Encoder] = Kept(1)


def _encoder(model: ModelHandle) -> Encoder:
    """Load a model, or take that of the last part."""
    return _encoders.get(f"{model[1]} {model[2]}", lambda: _loaded(model))


def _loaded(model: ModelHandle) -> Encoder:
    spec, digest, device = model
    try:
        resolved: ResolvedModel = resolve_model(ModelSpec.model_validate(spec), device)
    except KodaError as error:
        raise ModelError(
            f"A worker cannot read a model that the run can: {error.message}",
            error.remedy or "Put the files of the model where all machines of the cluster see them under one path.",
        ) from error
    if resolved.fingerprint.digest != digest:
        raise ModelError(
            f"A worker finds another model at {resolved.label} than the run: their fingerprints differ.",
            "Put the same files there, and install the same versions of torch and open_clip_torch, on all machines.",
        )
    return load_encoder(resolved, device)
