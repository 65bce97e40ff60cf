"""Times and sizes as people write them: 90d, 50GB."""

from __future__ import annotations

import re
from datetime import timedelta

from koda.errors import ConfigError

_HOURS = {"h": 1, "d": 24, "w": 7 * 24}
_BYTES = {
    "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
_BY_LOWER = {unit.lower(): unit for unit in _BYTES} | {"kb": "kB"}
_MOST_HOURS = 24 * 365 * 1000  # beyond a thousand years there are no dates to reckon with


def parse_time(text: str, option: str) -> timedelta:
    """Read a span of time.

    Args:
        text: a whole number with h, d or w.
        option: who is told where it is wrong.

    Raises:
        ConfigError: it is none.

    >>> parse_time("12w", "--keep").days
    84
    """
    match = re.fullmatch(r"\s*(\d{1,9})\s*([hdw])\s*", text, re.ASCII)
    hours = int(match[1]) * _HOURS[match[2]] if match else 0
    if not 0 < hours <= _MOST_HOURS:
        raise ConfigError(
            f"{option} {text!r} is no span of time.",
            "Give a whole number over 0 with h (hours), d (days) or w (weeks): 90d, 12w, 36h.",
        )
    return timedelta(hours=hours)


def parse_size(text: str, option: str) -> int:
    """Read a size in bytes.

    Args:
        text: a number with B, kB, MB, GB, TB (powers of 1000), KiB, MiB, GiB or TiB (powers of 1024).
        option: who is told where it is wrong.

    Raises:
        ConfigError: it is none.

    >>> parse_size("1.5GB", "--max-size"), parse_size("2 MiB", "--max-size")
    (1500000000, 2097152)
    """
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([A-Za-z]{1,3})\s*", text, re.ASCII)
    unit = _BY_LOWER.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ConfigError(
            f"{option} {text!r} is no size.",
            "Give a number with MB, GB or TB, or with MiB, GiB or TiB: 50GB, 800MiB.",
        )
    return int(float(match[1]) * _BYTES[unit])


def size_in_words(n: int) -> str:
    """Return a size to be read.

    >>> size_in_words(0), size_in_words(1_530_000), size_in_words(53_000_000_000)
    ('0 B', '1.5 MB', '53.0 GB')
    """
    for unit in ("TB", "GB", "MB", "kB"):
        if n >= _BYTES[unit]:
            return f"{n / _BYTES[unit]:.1f} {unit}"
    return f"{n} B"
