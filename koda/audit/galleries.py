"""Galleries: which samples of a lobe a report shows, and why each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from koda.datasets import Pair
from koda.embeddings.rows import drawn_keys
from koda.records import LobeRecord, Pick, SampleRecord
from koda.slicing.slices import Lobe


def lobe_record(pairs: Mapping[str, Pair], lobe: Lobe, size: int, seed: Sequence[int]) -> LobeRecord:
    """Return a lobe as the record holds it, with its gallery.

    Args:
        pairs: key -> pair.
        lobe: of a slice.
        size: samples shown at most.
        seed: of the members that are drawn.
    """
    samples = [
        SampleRecord(
            key=key,
            caption=pairs[key].caption,
            score=float(lobe.scores[place]),
            split="discovery" if lobe.in_sample[place] else "confirmation",
            metadata=pairs[key].metadata,
            pick=pick,
        )
        for place, pick in picked(lobe, size, seed)
        for key in [lobe.keys[place]]
    ]
    return LobeRecord(
        sign=lobe.sign,
        size=lobe.size,
        n_held_out=int((~lobe.in_sample[: lobe.size]).sum()),
        samples=samples,
        words=list(lobe.words),
        metadata=list(lobe.metadata),
        name=lobe.name,
    )


def picked(lobe: Lobe, size: int, seed: Sequence[int]) -> list[tuple[int, Pick]]:
    """Return which places of the ranking a gallery shows, each once, and why.

    Of 12 samples 6 are the first members of the ranking, 4 are drawn from the other members, and 2 are the first that
    are no members; other sizes are shared out alike. Held-out samples come first: of the first members a third at most
    are such as the search chose, of those drawn none, unless held-out ones are lacking.

    Args:
        lobe: of a slice.
        size: samples at most.
        seed: of the draw.
    """
    n_drawn, n_beyond = size // 3, size // 6
    places = range(lobe.size)
    first = _first(places, lobe, size - n_drawn - n_beyond)
    others = set(places) - set(first)
    drawn = _drawn(others, lobe, n_drawn, seed)
    beyond = range(lobe.size, min(lobe.size + n_beyond, len(lobe.keys)))
    picks: list[tuple[int, Pick]] = [(place, "top") for place in first]
    picks += [(place, "member") for place in drawn]
    return picks + [(place, "near miss") for place in beyond]


def _first(places: Sequence[int], lobe: Lobe, count: int) -> list[int]:
    new, seen = _by_split(places, lobe)
    n_seen = min(len(seen), max(count // 3, count - len(new)))
    return [*new[: count - n_seen], *seen[:n_seen]]


def _drawn(places: set[int], lobe: Lobe, count: int, seed: Sequence[int]) -> list[int]:
    """Draw places by their keys, held-out ones before the others; each part in the order of the ranking."""
    place_of = {lobe.keys[place]: place for place in places}
    drawn: list[int] = []
    for part in _by_split(sorted(places), lobe):
        keys = drawn_keys([lobe.keys[place] for place in part], count - len(drawn), seed)
        drawn += sorted(place_of[key] for key in keys)
    return drawn


def _by_split(places: Sequence[int], lobe: Lobe) -> tuple[list[int], list[int]]:
    """Return the held-out ones of some places, and those that the search saw."""
    chosen = np.asarray(lobe.in_sample, dtype=bool)
    return [place for place in places if not chosen[place]], [place for place in places if chosen[place]]
