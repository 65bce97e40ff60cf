"""How koda puts what it says: text that is safe to show anywhere, and numbers that agree with their nouns."""

from __future__ import annotations

import re

# C0 and C1 controls and DEL move the cursor, recolour, retitle; directional controls reorder what stands beside them,
# and so may the deprecated ones up to U+206F; U+FFF9 to U+FFFB hide what they annotate; U+2028 and U+2029 end a line; a
# lone surrogate is a byte of a file name that is not UTF-8
_UNSAFE = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufff9-\ufffb\ud800-\udfff"
_UNSAFE_TEXT = re.compile(f"[{_UNSAFE}]")
_UNSAFE_LINE = re.compile(f"[\t\n{_UNSAFE}]")
_SPELLED = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}


def printable(text: str) -> str:
    r"""Spell out control and directional characters, so that they are shown and not obeyed; lines and tabs stay.

    >>> print(printable("a\x1b[2Jb\u202e"))
    a\x1b[2Jb\u202e
    """
    return _UNSAFE_TEXT.sub(_spell, text)


def one_line(text: str) -> str:
    r"""Spell out control and directional characters, ends of lines and tabs too, so that no text passes for a line.

    >>> print(one_line("a\nPASS"))
    a\nPASS
    """
    return _UNSAFE_LINE.sub(_spell, text)


def is_printable(text: str) -> bool:
    """Tell whether a text has no control or directional characters but ends of lines and tabs."""
    return _UNSAFE_TEXT.search(text) is None


def printable_json(text: str) -> str:
    r"""Escape control and directional characters within JSON, which then says the same.

    >>> print(printable_json('{"a": "\x9b\u202e"}'))
    {"a": "\u009b\u202e"}
    """
    return _UNSAFE_TEXT.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def counted(n: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun: `many`, or `one` and an s, for all numbers but 1.

    >>> counted(1, "sample"), counted(0, "sample"), counted(2, "query", "queries")
    ('1 sample', '0 samples', '2 queries')
    """
    return f"{n} {agreeing(n, one, many or f'{one}s')}"


def agreeing(n: int, one: str, many: str) -> str:
    """Return the noun, verb or pronoun that goes with a number: `one` with 1, `many` with all others.

    >>> agreeing(1, "is", "are"), agreeing(0, "is", "are")
    ('is', 'are')
    """
    return one if n == 1 else many


def _spell(match: re.Match[str]) -> str:
    char = match[0]
    code = ord(char)
    return _SPELLED.get(char) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
