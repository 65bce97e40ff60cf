"""Which samples stand for all of them where a figure costs too much of very many: drawn, and said in the record."""

from __future__ import annotations

from collections.abc import Sequence

from koda.embeddings.rows import drawn_keys

MANY = 50_000  # samples of an audit up to which all are measured
DRAWN = 8192  # that stand for more: a share of them is known to 1.1 points at 95 %; the held-out test takes as many


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
