"""How much two sets of samples have in common."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any


def jaccard(a: AbstractSet[Any], b: AbstractSet[Any]) -> float:
    """Return the members of both sets over the members of either; 0 for two empty sets.

    >>> jaccard({1, 2, 3}, {2, 3, 4})
    0.5
    """
    return len(a & b) / len(a | b) if a or b else 0.0
