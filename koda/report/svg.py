"""What every figure of the report is drawn with: colours, and SVG elements as text.

Only presentation attributes are used (no classes, no custom properties, no ``currentColor``): the
PDF renderer gives inline SVG none of the document's style. The palette is a set of named constants
so that the style sheet of the HTML report can override each colour in the dark. A model keeps its
colour in all figures, whether it is the target or the reference of a question.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from koda.report.text import clean, direction

INK = "#1b2230"
MUTED = "#545d6e"
RULE = "#d3d9e2"
PANEL = "#f6f7f9"
PAPER = "#ffffff"
DOT = "#8b94a5"
BASELINE = "#1d5fb8"
CANDIDATE = "#b4530a"
LIMIT = "#b3151f"
WARN = "#8a5a00"
FONT = "Inter, DejaVu Sans, sans-serif"
_MIRRORED = {"start": "end", "middle": "middle", "end": "start"}


def svg(width: float, height: float, title: str, parts: Sequence[str]) -> Markup:
    """Return a drawing that says its title to readers who cannot see it."""
    name = escape(clean(title))
    return Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-label="{name}" font-family="{FONT}"><title>{name}</title>'
        + "".join(parts)
        + "</svg>"
    )


def text_at(x: float, y: float, text: str, fill: str = MUTED, anchor: str = "start", size: float = 11) -> str:
    """Return a text at a point, cleaned and escaped.

    Args:
        x, y: the point.
        text: what stands there; what begins with Arabic or Hebrew runs from right to left.
        fill: colour.
        anchor: whether the text has the point at its left (start), in its middle or at its right (end).
        size: of the font, in px.
    """
    turned = ""
    if direction(text) == "rtl":  # then start is the right
        turned, anchor = ' direction="rtl"', _MIRRORED[anchor]
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{fill}" text-anchor="{anchor}"{turned}>'
        f"{escape(clean(text))}</text>"
    )


def line(x1: float, y1: float, x2: float, y2: float, stroke: str, dash: str = "") -> str:
    """Return a straight line, broken where `dash` is given."""
    broken = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" fill="none" stroke="{stroke}" stroke-width="1"{broken}/>'


def text_width(text: str, size: float) -> float:
    """Width of a text in px, near enough to lay out a legend (wide scripts count double)."""
    return sum(1.0 if ord(c) > 0x1100 else 0.56 for c in text) * size


def fit(text: str, width: float, size: float) -> str:
    """Clean a text and shorten it to a width in px."""
    text = clean(text)
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "…", size) > width:
        text = text[:-1]
    return text.rstrip() + "…"


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers that enclose [low, high]."""
    span = high - low if high - low > 1e-12 * max(1.0, abs(high)) else abs(high) or 1.0
    raw = span / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, max(last, first + 1) + 1)]


def tick_text(value: float, among: Sequence[float]) -> str:
    """Write a tick with the decimals that its neighbours ask for."""
    step = among[1] - among[0]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:.{digits}f}".replace("-", "−")
