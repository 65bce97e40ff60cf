"""Which of its captions an image goes with, and draws that do not depend on the order of a source."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from koda.config import DataConfig
from koda.datasets.base import Fault, Row, Source
from koda.datasets.columns import is_missing, plain
from koda.datasets.text import stands_for_nothing

MISSING = "the caption is missing"
_ANOTHER_CAPTION = "another caption of the same image"
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


def missing(text: str) -> Fault:
    """Return what is wrong where a text stands in the place of a caption that is missing."""
    return Fault(MISSING, f"{text.strip()} stands for it")


@dataclass(slots=True)
class _Captions:
    """The captions of an image that has several: how many rows hold them, each caption with the row that it is from."""

    n_rows: int
    texts: list[tuple[Row, str]]

    def takes(self, row: Row, texts: list[str]) -> bool:
        """Tell whether a row has the same image: the same file; or, with another caption, the same bytes elsewhere."""
        one, other = self.texts[0][0].image, row.image
        if one is None or other is None or one == other:
            return one == other
        if one.length is None or one.length != other.length or set(texts) <= {text for _, text in self.texts}:
            return False
        try:
            return one.read() == other.read()
        except OSError:
            return False


def captioned(source: Source, values: Iterable[Any], config: DataConfig) -> Source:
    """Give the rows of a source the values of its caption column, of which one or all are taken.

    An image has several captions where the column holds lists, or where several rows have its key and name the same
    image. With "all" each of these is then a sample, ``key#0``, ``key#1`` and so on, and an image with one caption
    keeps its key; else the rows that were not chosen are counted as merged.

    Args:
        source: its rows; those whose value is a text may have it as their caption already, which saves a copy of each.
        values: of the caption column, a row each; what a row with a fault has counts for nothing.
        config: of the data set.
    """
    first: dict[str, int] = {}  # key -> its place in the order
    order: list[Row | _Captions] = []  # a row that is alone with its caption stands for itself
    for row, value in zip(source.rows, values, strict=True):
        if row.fault is not None or row.key is None:
            order.append(row)
            continue
        texts, fault = _texts(value)
        if fault is not None:
            order.append(replace(row, caption=None, fault=fault))
            continue
        place = first.setdefault(row.key, len(order))
        if place < len(order):
            before = order[place]
            group = _Captions(1, [(before, before.caption or "")]) if isinstance(before, Row) else before
            if group.takes(row, texts):
                group.n_rows += 1
                group.texts += [(row, text) for text in texts]
                order[place] = group
                continue
        # the first of its key, or another image, which is a duplicate key
        order.append(_with(row, row.key, texts[0]) if len(texts) == 1 else _Captions(1, [(row, t) for t in texts]))
    rows: list[Row] = []
    n_split = n_merged = 0
    for item in order:
        if isinstance(item, Row):
            rows.append(item)
            continue
        chosen = choose(item.texts[0][0].key or "", item.texts, config)
        rows += [_with(row, name, text) for name, (row, text) in chosen]
        n_split += max(0, len(chosen) - item.n_rows)
        n_merged += max(0, item.n_rows - len(chosen))
    merged = {**source.merged, **({_ANOTHER_CAPTION: n_merged} if n_merged else {})}
    return replace(source, rows=rows, n_split=source.n_split + n_split, merged=merged)


def _with(row: Row, key: str, caption: str) -> Row:
    """Return a row with that key and caption: itself where it has them."""
    return row if row.caption == caption and row.key == key else replace(row, key=key, caption=caption)


def _texts(value: Any) -> tuple[list[str], Fault | None]:
    """Return a caption or a list of them as text, or what is wrong with them where there is none."""
    if type(value) is str and value.isascii() and not stands_for_nothing(value):  # nearly every row of most tables
        return [value], None
    found: list[str] = []
    wrong: Fault | None = None
    for item in value if isinstance(value, list | tuple) else [value]:
        if is_missing(item):
            continue
        try:
            text = plain(item)
        except TypeError as error:
            wrong = Fault("the caption is not text", str(error))
            continue
        if isinstance(text, str) and stands_for_nothing(text):
            wrong = missing(text)
        else:
            found.append(str(text))
    return found, None if found else wrong or Fault(MISSING)
