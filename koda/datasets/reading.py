"""From a configuration to a data set: the right reader, the subset, the digests, and what was left out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from koda.config import DataConfig
from koda.datasets.base import Pair, PairDataset, Rejection, Row, Source, check_rejections
from koda.datasets.blobs import Blob, ImageDigests, reason_of
from koda.datasets.tables import read_table
from koda.digest import digest_json

_DATA_VERSION = 1
READERS: dict[str, Callable[[DataConfig], Source]] = {
    "csv": read_table,
}


def format_of(config: DataConfig) -> str:
    """Return the format of a source: as configured, else as its path shows.

    Raises:
        DataError: a path that shows none.
    """
    return config.format or "csv"


def read_dataset(config: DataConfig, digests: ImageDigests | None = None) -> PairDataset:
    """Read the pairs that a configuration names.

    Every row of the source, or of the subset of it that is asked for, becomes a pair or a rejection.

    Raises:
        DataError: no such source, one that is not in its format, no usable pair, or more rejections than
            `max_rejected` allows.
    """
    kind = format_of(config)
    source = READERS[kind](config)
    rows = _subset(source.rows, config)
    good, rejections = _sorted_out(rows)
    digests = digests or ImageDigests()
    blobs: list[Blob] = [row.image for _, row in good if row.image is not None]
    found = iter(digests.of(blobs))
    pairs = []
    for key, row in good:
        digest = None if row.image is None else next(found)
        if isinstance(digest, Exception):
            rejections.append(Rejection(key, f"the image cannot be read: {reason_of(digest)}"))
        else:
            pairs.append(Pair(key, row.image, row.caption or "", digest, row.metadata))
    pairs.sort(key=lambda pair: pair.key)
    rejections.sort(key=lambda rejection: rejection.key)
    content = [[pair.key, pair.caption, pair.image_digest, pair.metadata] for pair in pairs]
    dataset = PairDataset(
        name=config.name or source.name,
        path=config.path,
        pairs=tuple(pairs),
        rejections=tuple(rejections),
        n_source=len(rows),
        metadata_columns=source.metadata_columns,
        digest=digest_json([_DATA_VERSION, content]),
        format=kind,
    )
    check_rejections(dataset.name, dataset.n_source, dataset.rejections, config.max_rejected)
    return dataset


def _subset(rows: list[Row], config: DataConfig) -> list[Row]:
    """Return the rows that the configuration asks for, in the order of the source."""
    if config.limit is None or config.limit >= len(rows):
        return rows
    whole = [row for row in rows if not row.where.startswith("line ")]
    draw = np.random.default_rng(config.seed).permutation(len(whole))[: config.limit]
    return [whole[row] for row in sorted(draw.tolist())]


def _sorted_out(rows: list[Row]) -> tuple[list[tuple[str, Row]], list[Rejection]]:
    """Return the usable rows with their keys, and the others with their reasons."""
    good: dict[str, Row] = {}
    rejections = []
    for number, row in enumerate(rows, start=1):
        key = row.key if row.key is not None else row.where or f"row {number}"
        if row.key is not None and key in good:
            rejections.append(Rejection(key, "duplicate key: an earlier row has it"))
        elif row.fault is not None:
            rejections.append(Rejection(key, row.fault))
        else:
            good[key] = row
    return list(good.items()), rejections
