"""Words about what libraries say, and silence where they talk without being asked."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

_LONGEST = 200  # characters of a line that names tensors


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence open_clip's root-logger chatter; what matters is raised as an error of ours."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def first_line(error: BaseException) -> str:
    """Return the first line of an error that says something, with one full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    text = lines[0]
    if text.endswith(":") and len(lines) > 1:  # torch puts what it found on the next one
        text = f"{text} {lines[1].strip()[:_LONGEST]}"
    return text.rstrip(".") + "."
