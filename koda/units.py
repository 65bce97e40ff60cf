"""Figures in their units: a share in percent, a fall from one share to another in points, the rest as plain numbers.

The difference of an accuracy of 80 % and one of 60 % is 20 points: "20 %" could mean a quarter of the first.
"""

from __future__ import annotations

import math
from typing import Literal

Unit = Literal["percent", "points", "number"]
NAMES: dict[Unit, str] = {"percent": "%", "points": "points", "number": ""}  #: as they stand behind a number


def decimals(*values: float | None, unit: Unit = "percent") -> int:
    """Return how many decimals some figures have that stand together: as few as a column can keep throughout.

    Points have one, shares below 10 % two; what is below 0.1 has two significant digits, four decimals at most.

    >>> decimals(0.0112), decimals(0.0044, 0.2), decimals(0.0128, unit="points"), decimals(0.00031)
    (2, 1, 1, 3)
    """
    largest = max((abs(100 * value) for value in values if value is not None and math.isfinite(value)), default=0.0)
    if 0 < largest < 0.1:
        return min(4, 1 - math.floor(math.log10(largest)))
    return 1 if unit == "points" or largest >= 10 else 2


def measured(value: float | None, unit: Unit = "percent") -> str:
    """Write a figure in its unit.

    >>> measured(0.0044), measured(0.2, "points"), measured(3.0, "number"), measured(None)
    ('0.44 %', '20.0 points', '3', 'n/a')
    """
    return "n/a" if value is None else _with_unit(_digits(value, unit, decimals(value, unit=unit)), unit)


def with_interval(
    value: float, low: float | None, high: float | None, level: float = 0.95, unit: Unit = "percent"
) -> str:
    """Write a figure with its interval, all with as many decimals as the largest asks for.

    >>> with_interval(0.2, 0.15, 0.25, unit="points"), with_interval(0.0081, 0.0065, 0.0098)
    ('20.0 points (95 % interval 15.0 to 25.0)', '0.81 % (95 % interval 0.65 to 0.98 %)')
    """
    places = decimals(value, low, high, unit=unit)
    text = _with_unit(_digits(value, unit, places), unit)
    if low is None or high is None:
        return text
    ends = f"{_digits(low, unit, places)} to {_digits(high, unit, places)}"
    return f"{text} ({100 * level:.4g} % interval {ends}{' %' if unit == 'percent' else ''})"


def interval(low: float | None, high: float | None, unit: Unit = "percent") -> str:
    """Write an interval that stands beside its figure; "" where one of its ends is missing.

    >>> interval(0.0065, 0.0098), interval(0.15, 0.25, "points"), interval(None, 1.0)
    ('0.65 to 0.98 %', '15.0 to 25.0 points', '')
    """
    if low is None or high is None:
        return ""
    places = decimals(low, high, unit=unit)
    return f"{_digits(low, unit, places)} to {_with_unit(_digits(high, unit, places), unit)}"


def bracketed(value: float, low: float | None, high: float | None, unit: Unit = "percent", sign: str = "") -> str:
    """Write a figure and its interval for a table; `sign` "+" marks what is above 0.

    >>> bracketed(0.0081, 0.0065, 0.0098), bracketed(0.2, None, None, "points", "+")
    ('0.81 % [0.65, 0.98]', '+20.0 points')
    """
    places = decimals(value, low, high, unit=unit)
    text = (sign if value > 0 else "") + _with_unit(_digits(value, unit, places), unit)
    return (
        text if low is None or high is None else f"{text} [{_digits(low, unit, places)}, {_digits(high, unit, places)}]"
    )


def _digits(value: float, unit: Unit, places: int) -> str:
    if unit == "number" or not math.isfinite(value):
        return f"{value:.4g}"
    return f"{round(100 * value, places) + 0.0:.{places}f}"  # no minus before a zero


def _with_unit(digits: str, unit: Unit) -> str:
    return f"{digits} {NAMES[unit]}".rstrip()
