"""Figures in their units: a share in percent, a fall from one share to another in points, the rest as plain numbers.

The difference of an accuracy of 80 % and one of 60 % is 20 points: "20 %" could mean a quarter of the first. A limit is
written as it was set, and a figure beside it with enough digits to be told from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Literal

Unit = Literal["percent", "points", "number"]
NAMES: dict[Unit, str] = {"percent": "%", "points": "points", "number": ""}  #: as they stand behind a number
_SIGNIFICANT = 4  # digits of a plain number
_MOST_OF_A_LIMIT = 6  # decimals: a limit that was computed has any number of them
_MORE = 4  # decimals that a figure gets at most to be told from a limit


def decimals(*values: float | None, unit: Unit = "percent", limits: Sequence[float] = ()) -> int:
    """Return how many decimals some figures have that stand together: as few as a column can keep throughout.

    Points have one, shares below 10 % two; what is below 0.1 has two significant digits, four decimals at most. Of
    plain numbers these are significant digits, four. Beside limits there are as many as these have, and more where a
    figure would read as a limit that it is not.

    >>> decimals(0.0112), decimals(0.0044, 0.2), decimals(0.0128, unit="points"), decimals(0.00031)
    (2, 1, 1, 3)
    >>> decimals(0.02, unit="points"), decimals(0.02, unit="points", limits=[0.0025, 0.02004])
    (1, 3)
    """
    places = max([_usual(values, unit), *(_own_decimals(limit, unit) for limit in limits)])
    return apart(places, values, limits, lambda value, places: _digits(value, unit, places))


def apart(
    places: int, values: Sequence[float | None], limits: Sequence[float], written: Callable[[float, int], str]
) -> int:
    """Return the fewest decimals, from a number on, with which no figure reads as a limit that it is not.

    Args:
        places: decimals that there are in any case.
        values: the figures, the one that most has to be told apart first.
        limits: beside them.
        written: how a figure reads with so many decimals.
    """
    for value in values:
        if value is None or not math.isfinite(value):
            continue
        for limit in limits:
            tries = range(places, places + _MORE + 1) if value != limit else ()
            places = next((more for more in tries if written(value, more) != written(limit, more)), places)
    return places


def own_decimals(limit: float) -> int:
    """Return how many decimals a limit has.

    >>> own_decimals(0.25), own_decimals(3.0), own_decimals(0.1 + 0.2)
    (2, 0, 1)
    """
    if not math.isfinite(limit):
        return 0
    exponent = Decimal(f"{limit:.12g}").normalize().as_tuple().exponent
    return min(max(0, -int(exponent)), _MOST_OF_A_LIMIT)


def measured(value: float | None, unit: Unit = "percent") -> str:
    """Write a figure in its unit.

    >>> measured(0.0044), measured(0.2, "points"), measured(3.0, "number"), measured(None), measured(12345, "number")
    ('0.44 %', '20.0 points', '3', 'n/a', '12345')
    """
    return "n/a" if value is None else parts(value, unit=unit)[0]


def limit_text(limit: float, unit: Unit = "percent") -> str:
    """Write a limit in its unit, with all the decimals that it has.

    >>> limit_text(0.0025, "points"), limit_text(0.02, "points"), limit_text(0.00125), limit_text(0.938125, "number")
    ('0.25 points', '2.0 points', '0.125 %', '0.938125')
    """
    places = max(_usual([limit], unit), _own_decimals(limit, unit))
    return _with_unit(_digits(limit, unit, places), unit)


def parts(
    value: float,
    low: float | None = None,
    high: float | None = None,
    unit: Unit = "percent",
    limits: Sequence[float] = (),
) -> tuple[str, str, str]:
    """Write a figure with its unit, and both ends of its interval without it, all with as many decimals.

    Args:
        value, low, high: the figure and its interval; without both of its ends there is none, and the texts are "".
        unit: of the figure.
        limits: that it is compared with.

    >>> parts(0.0204, 0.01, 0.03, "points", [0.02]), parts(0.0081, 0.0065, None)
    (('2.04 points', '1.00', '3.00'), ('0.81 %', '', ''))
    """
    places = decimals(value, low, high, unit=unit, limits=limits)
    text = _with_unit(_digits(value, unit, places), unit)
    if low is None or high is None:
        return text, "", ""
    return text, _digits(low, unit, places), _digits(high, unit, places)


def with_interval(
    value: float,
    low: float | None,
    high: float | None,
    level: float = 0.95,
    unit: Unit = "percent",
    limits: Sequence[float] = (),
) -> str:
    """Write a figure with its interval, all with as many decimals as the largest asks for.

    >>> with_interval(0.2, 0.15, 0.25, unit="points"), with_interval(0.0081, 0.0065, 0.0098)
    ('20.0 points (95 % interval 15.0 to 25.0)', '0.81 % (95 % interval 0.65 to 0.98 %)')
    """
    text, first, last = parts(value, low, high, unit, limits)
    if not first:
        return text
    return f"{text} ({100 * level:.4g} % interval {first} to {last}{' %' if unit == 'percent' else ''})"


def interval(low: float | None, high: float | None, unit: Unit = "percent") -> str:
    """Write an interval that stands beside its figure; "" where one of its ends is missing.

    >>> interval(0.0065, 0.0098), interval(0.15, 0.25, "points"), interval(None, 1.0)
    ('0.65 to 0.98 %', '15.0 to 25.0 points', '')
    """
    if low is None or high is None:
        return ""
    text, first, _ = parts(high, low, high, unit)
    return f"{first} to {text}"


def bracketed(value: float, low: float | None, high: float | None, unit: Unit = "percent", sign: str = "") -> str:
    """Write a figure and its interval for a table; `sign` "+" marks what is above 0.

    >>> bracketed(0.0081, 0.0065, 0.0098), bracketed(0.2, None, None, "points", "+")
    ('0.81 % [0.65, 0.98]', '+20.0 points')
    """
    text, first, last = parts(value, low, high, unit)
    return (sign if value > 0 else "") + text + (f" [{first}, {last}]" if first else "")


def _usual(values: Sequence[float | None], unit: Unit) -> int:
    """Return the decimals of figures that no limit stands beside."""
    if unit == "number":
        return _SIGNIFICANT
    largest = max((abs(100 * value) for value in values if value is not None and math.isfinite(value)), default=0.0)
    if 0 < largest < 0.1:
        return min(4, 1 - math.floor(math.log10(largest)))
    return 1 if unit == "points" or largest >= 10 else 2


def _own_decimals(limit: float, unit: Unit) -> int:
    """Return how many decimals a limit has in its unit; of a plain number, how many significant digits."""
    if unit != "number":
        return own_decimals(100 * limit)
    return own_decimals(limit) + len(str(abs(int(limit)))) if math.isfinite(limit) else 0


def _digits(value: float, unit: Unit, places: int) -> str:
    if not math.isfinite(value):
        return str(value)
    if unit != "number":
        return f"{round(100 * value, places) + 0.0:.{places}f}"  # no minus before a zero
    is_whole = float(value).is_integer() or abs(value) >= 10**places
    return f"{value + 0.0:.0f}" if is_whole and abs(value) < 1e15 else f"{value:.{places}g}"


def _with_unit(digits: str, unit: Unit) -> str:
    return f"{digits} {NAMES[unit]}".rstrip()
