"""Progress from inside the tasks to whoever watches in the same process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from koda.audit.runs import StepCost

Listener = Callable[[str, int, int, "StepCost | None"], None]

_listeners: list[Listener] = []


def listen(listener: Listener) -> None:
    """Have `listener(step, done, total, cost)` called as tasks go on; the cost is there when a step is over."""
    _listeners.append(listener)


def unlisten(listener: Listener) -> None:
    """Stop calling a listener."""
    _listeners.remove(listener)


def report(step: str, done: int, total: int, cost: StepCost | None = None) -> None:
    """Tell the listeners how far a step is, and at its end what it took."""
    for listener in _listeners:
        listener(step, done, total, cost)
