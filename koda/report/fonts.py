"""The fonts of the report: the only ones the PDF sees, so that it is the same on every machine."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from xml.sax.saxutils import escape

from fontTools.ttLib import TTFont

MISSING = "□"
# Format characters have no glyph and need none.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u180e\u200b-\u200f\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef]"
)


@lru_cache(maxsize=4)
def coverage(folder: Path) -> frozenset[int]:
    """Return the code points that at least one text font can draw, in regular and in bold."""
    regular, bold = (
        set().union(*(_code_points(folder / name) for name in names))
        for names in (("Inter-Regular.ttf", "DejaVuSans.ttf"), ("Inter-Bold.ttf", "DejaVuSans-Bold.ttf"))
    )
    return frozenset(regular & bold)


def _code_points(path: Path) -> set[int]:
    with TTFont(path, lazy=True) as font:
        return set(font.getBestCmap())


def lacking(text: str, covered: frozenset[int]) -> set[str]:
    """Return the characters of the text that no font draws (spaces and format characters aside)."""
    return {
        char
        for char in set(text)
        if ord(char) > 0x7E
        and ord(char) not in covered
        and not _INVISIBLE.match(char)
        and unicodedata.category(char) not in ("Zs", "Zl", "Zp")
    }


def count_lacking(texts: Iterable[str], covered: frozenset[int]) -> int:
    """Return how many of the texts hold a character that no font draws."""
    return sum(1 for text in texts if lacking(text, covered))


def replace_lacking(text: str, covered: frozenset[int]) -> str:
    """Put a box for every character that no font draws; an archived PDF must not use .notdef."""
    table = {ord(char): MISSING for char in lacking(text, covered)}
    return _INVISIBLE.sub(_keep_joiners, text).translate(table)


def _keep_joiners(match: re.Match[str]) -> str:
    """Joiners and direction marks shape Arabic and its like; other format characters are dropped."""
    return match[0] if match[0] in "\u200b\u200c\u200d\u200e\u200f\u061c\u00ad" else ""


def fontconfig(folder: Path, cache: Path) -> str:
    """Return a fontconfig file that knows the given folder of fonts and nothing else."""
    return (
        '<?xml version="1.0"?>\n<!DOCTYPE fontconfig SYSTEM "fonts.dtd">\n<fontconfig>\n'
        f"  <dir>{escape(str(folder))}</dir>\n  <cachedir>{escape(str(cache))}</cachedir>\n"
        "  <selectfont><rejectfont><glob>*.woff2</glob></rejectfont></selectfont>\n"
        "</fontconfig>\n"
    )
