"""Rows without the credentials of the URLs in them, before a key, a digest or a file is made of any."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from koda.datasets.base import Row, Source
from koda.secrets import conceal, conceal_all, redact


def without_credentials(source: Source) -> Source:
    """Return a source whose keys, captions, metadata and faults name URLs without their credentials."""
    return replace(source, rows=[_concealed(row) if _names_url(_texts(row)) else row for row in source.rows])


def _texts(row: Row) -> Iterable[Any]:
    yield from (row.key, row.caption, row.where)
    if row.fault is not None:
        yield from (row.fault.kind, row.fault.detail)
    yield from row.metadata.values()


def _names_url(values: Iterable[Any]) -> bool:
    """Tell whether there may be a URL in plain data."""
    return any(
        "://" in value
        if isinstance(value, str)
        else (isinstance(value, dict) and _names_url(value.values()))
        or (isinstance(value, list | tuple) and _names_url(value))
        for value in values
    )


def _concealed(row: Row) -> Row:
    fault = row.fault and replace(row.fault, kind=redact(row.fault.kind), detail=redact(row.fault.detail))
    return replace(
        row,
        key=row.key and conceal(row.key, remember=False),
        caption=row.caption and conceal(row.caption, remember=False),
        where=conceal(row.where, remember=False),
        metadata=conceal_all(row.metadata, remember=False),
        fault=fault,
    )
