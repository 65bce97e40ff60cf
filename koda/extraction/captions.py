"""Captions, each distinct one encoded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from koda.typing import FloatArray


class CaptionMemory:
    """The vectors of captions that a later shard has too, and of no others.

    A caption is encoded in the first shard that has a row for it; a row that was rejected for its image counts for
    nothing. What is encoded in which batch so depends on the data set alone: a resumed run finds the vectors of
    the finished shards in these shards.

    Args:
        shards: the captions of every shard, in order.
    """

    def __init__(self, shards: Sequence[Sequence[str]]) -> None:
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        for number, captions in enumerate(shards):
            for caption in captions:
                first.setdefault(caption, number)
                last[caption] = number
        self._last = {caption: number for caption, number in last.items() if number > first[caption]}
        self._wanted = set()  # shards that have a caption which a later one has too
        for number, captions in enumerate(shards):
            if any(self._last.get(caption, -1) > number for caption in captions):
                self._wanted.add(number)
        self._known: dict[str, FloatArray] = {}

    def wants(self, number: int) -> bool:
        """Tell whether a shard has captions that a later one has too."""
        return number in self._wanted

    def encode(self, captions: Sequence[str], encode: Callable[[list[str]], FloatArray]) -> FloatArray:
        """Return the vectors (n, d) of captions, encoding only those that are not known."""
        new = [caption for caption in dict.fromkeys(captions) if caption not in self._known]
        vectors = dict(zip(new, encode(new), strict=True))
        return np.stack([self._known[caption] if caption in self._known else vectors[caption] for caption in captions])

    def learn(self, number: int, captions: Sequence[str], text: FloatArray) -> None:
        """Keep what later shards need of a finished shard's rows, and forget what none needs any more."""
        self._known = {caption: vector for caption, vector in self._known.items() if self._last[caption] > number}
        for caption, vector in zip(captions, text, strict=True):
            if self._last.get(caption, -1) > number and caption not in self._known:
                self._known[caption] = vector.copy()  # a view would keep the whole shard
