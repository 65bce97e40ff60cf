"""Figures of the report as SVG text, drawn by hand so that one figure serves browser and PDF alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from koda.records import Estimate
from koda.report.svg import BASELINE, CANDIDATE, INK, LIMIT, MUTED, PAPER, RULE, WARN
from koda.report.svg import fit as _fit
from koda.report.svg import line as _line
from koda.report.svg import svg as _svg
from koda.report.svg import text_at as _text
from koda.report.svg import text_width as _text_width
from koda.report.svg import tick_text as _tick_text
from koda.report.svg import ticks as _ticks
from koda.typing import Role

_LINES = (BASELINE, CANDIDATE, "#0b7a53", "#8a3ba8", "#a8326e", "#6b6100")
_SPARE = 0.12  # of the width of a text, which is estimated: room for wide letters
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
    """One line of an interval plot: the same quantity under two models, or one quantity alone.

    A faint row, of what a test did not confirm, is drawn in grey and hollow.
    """

    label: str
    target: Interval
    reference: Interval | None = None
    faint: bool = False


def interval_plots(rows: Sequence[IntervalRow], most: int, **settings: Any) -> list[Markup]:
    """Draw rows as :func:`interval_plot` does, in several figures with one axis where there are many.

    Args:
        rows: top to bottom.
        most: rows of a figure, so that each fits on a page.
        settings: of each figure.
    """
    return [interval_plot(rows[at : at + most], of=rows, **settings) for at in range(0, len(rows), most)]


def interval_plot(
    rows: Sequence[IntervalRow],
    *,
    title: str,
    axis: str,
    target_name: str = "",
    reference_name: str = "",
    target_role: Role = "baseline",
    limits: Mapping[str, float] | None = None,
    warn: Collection[str] = (),
    scale: float = 1.0,
    width: int = 640,
    label_width: int = 190,
    of: Sequence[IntervalRow] | None = None,
) -> Markup:
    """Draw values with whiskers, a row each: the baseline as a disc in its colour, the candidate as a box in its own.

    Args:
        rows: top to bottom.
        title: said to readers who cannot see the figure.
        axis: what the horizontal axis measures, with its unit.
        target_name: in the legend, as is `reference_name`; without them there is none.
        reference_name: see `target_name`.
        target_role: which of the two models is the target.
        limits: name -> value, drawn as broken vertical lines.
        warn: those of the limits that only warn; they are amber.
        scale: factor from the given values to the axis (100 for percent).
        width: of the view box, in px.
        label_width: px kept at the left for the labels; 0 writes each over its row.
        of: all rows that have this axis, where these are some of them.
    """
    limits = {name: value for name, value in (limits or {}).items() if math.isfinite(value)}
    values = [0.0, *limits.values()]
    for row in rows if of is None else of:
        for entry in (row.target, row.reference) if row.reference else (row.target,):
            values += [v for v in (entry.value, entry.low, entry.high) if v is not None and math.isfinite(v)]
    ticks = _ticks(min(values) * scale, max(values) * scale)
    first = 34 if target_name else 14
    left, right, top = label_width or 16, width - 16, first + 15 * len(limits)
    head = 0 if label_width else 17
    body = 30 if any(row.reference for row in rows) else 18
    step = head + body
    bottom = top + step * len(rows)

    def x(value: float) -> float:
        return left + (value * scale - ticks[0]) / (ticks[-1] - ticks[0]) * (right - left)

    drawn = ((BASELINE, "disc"), (CANDIDATE, "box"))
    if not any(row.reference for row in rows):
        drawn = ((INK, "disc"), (INK, "box"))  # of neither model
    if target_role == "candidate":
        drawn = (drawn[1], drawn[0])
    parts = [_legend(left, target_name, reference_name, right, drawn)] if target_name else []
    names = [
        _LimitName(name, x(value), first + 15 * number, x(value) > left + 0.5 * (right - left))
        for number, (name, value) in enumerate(limits.items())
    ]
    labels = [] if label_width else [_fit(row.label, right - left, 11) for row in rows]
    named = [name.box for name in names]
    texts = named + [_Box(left, top + step * n, left + _text_width(label, 11), head) for n, label in enumerate(labels)]
    for tick in ticks:
        at = left + (tick - ticks[0]) / (ticks[-1] - ticks[0]) * (right - left)
        parts += [_line(at, start, at, end, RULE) for start, end in _beside(texts, at, top, bottom)]
        parts.append(_text(at, bottom + 15, _tick_text(tick, ticks), anchor="middle"))
    parts.append(_text((left + right) / 2, bottom + 32, axis, anchor="middle"))
    for name, own in zip(names, named, strict=True):
        colour = WARN if name.text in warn else LIMIT
        drawn_at = _beside([box for box in texts if box is not own], name.at, name.top + 2, bottom)
        parts += [_line(name.at, start, name.at, end, colour, dash="4 3") for start, end in drawn_at]
        parts.append(
            _text(
                name.at + (-4 if name.at_left else 4),
                name.top + 9,
                name.text,
                colour,
                "end" if name.at_left else "start",
                size=10,
            )
        )
    for number, row in enumerate(rows):
        y = top + step * number + head + body / 2
        if label_width:
            parts.append(_text(left - 10, y + 4, _fit(row.label, left - 14, 11), INK, "end"))
        else:
            parts.append(_text(left, top + step * number + 14, labels[number], MUTED if row.faint else INK))
        for shown, (colour, mark), dy in zip(
            (row.target, row.reference), drawn, (-5, 6) if row.reference else (0, 0), strict=True
        ):
            if shown is not None:
                parts.append(_whisker(shown, x, y + dy, MUTED if row.faint else colour, mark, hollow=row.faint))
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
        colour = _LINES[number % len(_LINES)]
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


def _marker(x: float, y: float, colour: str, mark: str, *, hollow: bool = False) -> str:
    if mark == "disc":
        paint = f'fill="{PAPER}" stroke="{colour}" stroke-width="1.6"' if hollow else f'fill="{colour}"'
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" {paint}/>'
    return (
        f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7" fill="{PAPER}" stroke="{colour}" '
        'stroke-width="1.6"/>'
    )


def _whisker(
    entry: Interval, x: Callable[[float], float], y: float, colour: str, mark: str, *, hollow: bool = False
) -> str:
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
    return drawn + _marker(x(entry.value), y, colour, mark, hollow=hollow)


@dataclass(frozen=True)
class _Box:
    """Where a text stands: its left, its top, its right, and its height."""

    left: float
    top: float
    right: float
    height: float


@dataclass(frozen=True)
class _LimitName:
    """The name of a limit beside the upper end of its line, at the left of it or at the right."""

    text: str
    at: float
    top: float
    at_left: bool

    @property
    def box(self) -> _Box:
        """Return where the name stands, away from its own line."""
        width = _text_width(self.text, 10)
        left = self.at - 4 - width if self.at_left else self.at + 4
        return _Box(left, self.top, left + width, 12)


def _beside(texts: Sequence[_Box], at: float, top: float, bottom: float) -> list[tuple[float, float]]:
    """Return the parts of a vertical line that cross no text, since a text with a line through it is hard to read."""
    parts, start = [], top
    for box in sorted(texts, key=lambda box: box.top):
        if not box.left - 2 < at < box.right + _SPARE * (box.right - box.left) or box.top + box.height <= start:
            continue
        if box.top > start:
            parts.append((start, min(box.top, bottom)))
        start = box.top + box.height
    return [*parts, (start, bottom)] if start < bottom else parts


def _legend(left: float, target: str, reference: str, right: float, drawn: Sequence[tuple[str, str]]) -> str:
    half = (right - left) / 2
    names = (_fit(target, half - 30, 11), _fit(reference, half - 30, 11))
    second = left + 16 + _text_width(names[0], 11) + 24
    return "".join(
        _marker(at + 5, 12, colour, mark) + _text(at + 16, 16, name, INK)
        for at, name, (colour, mark) in zip((left, second), names, drawn, strict=True)
    )


def _power(exponent: int) -> str:
    digits = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return "1" if exponent == 0 else "10" if exponent == 1 else "10" + digits
