"""What a worker keeps of its last parts, since those of the next are often the same: a model, a gallery, some tables.

A worker of several threads works on parts of several runs at once, so that each has to be given what it asked for,
whatever the others ask for meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """Values by name, of which those asked for last are kept.

    Args:
        most: how many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most, self._values, self._lock = most, dict[str, T](), threading.Lock()

    def get(self, name: str, make: Callable[[], T]) -> T:
        """Return a value, made where it is not kept; the one asked for longest ago goes before, to make room.

        Args:
            name: of the value; two that are equal have the same.
            make: called without the lock, so that threads make what they need at once.
        """
        with self._lock:
            if name in self._values:
                value = self._values[name] = self._values.pop(name)  # the latest is the last
                return value
            self._leave(self._most - 1)
        value = make()
        with self._lock:
            self._values[name] = value
            self._leave(self._most)
        return value

    def _leave(self, number: int) -> None:
        while len(self._values) > number:
            del self._values[next(iter(self._values))]
