"""The fonts of the report: the only ones the PDF sees, so that it is the same on every machine.

Characters that they lack are drawn with fonts of the machine (:mod:`koda.report.system_fonts`), or spelled out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from functools import lru_cache
from pathlib import Path
from xml.sax.saxutils import escape

from fontTools.ttLib import TTFont

_NAMES = {"CJK": "Han", "IDEOGRAPHIC": "Han"}  # first words of Unicode's names -> script
_PACKAGES = {
    **dict.fromkeys(("Han", "Hangul", "Hiragana", "Katakana", "Bopomofo"), "fonts-noto-cjk"),
    "symbols": "fonts-symbola",
}
# tags, comments and what the document does not draw, then text; templates write `>` in a value as `&gt;`
_HIDDEN_AND_SHOWN = re.compile(r"((?:<(title|style)\b.*?</\2>|<[^>]*>)*)([^<]*)", re.DOTALL)
_LONGEST_RUN = 12  # characters that are spelled out of one run
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


def lacking(text: str, covered: AbstractSet[int]) -> set[str]:
    """Return the characters of the text that no font draws (spaces and format characters aside)."""
    return {
        char
        for char in set(text)
        if ord(char) > 0x7E
        and ord(char) not in covered
        and not _INVISIBLE.match(char)
        and unicodedata.category(char) not in ("Zs", "Zl", "Zp")
    }


def count_lacking(texts: Iterable[str], covered: AbstractSet[int]) -> int:
    """Return how many of the texts hold a character that no font draws."""
    return sum(1 for text in texts if lacking(text, covered))


def scripts_of(characters: Iterable[str]) -> list[str]:
    """Return the names of the scripts of some characters, sorted.

    >>> scripts_of("猫बि😀")
    ['Devanagari', 'Han', 'symbols']
    """
    return sorted({_script(char) for char in characters})


def packages_for(characters: Iterable[str]) -> list[str]:
    """Return the Debian packages of fonts that draw some characters.

    >>> packages_for("猫बि")
    ['fonts-noto-cjk', 'fonts-noto-core']
    """
    return sorted({_PACKAGES.get(script, "fonts-noto-core") for script in scripts_of(characters)})


def _script(char: str) -> str:
    if unicodedata.category(char)[0] == "S":
        return "symbols"
    first = unicodedata.name(char, "").partition(" ")[0]
    return _NAMES.get(first, first.capitalize()) or "unassigned characters"


def spell_lacking(text: str, covered: AbstractSet[int]) -> str:
    """Spell out by code points what no font draws: an archived PDF must not use .notdef, and boxes are all alike.

    >>> spell_lacking("a 红色 ball", frozenset())
    'a [U+7EA2 8272] ball'
    """
    missing = "".join(map(re.escape, sorted(lacking(text, covered))))
    text = _INVISIBLE.sub(_keep_joiners, text)
    return re.sub(f"[{missing}]+", _spelled, text) if missing else text


def shown_in(html: str) -> str:
    """Return the text of a document that is drawn: what stands between its tags, titles aside.

    >>> shown_in('<title>猫</title><p title="红">a <b>b</b></p>')
    'a b'
    """
    return "".join(text for _, _, text in _HIDDEN_AND_SHOWN.findall(html))


def spell_shown(html: str, covered: AbstractSet[int]) -> str:
    """Spell out what no font draws where a document shows it; titles and descriptions of pictures need no font.

    >>> spell_shown('<title>猫</title><img alt="猫"><p>猫</p>', frozenset())
    '<title>猫</title><img alt="猫"><p>[U+732B]</p>'
    """
    return _HIDDEN_AND_SHOWN.sub(lambda part: part[1] + spell_lacking(part[3], covered), html)


def _spelled(run: re.Match[str]) -> str:
    points = [f"{ord(char):04X}" for char in run[0][:_LONGEST_RUN]]
    more = len(run[0]) - len(points)
    return f"[U+{' '.join(points)}{f' and {more} more' if more else ''}]"


def _keep_joiners(match: re.Match[str]) -> str:
    """Joiners and direction marks shape Arabic and its like; other format characters are dropped."""
    return match[0] if match[0] in "\u200b\u200c\u200d\u200e\u200f\u061c\u00ad" else ""


def fontconfig(folders: Iterable[Path], cache: Path) -> str:
    """Return a fontconfig file that knows the given folders of fonts and nothing else."""
    return (
        '<?xml version="1.0"?>\n<!DOCTYPE fontconfig SYSTEM "fonts.dtd">\n<fontconfig>\n'
        + "".join(f"  <dir>{escape(str(folder))}</dir>\n" for folder in folders)
        + f"  <cachedir>{escape(str(cache))}</cachedir>\n"
        "  <selectfont><rejectfont><glob>*.woff2</glob></rejectfont></selectfont>\n"
        "</fontconfig>\n"
    )
