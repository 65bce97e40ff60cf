"""Figures of the report as SVG text, drawn by hand so that one figure serves browser and PDF alike.

Only presentation attributes are used (no classes, no custom properties, no ``currentColor``): the
PDF renderer gives inline SVG none of the document's style. The palette is a set of named constants
so that the style sheet of the HTML report can override each colour in the dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from koda.records import Estimate
from koda.report.text import clean

INK = "#1b2230"
MUTED = "#545d6e"
RULE = "#d3d9e2"
PANEL = "#f6f7f9"
PAPER = "#ffffff"
DOT = "#8b94a5"
TARGET = "#1d5fb8"
REFERENCE = "#b4530a"
LIMIT = "#b3151f"
MARK_COLOURS = ("#1d5fb8", "#b4530a", "#0b7a53", "#8a3ba8", "#a8326e", "#6b6100")
FONT = "Inter, DejaVu Sans, sans-serif"

# A mark is told apart by shape as well as colour; 5 and 6 are coprime, so 30 findings differ.
_SHAPES = (
    "m-{r} 0a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0z",  # disc
    "m0 -{r}l{r} {d}h-{d}z",  # triangle
    "m-{r} -{r}h{d}v{d}h-{d}z",  # square
    "m0 -{r}l{r} {r}l-{r} {r}l-{r} -{r}z",  # diamond
    "m0 {r}l{r} -{d}h-{d}z",  # triangle, point down
)


_DASHES = ("", "6 3", "2 3")  # lines of a figure are told apart without colour too


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its interval; the ends are None where there are none."""

    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, estimate: Estimate) -> Interval:
        """Return what is drawn of an estimate."""
        return cls(estimate.value, estimate.low, estimate.high)


@dataclass(frozen=True)
class IntervalRow:
    """One line of an interval plot: the same quantity under two models."""

    label: str
    target: Interval
    reference: Interval


def interval_plot(
    rows: Sequence[IntervalRow],
    *,
    title: str,
    target_name: str,
    reference_name: str,
    axis: str,
    limits: Mapping[str, float] | None = None,
    scale: float = 1.0,
    width: int = 640,
    label_width: int = 190,
) -> Markup:
    """Draw values with whiskers, a row each, the target filled and the reference hollow.

    Args:
        rows: top to bottom.
        title: said to readers who cannot see the figure.
        target_name: in the legend, as is `reference_name`.
        reference_name: see `target_name`.
        axis: what the horizontal axis measures, with its unit.
        limits: name -> value, drawn as broken vertical lines.
        scale: factor from the given values to the axis (100 for percent).
        width: of the view box, in px.
        label_width: px kept at the left for the labels.
    """
    limits = {name: value for name, value in (limits or {}).items() if math.isfinite(value)}
    values = [0.0, *limits.values()]
    for row in rows:
        for entry in (row.target, row.reference):
            values += [v for v in (entry.value, entry.low, entry.high) if v is not None and math.isfinite(v)]
    ticks = _ticks(min(values) * scale, max(values) * scale)
    left, right, top = label_width, width - 16, 34 + 15 * len(limits)
    step = 30
    bottom = top + step * len(rows)

    def x(value: float) -> float:
        return left + (value * scale - ticks[0]) / (ticks[-1] - ticks[0]) * (right - left)

    parts = [_legend(left, target_name, reference_name, right)]
    for tick in ticks:
        at = left + (tick - ticks[0]) / (ticks[-1] - ticks[0]) * (right - left)
        parts.append(_line(at, top, at, bottom, RULE))
        parts.append(_text(at, bottom + 15, _tick_text(tick, ticks), anchor="middle"))
    parts.append(_text((left + right) / 2, bottom + 32, axis, anchor="middle"))
    for number, (name, value) in enumerate(limits.items()):
        at, height = x(value), 34 + 15 * number
        parts.append(_line(at, height + 2, at, bottom, LIMIT, dash="4 3"))
        near_right = at > left + 0.66 * (right - left)
        parts.append(
            _text(at + (-4 if near_right else 4), height + 9, name, LIMIT, "end" if near_right else "start", size=10)
        )
    for number, row in enumerate(rows):
        y = top + step * (number + 0.5)
        parts.append(_text(left - 10, y + 4, _fit(row.label, left - 14, 11), INK, "end"))
        for entry, colour, dy, mark in ((row.target, TARGET, -5, "disc"), (row.reference, REFERENCE, 6, "box")):
            parts.append(_whisker(entry, x, y + dy, colour, mark))
    return _svg(width, bottom + 40, title, parts)


def line_plot(
    series: Mapping[str, Sequence[float]], *, title: str, x_axis: str, y_axis: str, width: int = 640, height: int = 260
) -> Markup:
    """Draw positive sequences against their index (from 1) on a logarithmic vertical axis.

    Values that are not positive and finite have no place on the axis and are left out.
    """
    kept = {
        name: [(i + 1, math.log10(v)) for i, v in enumerate(values) if math.isfinite(v) and v > 0]
        for name, values in series.items()
    }
    kept = {name: points for name, points in kept.items() if points}
    if not kept:
        return Markup("")
    logs = [y for points in kept.values() for _, y in points]
    low, high = math.floor(min(logs)), math.ceil(max(logs) + 1e-9)
    high = high if high > low else low + 1
    count = max(x for points in kept.values() for x, _ in points)
    left, right, top, bottom = 56, width - 16, 34, height - 40

    def px(index: float) -> float:
        return left + (index - 1) / max(count - 1, 1) * (right - left)

    def py(log: float) -> float:
        return bottom - (log - low) / (high - low) * (bottom - top)

    parts: list[str] = []
    for exponent in range(low, high + 1, max(1, (high - low) // 5)):
        parts.append(_line(left, py(exponent), right, py(exponent), RULE))
        parts.append(_text(left - 8, py(exponent) + 4, _power(exponent), anchor="end"))
    for tick in sorted({1, *(int(t) for t in _ticks(1, count) if 1 < t <= count and t == int(t))}):
        parts.append(_text(px(tick), bottom + 16, str(tick), anchor="middle"))
    parts.append(_text((left + right) / 2, bottom + 33, x_axis, anchor="middle"))
    parts.append(_text(left - 40, 14, y_axis))
    parts += _drawn({name: [(px(x), py(y)) for x, y in points] for name, points in kept.items()}, right)
    return _svg(width, height, title, parts)


def curve_plot(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str,
    x_axis: str,
    y_axis: str,
    limits: Mapping[str, float] | None = None,
    marks: Mapping[str, float] | None = None,
    from_zero: bool = True,
    width: int = 640,
    height: int = 260,
) -> Markup:
    """Draw (x, y) points, joined by lines in the order of x, on linear axes.

    Points, limits and marks that are not finite are left out.

    Args:
        series: name -> points.
        title: said to readers who cannot see the figure.
        x_axis: what the horizontal axis measures.
        y_axis: what the vertical axis measures.
        limits: name -> y, drawn as broken horizontal lines.
        marks: name -> x, drawn as thin vertical lines.
        from_zero: whether 0 has to be on the vertical axis.
        width: of the view box, in px.
        height: see `width`.
    """
    limits, marks = (
        {name: value for name, value in (given or {}).items() if math.isfinite(value)} for given in (limits, marks)
    )
    kept = {
        name: sorted((x, y) for x, y in points if math.isfinite(x) and math.isfinite(y))
        for name, points in series.items()
    }
    kept = {name: points for name, points in kept.items() if points}
    if not kept:
        return Markup("")
    every = [point for points in kept.values() for point in points]
    widths = [x for x, _ in every] + list(marks.values())
    xs = _ticks(min(widths), max(widths))
    heights = [y for _, y in every] + list(limits.values()) + [0.0] * from_zero
    ys = _ticks(min(heights), max(heights))
    left, right, top, bottom = 56, width - 16, 34, height - 40

    def px(x: float) -> float:
        return left + (x - xs[0]) / (xs[-1] - xs[0]) * (right - left)

    def py(y: float) -> float:
        return bottom - (y - ys[0]) / (ys[-1] - ys[0]) * (bottom - top)

    parts: list[str] = []
    for tick in ys:
        parts.append(_line(left, py(tick), right, py(tick), RULE))
        parts.append(_text(left - 8, py(tick) + 4, _tick_text(tick, ys), anchor="end"))
    for tick in xs:
        parts.append(_text(px(tick), bottom + 16, _tick_text(tick, xs), anchor="middle"))
    parts.append(_text((left + right) / 2, bottom + 33, x_axis, anchor="middle"))
    parts.append(_text(left - 40, 14, y_axis))
    for name, x in marks.items():
        parts.append(_line(px(x), top, px(x), bottom, MUTED, dash="1 3"))
        at_right = px(x) > (left + right) / 2
        anchor = "end" if at_right else "start"
        parts.append(_text(px(x) + (-4 if at_right else 4), (top + bottom) / 2, name, MUTED, anchor, size=10))
    for name, y in limits.items():
        parts.append(_line(left, py(y), right, py(y), LIMIT, dash="4 3"))
        parts.append(_text(left + 4, py(y) - 4, name, LIMIT, size=10))
    parts += _drawn({name: [(px(x), py(y)) for x, y in points] for name, points in kept.items()}, right)
    return _svg(width, height, title, parts)


def _drawn(lines: Mapping[str, Sequence[tuple[float, float]]], right: float) -> list[str]:
    """Draw lines given in px, the first one unbroken, with a legend that ends at the right edge."""
    parts: list[str] = []
    at = float(right)
    for number, (name, points) in reversed(list(enumerate(lines.items()))):
        colour = (TARGET, REFERENCE, *MARK_COLOURS[2:])[number % 6]
        dash = f' stroke-dasharray="{_DASHES[number % len(_DASHES)]}"' if number else ""
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(
            f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash} stroke-linejoin="round" '
            'stroke-linecap="round"/>'
        )
        at -= _text_width(name, 11)
        parts.append(_text(at, 14, name, INK))
        at -= 30
        parts.append(f'<path d="M{at:.1f} 10h24" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        at -= 14
    return parts


def map_plot(
    points: Sequence[tuple[float, float]], group: Sequence[int], *, title: str, size: int = 320, mark: float = 3.2
) -> Markup:
    """Draw samples in two dimensions: all of them as one path of dots, the marked ones over it.

    Args:
        points: (x, y) of each sample; those not finite are left out.
        group: 0 for none, +k or -k for the positive or negative lobe of the k-th finding.
        title: said to readers who cannot see the figure.
        size: of the square view box, in px.
        mark: radius of a mark, in px.
    """
    finite = [(x, y, g) for (x, y), g in zip(points, group, strict=True) if math.isfinite(x) and math.isfinite(y)]
    if not finite:
        return Markup("")
    xs, ys = [p[0] for p in finite], [p[1] for p in finite]
    middle_x, middle_y = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
    # One scale for both axes: a map whose axes are stretched apart shows other distances.
    half = max(max(xs) - min(xs), max(ys) - min(ys), 1e-12) / 2
    factor = (size / 2 - 12) / half
    placed = [(size / 2 + (x - middle_x) * factor, size / 2 - (y - middle_y) * factor, g) for x, y, g in finite]
    dot = 3.0 if len(placed) <= 2000 else 2.2 if len(placed) <= 8000 else 1.5
    dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y, g in placed if g == 0)
    parts = [
        f'<rect x="0.5" y="0.5" width="{size - 1}" height="{size - 1}" fill="{PANEL}" stroke="{RULE}"/>',
        f'<path d="{dots}" fill="none" stroke="{DOT}" stroke-opacity="0.55" stroke-width="{dot}" '
        'stroke-linecap="round"/>'
        if dots
        else "",
    ]
    for key in sorted({g for _, _, g in placed if g}, key=lambda g: (-abs(g), g)):
        shape = _shape(key, mark)
        marks = "".join(f"M{x:.1f} {y:.1f}{shape}" for x, y, g in placed if g == key)
        parts.append(f'<path d="{marks}" {_paint(key)}/>')
    return _svg(size, size, title, parts)


def mark_icon(key: int, size: int = 14) -> Markup:
    """Draw the mark that :func:`map_plot` gives to group `key`, for a legend; it says nothing by itself."""
    path = f'<path d="M{size / 2:g} {size / 2:g}{_shape(key, 4.2)}" {_paint(key)}/>'
    return Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{size}" height="{size}" viewBox="0 0 {size} {size}" '
        f'aria-hidden="true" focusable="false"><title>mark</title>{path}</svg>'
    )


def _shape(key: int, radius: float) -> str:
    return _SHAPES[(abs(key) - 1) % len(_SHAPES)].format(r=f"{radius:g}", d=f"{2 * radius:g}")


def _paint(key: int) -> str:
    """Positive lobes are filled, negative ones hollow."""
    colour = MARK_COLOURS[(abs(key) - 1) % len(MARK_COLOURS)]
    if key > 0:
        return f'fill="{colour}" stroke="{PAPER}" stroke-width="0.7"'
    return f'fill="{PAPER}" stroke="{colour}" stroke-width="1.4"'


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> Markup:
    name = escape(clean(title))
    return Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-label="{name}" font-family="{FONT}"><title>{name}</title>'
        + "".join(parts)
        + "</svg>"
    )


def _text(x: float, y: float, text: str, fill: str = MUTED, anchor: str = "start", size: float = 11) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{fill}" text-anchor="{anchor}">'
        f"{escape(clean(text))}</text>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, stroke: str, dash: str = "") -> str:
    broken = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" fill="none" stroke="{stroke}" stroke-width="1"{broken}/>'


def _marker(x: float, y: float, colour: str, mark: str) -> str:
    if mark == "disc":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
    return (
        f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7" fill="{PAPER}" stroke="{colour}" '
        'stroke-width="1.6"/>'
    )


def _whisker(entry: Interval, x: Callable[[float], float], y: float, colour: str, mark: str) -> str:
    """Draw one value with its whisker; nothing at all where the value is not finite."""
    if not math.isfinite(entry.value):
        return ""
    drawn = ""
    if entry.low is not None and entry.high is not None and math.isfinite(entry.low) and math.isfinite(entry.high):
        a, b = x(entry.low), x(entry.high)
        drawn = (
            f'<path d="M{a:.1f} {y:.1f}H{b:.1f}M{a:.1f} {y - 3:.1f}v6M{b:.1f} {y - 3:.1f}v6" fill="none" '
            f'stroke="{colour}" stroke-width="1.4"/>'
        )
    return drawn + _marker(x(entry.value), y, colour, mark)


def _legend(left: float, target: str, reference: str, right: float) -> str:
    half = (right - left) / 2
    names = (_fit(target, half - 30, 11), _fit(reference, half - 30, 11))
    second = left + 16 + _text_width(names[0], 11) + 24
    return "".join(
        _marker(at + 5, 12, colour, mark) + _text(at + 16, 16, name, INK)
        for at, name, colour, mark in ((left, names[0], TARGET, "disc"), (second, names[1], REFERENCE, "box"))
    )


def _text_width(text: str, size: float) -> float:
    """Width of a text in px, near enough to lay out a legend (wide scripts count double)."""
    return sum(1.0 if ord(c) > 0x1100 else 0.56 for c in text) * size


def _fit(text: str, width: float, size: float) -> str:
    """Shorten a text to a width in px."""
    if _text_width(text, size) <= width:
        return text
    while text and _text_width(text + "…", size) > width:
        text = text[:-1]
    return text.rstrip() + "…"


def _ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers that enclose [low, high]."""
    span = high - low if high - low > 1e-12 * max(1.0, abs(high)) else abs(high) or 1.0
    raw = span / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, max(last, first + 1) + 1)]


def _tick_text(value: float, ticks: Sequence[float]) -> str:
    step = ticks[1] - ticks[0]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:.{digits}f}".replace("-", "−")


def _power(exponent: int) -> str:
    digits = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return "1" if exponent == 0 else "10" if exponent == 1 else "10" + digits
