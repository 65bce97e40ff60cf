"""Values put in the place of those that a library has, for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

Getter = Callable[[Any], Any]  # gives the value of a property


def module(name: str) -> Any:
    """Return a module, or None where there is none of the name."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        return None


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Put a value in the place of one that a module or a class has, and set it back; where it has none, do nothing."""
    if not hasattr(owner, name):
        yield
        return
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def property_replaced(owner: Any, name: str, make: Callable[[Getter], Getter]) -> Iterator[None]:
    """Put a property in the place of one that a class has, and set it back; where it has none, do nothing.

    Args:
        owner: the class.
        name: of the property.
        make: makes what gives its value of what gave it before.
    """
    before = getattr(owner, name, None)
    if not isinstance(before, property) or before.fget is None:
        yield
        return
    with replaced(owner, name, property(make(before.fget))):
        yield
