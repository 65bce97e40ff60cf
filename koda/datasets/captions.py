"""Which of its captions an image goes with, and draws that do not depend on the order of a source."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from koda.config import DataConfig
from koda.datasets.base import Fault, Row

_Caption = TypeVar("_Caption")


def draw(seed: int, purpose: str, key: str) -> int:
    """Return a number of 64 bits for a key: random between seeds, the same wherever in a source the key stands."""
    text = f"{seed}\0{purpose}\0{key}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")


def choose(key: str, captions: Sequence[_Caption], config: DataConfig) -> list[tuple[str, _Caption]]:
    """Return the captions that ``data.captions`` asks for, each with the key of its pair.

    Args:
        key: of the image.
        captions: one or more.
        config: with "all" each caption is a pair, ``key#0``, ``key#1`` and so on.
    """
    if config.captions == "all":
        return [(f"{key}#{place}", caption) for place, caption in enumerate(captions)]
    place = draw(config.seed, "caption", key) % len(captions) if config.captions == "random" else 0
    return [(key, captions[place])]


def captioned(row: Row, value: Any, config: DataConfig) -> list[Row]:
    """Give a row the value of its caption column: a text, or a list of texts of which one or all are taken."""
    if row.fault is not None or row.key is None:
        return [row]
    several = isinstance(value, list | tuple)
    texts = [str(text) for text in (value if several else [value]) if text is not None]
    if not texts:
        return [replace(row, fault=Fault("the caption is missing"))]
    if not several:
        return [replace(row, caption=texts[0])]
    return [replace(row, key=key, caption=text) for key, text in choose(row.key, texts, config)]
