"""Which of its captions an image goes with, and draws that do not depend on the order of a source."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
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


@dataclass
class _Captions:
    """The captions of an image: the rows that hold them, each caption with the row that it is from."""

    n_rows: int = 0
    texts: list[tuple[Row, str]] = field(default_factory=list)
    is_list: bool = False

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
    image. With "all" each caption is then a sample, ``key#0``, ``key#1`` and so on; else the rows that were not
    chosen are counted as merged.

    Args:
        source: its rows have no captions yet.
        values: of the caption column, a row each; what a row with a fault has counts for nothing.
        config: of the data set.
    """
    of_key: dict[str, _Captions] = {}
    order: list[Row | _Captions] = []
    for row, value in zip(source.rows, values, strict=True):
        if row.fault is not None or row.key is None:
            order.append(row)
            continue
        is_list = isinstance(value, list | tuple)
        texts, fault = _texts(list(value) if is_list else [value])
        if fault is not None:
            order.append(replace(row, fault=fault))
            continue
        group = of_key.get(row.key)
        if group is None or not group.takes(row, texts):  # another image of that key is a duplicate key
            group = _Captions()
            of_key.setdefault(row.key, group)
            order.append(group)
        group.n_rows += 1
        group.is_list |= is_list
        group.texts += [(row, text) for text in texts]
    several = any(group.is_list or group.n_rows > 1 for group in of_key.values())
    rows: list[Row] = []
    n_split = n_merged = 0
    for item in order:
        if isinstance(item, Row):
            rows.append(item)
            continue
        key = item.texts[0][0].key or ""
        chosen = choose(key, item.texts, config) if several else [(key, item.texts[0])]
        rows += [replace(row, key=name, caption=text) for name, (row, text) in chosen]
        n_split += max(0, len(chosen) - item.n_rows)
        n_merged += max(0, item.n_rows - len(chosen))
    merged = {**source.merged, **({_ANOTHER_CAPTION: n_merged} if n_merged else {})}
    return replace(source, rows=rows, n_split=source.n_split + n_split, merged=merged)


def _texts(values: list[Any]) -> tuple[list[str], Fault | None]:
    """Return captions as text, or what is wrong with them where there is none."""
    found: list[str] = []
    wrong: Fault | None = None
    for value in values:
        if is_missing(value):
            continue
        try:
            text = plain(value)
        except TypeError as error:
            wrong = Fault("the caption is not text", str(error))
            continue
        if isinstance(text, str) and stands_for_nothing(text):
            wrong = Fault(MISSING, f"{text.strip()} stands for it")
        else:
            found.append(str(text))
    return found, None if found else wrong or Fault(MISSING)
