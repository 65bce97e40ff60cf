"""The map of samples, and the marks of its findings."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from koda.report.svg import DOT, PANEL, PAPER, RULE, svg

SIZE = 320  # px of the square view box
MARK_COLOURS = ("#1d5fb8", "#b4530a", "#0b7a53", "#8a3ba8", "#a8326e", "#6b6100")
# A mark is told apart by shape as well as colour; 5 and 6 are coprime, so 30 findings differ.
_SHAPES = (
    "m-{r} 0a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0z",  # disc
    "m0 -{r}l{r} {d}h-{d}z",  # triangle
    "m-{r} -{r}h{d}v{d}h-{d}z",  # square
    "m0 -{r}l{r} {r}l-{r} {r}l-{r} -{r}z",  # diamond
    "m0 {r}l{r} -{d}h-{d}z",  # triangle, point down
)


def place(points: Sequence[tuple[float, float]], size: int = SIZE) -> list[tuple[float, float] | None]:
    """Return where each sample stands in a square of `size` px; None for one without finite coordinates.

    Both axes have one scale: a map whose axes are stretched apart shows other distances.
    """
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not finite:
        return [None] * len(points)
    xs, ys = [x for x, _ in finite], [y for _, y in finite]
    middle_x, middle_y = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
    half = max(max(xs) - min(xs), max(ys) - min(ys), 1e-12) / 2
    factor = (size / 2 - 12) / half
    return [
        (round(size / 2 + (x - middle_x) * factor, 1), round(size / 2 - (y - middle_y) * factor, 1))
        if math.isfinite(x) and math.isfinite(y)
        else None
        for x, y in points
    ]


def map_plot(
    points: Sequence[tuple[float, float]], group: Sequence[int], *, title: str, size: int = SIZE, mark: float = 3.2
) -> Markup:
    """Draw samples in two dimensions: all of them as one path of dots, the marked ones over it.

    Args:
        points: (x, y) of each sample; those not finite are left out.
        group: 0 for none, +k or -k for the positive or negative lobe of the k-th finding.
        title: said to readers who cannot see the figure.
        size: of the square view box, in px.
        mark: radius of a mark, in px.
    """
    placed = [(*at, g) for at, g in zip(place(points, size), group, strict=True) if at is not None]
    if not placed:
        return Markup("")
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
    return svg(size, size, title, parts)


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
