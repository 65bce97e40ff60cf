"""The trend of a line of audits: a small plot for each figure of the policy, and the values as tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeGuard

from markupsafe import Markup

from koda.policy import unit_of
from koda.records import AuditRecord, Estimate, RuleResult, TrendPoint
from koda.report import text
from koda.report.figures import estimate_parts, figure_name, limit_of
from koda.report.svg import INK, LIMIT, MUTED, PAPER, RULE, WARN, fit, line, svg, text_at, text_width, tick_text, ticks
from koda.units import NAMES

_WIDTH, _HEIGHT = 400, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 322, 38, 152
_COLUMNS = 4  # figures of a table
_BREAKS = {"data": "other data", "policy": "other policy", "settings": "other settings", "koda": "other koda"}


@dataclass(frozen=True)
class TrendFigure:
    """One figure over the audits: its caption, and its plot."""

    name: str
    plot: Markup


@dataclass(frozen=True)
class TrendRow:
    """One audit in a table: `breaks` says why it cannot be compared with the row above."""

    audit: str
    candidate: str
    ended: str
    verdict: str
    breaks: str
    cells: list[tuple[str, str]]


@dataclass(frozen=True)
class TrendTable:
    """Some of the figures, a column each."""

    columns: list[str]
    rows: list[TrendRow]


@dataclass(frozen=True)
class TrendView:
    """The trend section; `left_out` counts the earlier audits that are not shown."""

    figures: list[TrendFigure]
    tables: list[TrendTable]
    left_out: int


def trend(record: AuditRecord) -> TrendView | None:
    """Return the figures that the audits of the line have in common with this one; None without an earlier audit."""
    if record.trend is None or len(record.trend.points) < 2:
        return None
    points = record.trend.points
    names = [name for name in _names(record, points) if sum(name in point.figures for point in points) > 1]
    tables = [
        TrendTable([figure_name(name) for name in some], [_row(point, some) for point in points])
        for some in (names[start : start + _COLUMNS] for start in range(0, len(names), _COLUMNS))
    ]
    figures = [TrendFigure(figure_name(name), trend_plot(name, points, _rule(record, name))) for name in names]
    return TrendView(figures, tables, record.trend.left_out)


def trend_plot(name: str, points: Sequence[TrendPoint], rule: RuleResult | None = None) -> Markup:
    """Draw a figure over audits: a mark each with its interval, limits as broken lines, breaks with their reason.

    Marks are joined where nothing between them forbids to compare. An audit without the figure, or with one that is
    not finite, has no mark. This audit, the last, is filled.

    Args:
        name: of the figure.
        points: the audits, the oldest first.
        rule: this audit's rule on the figure, whose limits are drawn.
    """
    unit = unit_of(name)
    scale = 1.0 if unit == "number" else 100.0
    seen = [_finite(point.figures.get(name)) for point in points]
    limits = (
        []
        if rule is None
        else [(which, value) for which in ("warn", "fail") if _is_finite(value := getattr(rule, which))]
    )
    heights = [value * scale for each in seen if each for value in each] + [value * scale for _, value in limits]
    if not any(seen):
        return Markup("")
    scales = ticks(min([0.0, *heights]), max([0.0, *heights]), wanted=4)

    def x(number: int) -> float:
        return _LEFT + 12 + number * (_RIGHT - _LEFT - 24) / max(len(points) - 1, 1)

    def y(value: float) -> float:
        return _BOTTOM - (value - scales[0]) / (scales[-1] - scales[0]) * (_BOTTOM - _TOP)

    parts = [text_at(2, _TOP - 10, NAMES[unit])] if NAMES[unit] else []
    for tick in scales:
        parts.append(line(_LEFT, y(tick), _RIGHT, y(tick), RULE))
        parts.append(text_at(_LEFT - 6, y(tick) + 4, tick_text(tick, scales), anchor="end"))
    parts += _breaks(points, x)
    parts += _limits(name, limits, lambda value: y(value * scale))
    for number, (before, now) in enumerate(pairwise(seen), 1):
        if before and now and not points[number].breaks:
            parts.append(line(x(number - 1), y(before[0] * scale), x(number), y(now[0] * scale), MUTED))
    for number, each in enumerate(seen):
        if each:
            parts.append(_mark(x(number), [y(value * scale) for value in each], number == len(points) - 1))
    parts += _dates(points, x)
    return svg(_WIDTH, _HEIGHT, f"{figure_name(name)} over {len(points)} audits, with intervals", parts)


def _names(record: AuditRecord, points: Sequence[TrendPoint]) -> list[str]:
    """Return the figures of this audit, those of its rules first."""
    ruled = [rule.figure for rule in record.verdict.rules]
    return [name for name in dict.fromkeys([*ruled, *points[-1].figures]) if name in points[-1].figures]


def _rule(record: AuditRecord, name: str) -> RuleResult | None:
    return next((rule for rule in record.verdict.rules if rule.figure == name), None)


def _row(point: TrendPoint, names: Sequence[str]) -> TrendRow:
    cells = [estimate_parts(name, point.figures[name]) if name in point.figures else (text.NONE, "") for name in names]
    breaks = ", ".join(_BREAKS.get(reason, reason) for reason in point.breaks)
    return TrendRow(point.audit, point.candidate, text.utc(point.ended), point.verdict, breaks, cells)


def _breaks(points: Sequence[TrendPoint], x: Callable[[int], float]) -> list[str]:
    """Draw a line before each audit that cannot be compared with the one before it, with the reason above."""
    parts: list[str] = []
    free = 0.0
    for number, point in enumerate(points):
        if not number or not point.breaks:
            continue
        at = (x(number - 1) + x(number)) / 2
        reason = fit(", ".join(_BREAKS.get(each, each) for each in point.breaks), 150, 9)
        parts.append(line(at, _TOP - 6, at, _BOTTOM, WARN, dash="1 3"))
        half = text_width(reason, 9) / 2
        middle = min(max(at, _LEFT + half), _RIGHT - half)
        row = 0 if middle - half >= free else 1
        parts.append(text_at(middle, _TOP - 10 - 12 * row, reason, WARN, "middle", size=9))
        free = middle + half + 4 if row == 0 else free
    return parts


def _limits(name: str, limits: Sequence[tuple[str, float]], y: Callable[[float], float]) -> list[str]:
    """Draw the limits, each with its name at the right, the names apart from each other."""
    parts: list[str] = []
    above = -math.inf
    for which, value in sorted(limits, key=lambda limit: y(limit[1])):
        colour = LIMIT if which == "fail" else WARN
        parts.append(line(_LEFT, y(value), _RIGHT, y(value), colour, dash="4 3"))
        above = max(y(value) + 3.5, above + 12)
        parts.append(text_at(_RIGHT + 5, above, f"{which} {limit_of(name, value)}", colour, size=10))
    return parts


def _mark(x: float, heights: Sequence[float], last: bool) -> str:
    """Draw one value, and its interval where there is one."""
    whisker = ""
    if len(heights) > 1:
        whisker = (
            f'<path d="M{x:.1f} {heights[1]:.1f}V{heights[2]:.1f}M{x - 3:.1f} {heights[1]:.1f}h6M{x - 3:.1f} '
            f'{heights[2]:.1f}h6" fill="none" stroke="{INK}" stroke-width="1.2"/>'
        )
    fill = INK if last else PAPER
    return (
        f'{whisker}<circle cx="{x:.1f}" cy="{heights[0]:.1f}" r="3.6" fill="{fill}" stroke="{INK}" stroke-width="1.4"/>'
    )


def _dates(points: Sequence[TrendPoint], x: Callable[[int], float]) -> list[str]:
    """Write the day of the first and of the last audit, and of those between where there is room."""
    every = max(1, math.ceil(len(points) * 72 / (_RIGHT - _LEFT)))
    last = len(points) - 1
    kept = [number for number in range(0, last, every) if last - number >= every or number == 0] + [last]
    days = [text.as_utc(points[number].ended).strftime("%Y-%m-%d") for number in kept]
    return [
        text_at(
            x(number),
            _BOTTOM + 16,
            day,
            anchor="start" if number == 0 else "end" if number == last else "middle",
            size=10,
        )
        for number, day in zip(kept, days, strict=True)
    ]


def _finite(estimate: Estimate | None) -> list[float]:
    """Return a value and the ends of its interval; the value alone without one, nothing where it is not finite."""
    if estimate is None or not math.isfinite(estimate.value):
        return []
    ends = [end for end in (estimate.low, estimate.high) if _is_finite(end)]
    return [estimate.value, *ends] if len(ends) == 2 else [estimate.value]


def _is_finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
