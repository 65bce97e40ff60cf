"""Pictures on their way into a model: read, decoded and transformed by some threads while the model computes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from koda.datasets import Pair, decode_picture
from koda.datasets.blobs import reason_of
from koda.datasets.pictures import MAX_PIXELS
from koda.errors import DataError
from koda.models import Encoder

if TYPE_CHECKING:
    import torch

    from koda.models.pixels import Pixels

_BATCHES_AHEAD = 2  # batches prepared while one is in the model
_MOST_THREADS = 16


@dataclass(frozen=True)
class Written:
    """What became of a picture on its way into a model.

    Args:
        fault: why it cannot be used, or None.
        altered: kinds of what is not as it lies in its file.
    """

    fault: str | None = None
    altered: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageBatch:
    """Some pairs and their pixels.

    Args:
        pairs: b of them.
        pixels: (b, 3, h, w) in the model's type; the rows of faulty pairs hold nothing.
        written: b, what became of each.
    """

    pairs: Sequence[Pair]
    pixels: torch.Tensor
    written: list[Written]

    def good(self) -> tuple[list[Pair], torch.Tensor]:
        """Return the usable pairs and their pixels."""
        rows = [row for row, written in enumerate(self.written) if written.fault is None]
        if len(rows) == len(self.pairs):
            return list(self.pairs), self.pixels
        return [self.pairs[row] for row in rows], self.pixels[rows]


class ImageStream:
    """The pictures of some shards, batch by batch; no batch crosses the end of a shard.

    A batch is good until the next one is asked for: its pixels are then written over. Some buffers that go round
    keep memory level, where new ones for each batch leave it in pieces.

    The threads run Pillow and numpy, which let go of the interpreter's lock, and no torch: torch would start a
    team of threads of its own in each of them.
    """

    def __init__(self, encoder: Encoder, shards: Sequence[Sequence[Pair]], size: int) -> None:
        self._encoder, self._size = encoder, size
        wanted = shards if "image" in encoder.modalities else []
        self._waiting = deque(batch for pairs in wanted for batch in self._cut(pairs))
        self._free: list[torch.Tensor] = []
        self._given: torch.Tensor | None = None
        self._ready: deque[tuple[Sequence[Pair], torch.Tensor, list[Future[Written]]]] = deque()
        self._pool = decoding_threads()

    def __enter__(self) -> ImageStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def n_batches(self, pairs: Sequence[Pair]) -> int:
        """Return the number of batches of a shard."""
        return len(self._cut(pairs))

    def next(self) -> ImageBatch:
        """Return the next batch, and have the threads prepare those after it."""
        if self._given is not None:
            self._free.append(self._given)
        self._prepare(1)
        pairs, self._given, futures = self._ready.popleft()
        written = [future.result() for future in futures]
        self._prepare(_BATCHES_AHEAD)
        return ImageBatch(pairs, self._given[: len(pairs)], written)

    def _cut(self, pairs: Sequence[Pair]) -> list[Sequence[Pair]]:
        return [pairs[first : first + self._size] for first in range(0, len(pairs), self._size)]

    def _prepare(self, ahead: int) -> None:
        assert self._encoder.pixels is not None
        while self._waiting and len(self._ready) < ahead:
            pairs = self._waiting.popleft()
            pinned = self._encoder.device.type == "cuda"
            pixels = self._free.pop() if self._free else self._encoder.pixels.empty(self._size, pinned=pinned)
            futures = [self._pool.submit(self._fill, pair, pixels[row]) for row, pair in enumerate(pairs)]
            self._ready.append((pairs, pixels, futures))

    def _fill(self, pair: Pair, out: torch.Tensor) -> Written:
        assert self._encoder.pixels is not None
        return write_picture(self._encoder.pixels, pair, out)


def write_picture(pixels: Pixels, pair: Pair, out: torch.Tensor) -> Written:
    """Decode and transform one picture into a row (3, h, w); return why it cannot be used, or what was altered."""
    try:
        picture = decode_picture(pair)
        image = picture.image
        if max(image.size) / min(image.size) * max(pixels.size) ** 2 > MAX_PIXELS:
            return Written(f"the image is too narrow: {image.width} x {image.height} pixels")
        pixels.write(image, out)
    except DataError as error:
        return Written(error.message)
    except Exception as error:  # a picture that no transform can take is one picture less, not the end
        return Written(f"the image cannot be prepared: {reason_of(error)}")
    return Written(altered=picture.altered)


def decoding_threads() -> ThreadPoolExecutor:
    """Return threads for :func:`write_picture`, as many as the cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ThreadPoolExecutor(min(_MOST_THREADS, max(2, cores)), thread_name_prefix="decode")
