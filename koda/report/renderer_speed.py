"""What WeasyPrint works out time and again while it draws a report, worked out once; its pages stay what they are.

What is replaced are private names of it and of the libraries beneath. Where another version lacks one, that shortcut is
left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from koda.report.replacing import module, replaced

# Where Pango ends a paragraph, so that a text with one of them has to be laid out as it does by itself.
_PARAGRAPH_ENDS = re.compile("[\n\r\u0085\u2028\u2029]")
_IN_FLOW = ("static", "relative")  # positions


@contextmanager
def shortcuts() -> Iterator[None]:
    """Replace what is slow, and set it back."""
    with ExitStack() as stack:
        for shortcut in (_patterns_kept, _lines_kept, _flow_told_quickly, _lengths_taken, _pages_listed_once):
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
def _lines_kept() -> Iterator[None]:
    """Draw each line of text from what Pango laid out to find where it breaks.

    WeasyPrint drops that and has every line laid out again to be drawn. It also tells Pango only then that the text is
    one paragraph, which would have it start anew; of a text that is one, that can be said from the beginning.
    """
    lines = module("weasyprint.text.line_break")
    pango, layout = getattr(lines, "pango", None), getattr(lines, "Layout", None)
    methods = ("set_text", "deactivate", "reactivate", "get_first_line")
    if pango is None or layout is None or not all(hasattr(layout, method) for method in methods):
        yield
        return
    set_whole, drop, lay_out_again = layout.set_text, layout.deactivate, layout.reactivate

    def set_text(line: Any, text: str, justify: bool = False) -> None:
        pango.pango_layout_set_single_paragraph_mode(line.layout, _PARAGRAPH_ENDS.search(text) is None)
        set_whole(line, text, justify)

    def deactivate(line: Any) -> None:
        if getattr(line, "is_drawn", False):
            drop(line)

    def reactivate(line: Any, style: Any) -> None:
        line.is_drawn = True
        kept = getattr(line, "layout", None)
        if (
            kept is None
            or line.style is not style
            or line.justification_spacing
            or line.get_first_line()[1] is not None  # in the room that it had, it breaks
        ):
            lay_out_again(line, style)

    with (
        replaced(layout, "set_text", set_text),
        replaced(layout, "deactivate", deactivate),
        replaced(layout, "reactivate", reactivate),
    ):
        yield


@contextmanager
def _flow_told_quickly() -> Iterator[None]:
    """Tell by two looks that a box is in the flow, as almost all are; WeasyPrint asks five things of each."""
    box = getattr(module("weasyprint.formatting_structure.boxes"), "Box", None)
    asked = getattr(box, "is_in_normal_flow", None)

    def is_in_normal_flow(of: Any) -> bool:
        style = of.style
        return (style["float"] == "none" and style["position"] in _IN_FLOW) or asked(of)  # type: ignore[misc]

    with replaced(box, "is_in_normal_flow", is_in_normal_flow):
        yield


@contextmanager
def _lengths_taken() -> Iterator[None]:
    """Take a length in pixels as it stands, as most are, rather than look whether it has to be worked out."""
    percent = module("weasyprint.layout.percent")
    work_out = getattr(percent, "resolve_one_percentage", None)

    def resolve_one_percentage(box: Any, name: str, refer_to: Any) -> None:
        value = box.style[name]
        if getattr(value, "unit", None) == "px":
            setattr(box, name, value.value)
        else:
            work_out(box, name, refer_to)  # type: ignore[misc]

    with replaced(percent, "resolve_one_percentage", resolve_one_percentage):
        yield


@contextmanager
def _pages_listed_once() -> Iterator[None]:
    """Write the list of all pages once, not for each element of the tree of structure."""
    pdf = getattr(module("pydyf"), "PDF", None)
    before = getattr(pdf, "page_references", None)
    if not isinstance(before, property) or before.fget is None:
        yield
        return
    listed = before.fget

    def page_references(of: Any) -> Any:
        count, known = getattr(of, "listed_pages", (None, None))
        if count != of.pages["Count"]:
            count, known = of.listed_pages = (of.pages["Count"], listed(of))
        return known

    with replaced(pdf, "page_references", property(page_references)):
        yield
