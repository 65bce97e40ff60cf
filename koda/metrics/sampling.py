"""Which samples stand for all of them where a figure costs too much of very many: drawn, and said in the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from koda.embeddings.rows import drawn_keys

Name = TypeVar("Name")

MANY = 50_000  # samples of an audit up to which all are measured
DRAWN = 8192  # that stand for more: a share of them is known to 1.1 points at 95 %; the held-out test takes as many
_MOST_OF_PART, _LEAST_OF_PART = 2048, 256  # drawn of one part: known to 2.2 points, and to 6
_OF_ALL_PARTS = 16_384  # drawn of all of them together


def drawn_for_many(keys: Sequence[str], n: int, seed: int) -> list[str] | None:
    """Return the samples that stand for some keys of a large audit, sorted; None where all of them are measured.

    What each key is measured against is all samples of the audit, so that the cost grows with both numbers.

    Args:
        keys: that would be measured.
        n: samples of the audit.
        seed: of the draw, which does not depend on the order of the keys.

    >>> keys = [f"{i:05d}" for i in range(60_000)]
    >>> drawn_for_many(keys[:30_000], 50_000, 0) is None
    True
    >>> len(drawn_for_many(keys[:30_000], 60_000, 0))
    8192
    """
    if n <= MANY or len(keys) <= DRAWN:
        return None
    return drawn_keys(keys, DRAWN, seed)


def queries_for_many(keys: Sequence[str], images: Mapping[str, str], n: int, seed: int) -> list[str] | None:
    """Return the samples that ask in retrieval for all of a large audit, sorted; None where all of them ask.

    Images are drawn, each with all its captions, about as many as have 8192: if captions were, an image of many would
    be drawn more often than one of few, and it has more right answers to be found.

    Args:
        keys: that would ask.
        images: key -> what tells its image apart.
        n: samples of the audit.
        seed: of the draw, which does not depend on the order of the keys.
    """
    if n <= MANY or len(keys) <= DRAWN:
        return None
    return _of_drawn_images(keys, images, DRAWN, seed)


def queries_of_parts(
    parts: Mapping[Name, Sequence[str]], images: Mapping[str, str], drawn: Sequence[str], seed: int
) -> dict[Name, tuple[str, ...]]:
    """Return the samples that ask for parts of a large audit, beside those that ask for all of it.

    Of each part they are those of its members that ask for the whole, and as many others, drawn by image too, as bring
    them to about 2048: fewer, where 16 384 for all parts together allow fewer, but never under 256. So all images of
    the part have equal chances, and what asked for the whole is not ranked again.

    Args:
        parts: the members of each.
        images: key -> what tells its image apart.
        drawn: of the whole, as :func:`queries_for_many` returns them.
        seed: of the draws, which do not depend on the order of the members.

    >>> whole = [f"{i:05d}" for i in range(60_000)]
    >>> images = dict(zip(whole, whole))
    >>> found = queries_of_parts({"all": whole, "few": whole[:30]}, images, whole[:8192], 0)
    >>> len(found["all"]), len(found["few"])
    (8192, 30)
    """
    known = set(drawn)
    most = max(_LEAST_OF_PART, min(_MOST_OF_PART, _OF_ALL_PARTS // max(len(parts), 1)))
    found = {}
    for name, members in parts.items():
        inside = [key for key in members if key in known]
        others = [key for key in members if key not in known]
        more = _of_drawn_images(others, images, most - len(inside), seed) if len(inside) < most else []
        found[name] = tuple(sorted([*inside, *more]))
    return found


def _of_drawn_images(keys: Sequence[str], images: Mapping[str, str], size: int, seed: int) -> list[str]:
    """Return all of the keys of so many drawn images as have about that many, sorted."""
    if len(keys) <= size:
        return sorted(keys)
    keys_of: dict[str, list[str]] = {}
    for key in keys:
        keys_of.setdefault(images[key], []).append(key)
    count = max(1, round(size * len(keys_of) / len(keys)))
    return sorted(key for image in drawn_keys(list(keys_of), count, seed) for key in keys_of[image])
