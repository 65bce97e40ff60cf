"""Time in which a run waits for a place and does not work, for whoever keeps its clock."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

#: is told that a wait begins (True) or is over (False)
clock: ContextVar[Callable[[bool], None] | None] = ContextVar("clock", default=None)


@contextlib.contextmanager
def not_counted() -> Iterator[None]:
    """Leave the time that passes within out of the limit of the run, if there is one."""
    pause = clock.get()
    if pause is None:
        yield
        return
    pause(True)
    try:
        yield
    finally:
        pause(False)
