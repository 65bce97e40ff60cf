"""Progress from inside the tasks to whoever watches in the same process."""

from __future__ import annotations

from collections.abc import Callable

Listener = Callable[[str, int, int], None]

_listeners: list[Listener] = []


def listen(listener: Listener) -> None:
    """Have `listener(step, done, total)` called as tasks go on."""
    _listeners.append(listener)


def unlisten(listener: Listener) -> None:
    """Stop calling a listener."""
    _listeners.remove(listener)


def report(step: str, done: int, total: int) -> None:
    """Tell the listeners how far a step is."""
    for listener in _listeners:
        listener(step, done, total)
