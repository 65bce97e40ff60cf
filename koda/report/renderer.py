"""How WeasyPrint is set while it draws a report: what it has no options for.

What is set are private names of it. Where another version lacks one, that setting is left out: the report is then drawn
more slowly, or by another subsetter, or its figures spell Arabic and Hebrew as WeasyPrint does.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from fontTools.ttLib import TTFont

from koda.report.renderer_speed import shortcuts
from koda.report.replacing import Getter, module, property_replaced, replaced
from koda.report.text import direction

_ISOLATED = re.compile(r"<bdi>(?=([^<]*))")
_SHAPING = {"BASE", "GDEF", "GPOS", "GSUB", "JSTF", "MATH"}  # tables of a font


def with_directions(html: str) -> str:
    """State the direction of each text that HTML sets apart, which WeasyPrint does not find out by itself.

    >>> with_directions("<bdi>red</bdi> <bdi>חתול = red</bdi>")
    '<bdi>red</bdi> <bdi dir="rtl">חתול = red</bdi>'
    """
    return _ISOLATED.sub(lambda found: '<bdi dir="rtl">' if direction(found[1]) == "rtl" else found[0], html)


@contextmanager
def settings() -> Iterator[None]:
    """Set WeasyPrint, which has to be importable, and set it back; the caller lets one thread at a time draw."""
    with ExitStack() as stack:
        for setting in (_one_subsetter, _texts_in_one_run, _no_collection, shortcuts):
            stack.enter_context(setting())
        yield


@contextmanager
def _one_subsetter() -> Iterator[None]:
    """Have fontTools cut the fonts down wherever the report is drawn.

    WeasyPrint takes HarfBuzz's subsetter where the machine has that library; the two give different bytes, so that the
    same record would give another file on a machine without it. fontTools comes with WeasyPrint. It reads the tables by
    which text is shaped whole before it drops them, which takes longer than all else that it does: they are dropped
    unread, since the glyphs of a PDF are chosen and placed.
    """

    def without_shaping(*args: Any, **options: Any) -> TTFont:
        font = TTFont(*args, **options)
        for table in _SHAPING.intersection(font.keys()):
            del font[table]
        return font

    fonts = module("weasyprint.pdf.fonts")
    with replaced(fonts, "harfbuzz_subset", None), replaced(fonts, "TTFont", without_shaping):
        yield


class _Run(str):
    """A text that is one letter to whoever goes through its letters."""

    __slots__ = ()

    def __iter__(self) -> Iterator[str]:
        yield str(self)


@contextmanager
def _texts_in_one_run() -> Iterator[None]:
    """Have each text of a figure laid out whole.

    WeasyPrint places the letters of an SVG text one by one, in the order in which they are stored: Arabic and Hebrew
    come out backwards, and what joins or stacks its letters falls apart. No figure of koda places single letters.
    """

    def whole(stored_in: Getter) -> Getter:
        def text(node: Any) -> Any:
            stored = stored_in(node)
            return _Run(stored) if isinstance(stored, str) else stored

        return text

    with property_replaced(getattr(module("weasyprint.svg"), "Node", None), "text", whole):
        yield


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python from looking for cycles of objects while a PDF is made.

    A document is millions of objects that live until it is written. The collector went through all of them time and
    again, which was a third of the work, and freed next to nothing. Other threads do without the collector for as long.
    """
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()
