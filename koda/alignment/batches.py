"""The samples of each training step: who is in it, and their pictures, decoded while the model computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from koda.datasets import Pair
from koda.errors import DataError
from koda.extraction.images import decoding_threads, write_picture
from koda.models import Encoder

_KEPT_BYTES = 2**30  # of decoded pictures in memory; the others are decoded each time
_BATCHES_AHEAD = 2  # that threads prepare while one is in the model


@dataclass(frozen=True)
class Sampler:
    """Which samples a batch holds: some of the slices and some others, without repeats.

    A batch depends on the seed and its own number alone, so that training goes on after an interruption as it would
    have without one.

    Args:
        slices, others: keys to draw from, sorted.
        batch_size: at most; fewer where there are not so many.
        slice_share: of the batch.
        seed: of the draws.
    """

    slices: Sequence[str]
    others: Sequence[str]
    batch_size: int
    slice_share: float
    seed: int

    def batch(self, number: int) -> list[str]:
        """Return the keys of one batch."""
        rng = np.random.default_rng([self.seed, number])
        n_slice = max(1, round(self.slice_share * self.batch_size))
        parts = ((self.slices, n_slice), (self.others, self.batch_size - n_slice))
        return [
            pool[row]
            for pool, n in parts
            for row in np.sort(rng.choice(len(pool), size=min(n, len(pool)), replace=False)).tolist()
        ]


class Pictures:
    """Pictures of samples as a model wants them, in fp32.

    Threads decode those of the batches to come; what was decoded is kept as long as a gibibyte holds it.

    Args:
        encoder: whose preprocessing it is.
        pairs: key -> pair.
    """

    def __init__(self, encoder: Encoder, pairs: Mapping[str, Pair]) -> None:
        assert encoder.pixels is not None, "a model without images"
        self.unreadable: dict[str, str] = {}
        self._pixels, self._pairs = encoder.pixels, pairs
        self._kept: dict[str, Tensor] = {}
        self._room = _KEPT_BYTES // (3 * encoder.pixels.size[0] * encoder.pixels.size[1] * 4)
        self._pool = decoding_threads()

    def __enter__(self) -> Pictures:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def batches(self, wanted: Iterator[list[str]]) -> Iterator[tuple[list[str], Tensor]]:
        """Yield the usable keys of each batch and their pixels (b, 3, h, w); what cannot be read is noted."""
        ready: list[list[Future[tuple[str, Tensor | None]]]] = []
        for keys in wanted:
            ready.append([self._pool.submit(self._one, key) for key in keys])
            if len(ready) > _BATCHES_AHEAD:
                yield self._stacked(ready.pop(0))
        for futures in ready:
            yield self._stacked(futures)

    def _stacked(self, futures: Sequence[Future[tuple[str, Tensor | None]]]) -> tuple[list[str], Tensor]:
        readable = [(key, picture) for key, picture in (future.result() for future in futures) if picture is not None]
        for key, picture in readable:
            if key not in self._kept and len(self._kept) < self._room:
                self._kept[key] = picture
        if not readable:
            raise DataError(
                f"No picture of a batch of {len(futures)} can be read: {next(iter(self.unreadable.values()), '')}.",
                "They could be read when the audit ran; put the data set back as it was.",
            )
        return [key for key, _ in readable], torch.stack([picture for _, picture in readable])

    def _one(self, key: str) -> tuple[str, Tensor | None]:
        if (kept := self._kept.get(key)) is not None:
            return key, kept
        row = self._pixels.empty(1)[0]  # (3, h, w)
        if (fault := write_picture(self._pixels, self._pairs[key], row).fault) is not None:
            self.unreadable[key] = fault
            return key, None
        return key, row
