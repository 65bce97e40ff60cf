"""What of a configuration makes an audit the same one: all that it says, but where models and data lie."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: under which keys a model or a data set is found; what is found there is known by its digest
_PLACES = {
    "baseline": ("name", "pretrained"),
    "candidate": ("name", "pretrained"),
    "data": ("path", "images"),
    "report": ("fonts", "crosswalk"),
}
_ABSOLUTE = re.compile(r"([\w+.-]+:)?/(?!/)")  # with or without a prefix such as local-dir:, but no URL


def without_places(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration, as JSON, without the places of its models and data.

    >>> without_places({"data": {"path": "/home/me/pairs.tsv", "limit": 9}, "report": {"title": "Nightly"}})
    {'data': {'limit': 9}, 'report': {'title': 'Nightly'}}
    """
    return {**settings, **{name: _content(settings[name], keys) for name, keys in _PLACES.items() if name in settings}}


def _content(section: Mapping[str, Any], places: tuple[str, ...]) -> dict[str, Any]:
    return {name: _without_paths(value) for name, value in section.items() if name not in places}


def _without_paths(value: Any) -> Any:
    """Leave out absolute paths, also those of settings that name other files than the model or the data themselves."""
    if isinstance(value, Mapping):
        return {name: _without_paths(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(each) for each in value]
    return None if isinstance(value, str) and _ABSOLUTE.match(value) else value
