"""Text of the report: hostile strings made harmless, figures put in words of the right length."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

from koda import units
from koda.records import Estimate
from koda.units import Unit, decimals
from koda.wording import agreeing

NBSP = "\u00a0"
NONE = "–"
_SPACES = "\t\n\r\v\f\u0085\u2028\u2029"
# Overrides and embeddings reorder text beyond their own string; single marks (LRM, RLM, ALM) do not.
_BIDI_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_MAX_STACKED_MARKS = 4
# the table of the method says these of the solver's statistics in rows of their own
_SAID_ELSEWHERE = {"n", "eps_rule", "features", "features_chosen", "feature_error", "feature_error_bound", "warnings"}


def clean(text: str) -> str:
    """Return the text as one line that can be shown anywhere.

    Line ends and tabs become spaces; control characters, bidirectional overrides, lone surrogates and
    noncharacters become U+FFFD, so that the reader sees that something stood there; more than four
    combining marks on one letter are cut, since they would cover the lines above.
    """
    if text.isascii() and text.isprintable():
        return text
    out: list[str] = []
    marks = 0
    for char in text:
        if " " <= char <= "~":
            out.append(char)
            marks = 0
            continue
        category = unicodedata.category(char)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if char in _SPACES:
            out.append(" ")
        elif category in ("Cc", "Cs") or char in _BIDI_OVERRIDES or _is_noncharacter(char):
            out.append("\ufffd")
        elif marks <= _MAX_STACKED_MARKS:
            out.append(char)
    return "".join(out)


def clean_block(text: str) -> str:
    """Return the text with each of its lines cleaned; for preformatted blocks."""
    return "\n".join(clean(line) for line in text.split("\n"))


def shorten(text: str | None, limit: int) -> str:
    """Return at most `limit` characters of the cleaned text, cut with an ellipsis."""
    line = " ".join(filter(None, clean((text or "")[: 4 * limit + 100]).split(" ")))  # other spaces bind figures
    cut = len(line) > limit or len(text or "") > 4 * limit + 100
    return line[:limit].rstrip() + "…" if cut else line


def direction(text: str | None) -> str:
    """Return "rtl" where the first letter with a direction runs from right to left, else "ltr"; for `dir`.

    The renderer of the PDF makes nothing of ``dir="auto"``.
    """
    for char in text or "":
        kind = unicodedata.bidirectional(char)
        if kind in ("L", "R", "AL"):
            return "ltr" if kind == "L" else "rtl"
    return "ltr"


def percent(value: float | None, digits: int | None = None) -> str:
    """Write a share as a percentage: two decimals below 10 %, else one."""
    if value is None or not math.isfinite(value):
        return NONE
    places = decimals(value) if digits is None else digits
    return _minus(f"{100 * value:.{places}f}{NBSP}%")


def limit(value: float, unit: Unit = "percent") -> str:
    """Write a limit in its unit, with all the decimals that it has."""
    return _minus(units.limit_text(value, unit).replace(" ", NBSP))


def asked_for(value: float) -> str:
    """Write a share that was asked for, in whole percent or with the decimals that it has."""
    return percent(value, units.own_decimals(100 * value))


def measured(value: float | None, unit: Unit) -> str:
    """Write a figure in its unit."""
    if value is None or not math.isfinite(value):
        return NONE
    return _minus(units.measured(value, unit).replace(" ", NBSP))


def rough(value: float | None) -> str:
    """Write a share in whole percent; one that would round to 0 is said to be below 0.5 %."""
    if value is not None and 0 < value < 0.005:
        return f"<{NBSP}0.5{NBSP}%"
    return percent(value, 0)


def number(value: Any) -> str:
    """Write a count with thin groups, any other number with four significant digits."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer() and abs(value) < 1e15):
        return _minus(f"{int(value):,}".replace(",", "\u202f"))
    if isinstance(value, float):
        if not math.isfinite(value):
            return NONE
        return _minus(f"{value:.4g}") if 1e-3 <= abs(value) < 1e5 or value == 0 else scientific(value)
    return str(value)


def scientific(value: float | None, digits: int = 3) -> str:
    """Write a number with `digits` significant digits, in powers of ten where it is small or large."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return _minus(f"{value:.{digits}g}") if abs(value) < 1000 else number(round(value))
    return power(value, digits)


def power(value: float | None, digits: int = 3) -> str:
    """Write a number in powers of ten, whatever its size, so that figures beside each other compare at a glance."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return _minus(f"{mantissa}{NBSP}×{NBSP}10") + raised


def p_value(value: float | None) -> str:
    """Write a p-value; below 0.0001 only that."""
    if value is None or not math.isfinite(value):
        return NONE
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def share(
    estimate: Estimate | None, *, words: bool = False, unit: Unit = "percent", limits: Sequence[float] = ()
) -> str:
    """Write a share with its interval, `0.80 % [0.65, 0.95]`, or in words; a difference of two in points.

    Beside limits it has enough decimals to be told from each.
    """
    value, ends = _share(estimate, unit, limits)
    if estimate is None or ends is None:
        return value
    if words:
        closing = f"{NBSP}%" if unit == "percent" else ""
        return f"{value} ({level(estimate)} interval {ends[0]} to {ends[1]}{closing})"
    return f"{value} {_in_brackets(ends)}"


def share_parts(estimate: Estimate | None, unit: Unit = "percent") -> tuple[str, str]:
    """Write a figure and its interval apart, `0.80 %` and `[0.65, 0.95]`; the interval is "" where there is none."""
    value, ends = _share(estimate, unit)
    return value, "" if ends is None else _in_brackets(ends)


def plain(estimate: Estimate | None, *, words: bool = False, digits: int | None = None) -> str:
    """Write an estimate that is not a share, with its interval; `digits` decimals, or as many as it asks for."""
    if estimate is None:
        return NONE

    def written(value: float) -> str:
        return number(value) if digits is None else fixed(value, digits)

    text = written(estimate.value)
    if estimate.low is None or estimate.high is None:
        return text
    low, high = written(estimate.low), written(estimate.high)
    return f"{text} ({level(estimate)} interval {low} to {high})" if words else f"{text} [{low},{NBSP}{high}]"


def fixed(value: float, digits: int) -> str:
    """Write a number with so many decimals, and no minus before a zero."""
    return _minus(f"{round(value, digits) + 0.0:.{digits}f}") if math.isfinite(value) else NONE


def level(estimate: Estimate) -> str:
    """Write the level of an interval: `95 %`."""
    return f"{100 * estimate.level:.4g}{NBSP}%"


def utc(moment: datetime) -> str:
    """Write a time in UTC to the second; one without a zone is taken to be UTC."""
    return as_utc(moment).strftime("%Y-%m-%d %H:%M:%S UTC")


def as_utc(moment: datetime) -> datetime:
    """Return the time in UTC; one without a zone is taken to be UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def digest(text: str | None) -> Markup:
    """Set a digest so that it may wrap every eight characters."""
    if not text:
        return Markup(NONE)
    line = clean(text)
    pieces = [line[i : i + 8] for i in range(0, len(line), 8)]
    return Markup('<code class="digest">') + Markup("<wbr>").join(escape(p) for p in pieces) + Markup("</code>")


def settings(value: Any) -> str:
    """Write a mapping or list as short text, `size 224, mean 0.48 0.46 0.41`."""
    if isinstance(value, dict):
        return ", ".join(f"{key}{NBSP}{settings(inner)}" for key, inner in value.items()) or NONE
    if isinstance(value, list | tuple):
        return " ".join(settings(inner) for inner in value) or NONE
    return number(value)


def statistics(stats: Mapping[str, Any]) -> str:
    """Write what the solver counted, without what other rows of the table say."""
    return settings({name.replace("_", " "): value for name, value in stats.items() if name not in _SAID_ELSEWHERE})


def plural(count: int, one: str, many: str | None = None) -> str:
    """Write a count with its noun."""
    return f"{number(count)}{NBSP}{agreeing(count, one, many or f'{one}s')}"


def _share(estimate: Estimate | None, unit: Unit, limits: Sequence[float] = ()) -> tuple[str, tuple[str, str] | None]:
    """Write a figure and the ends of its interval with as many decimals as the largest of them asks for."""
    if estimate is None or not math.isfinite(estimate.value):
        return NONE, None
    ends = [None if end is None or not math.isfinite(end) else end for end in (estimate.low, estimate.high)]
    value, low, high = (
        _minus(part.replace(" ", NBSP)) for part in units.parts(estimate.value, ends[0], ends[1], unit, limits)
    )
    return value, (low, high) if low else None


def _in_brackets(ends: tuple[str, str]) -> str:
    return f"[{ends[0]},{NBSP}{ends[1]}]"


def _minus(text: str) -> str:
    return text.replace("-", "−")


def _is_noncharacter(char: str) -> bool:
    code = ord(char)
    return 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE
