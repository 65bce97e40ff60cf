"""The long tests, the longest files first, so that no worker begins one when the others have ended."""

from __future__ import annotations

import pytest

_ORDER = (
    "test_serve_checkpoints",
    "test_serve_clock",
    "test_serve_ended",
    "test_together",
    "test_prune",
    "test_damage",
    "test_kill",
    "test_loopback",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        return _ORDER.index(item.path.stem) if item.path.stem in _ORDER else len(_ORDER)

    items.sort(key=place)
