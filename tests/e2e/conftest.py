"""The long tests, the longest files first, so that no worker begins one when the others have ended."""

from __future__ import annotations

import pytest

_ORDER = (
    "test_serve_checkpoints",
    "test_loopback",
    "test_serve_clock",
    "test_together",
    "test_prune",
    "test_damage",
    "test_signals",
    "test_own_server",
    "test_serve_ended",
    "test_kill",
    "test_watch_killed",
    "test_two_at_once",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        return _ORDER.index(item.path.stem) if item.path.stem in _ORDER else len(_ORDER)

    items.sort(key=place)
