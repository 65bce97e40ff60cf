"""What WeasyPrint works out time and again while it draws a report, worked out once; its pages stay what they are.

What is replaced are private names of it and of the libraries beneath. Where another version lacks one, that shortcut is
left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from koda.report.replacing import Getter, module, property_replaced, replaced


@contextmanager
def shortcuts() -> Iterator[None]:
    """Replace what is slow, and set it back."""
    with ExitStack() as stack:
        for shortcut in (_patterns_kept, _pages_listed_once):
            stack.enter_context(shortcut())
        yield


class _Patterns(dict[Any, re.Pattern[str]]):
    """The pattern of some characters, or of all others, made when it is first asked for."""

    def __missing__(self, key: tuple[Any, bool]) -> re.Pattern[str]:
        characters, opposite = key
        within = "".join(f"\\x{ord(character):02x}" for character in characters)
        made = self[key] = re.compile(f"[{'' if opposite else '^'}{within}]+")
        return made


@contextmanager
def _patterns_kept() -> Iterator[None]:
    """Have the parser of HTML find the patterns that it keeps: it files each under another name than it looks up."""
    with replaced(module("tinyhtml5.inputstream"), "characters_until_regex", _Patterns()):
        yield


@contextmanager
def _pages_listed_once() -> Iterator[None]:
    """Write the list of all pages once, not for each element of the tree of structure."""

    def once(listed: Getter) -> Getter:
        def page_references(of: Any) -> Any:
            count, known = getattr(of, "listed_pages", (None, None))
            if count != of.pages["Count"]:
                count, known = of.listed_pages = (of.pages["Count"], listed(of))
            return known

        return page_references

    with property_replaced(getattr(module("pydyf"), "PDF", None), "page_references", once):
        yield
