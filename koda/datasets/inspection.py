"""A look at the data set that a configuration names, by count and sample, without running the audit."""

from __future__ import annotations

from typing import Any

from koda.config import AuditConfig
from koda.datasets import PairDataset, count_kinds, read_dataset
from koda.datasets.base import allowed_rejections
from koda.errors import ConfigError

PAGE_SIZE = 20  # samples and rejections shown at a time


def look_at_data(config: AuditConfig, page: int = 1) -> dict[str, Any]:
    """Return what a data set holds: counts, what was left out and why, and a page of its samples.

    Args:
        config: `data.max_rejected` is not applied: to see what is wrong is what this is for.
        page: from 1 on, 20 samples each.

    Raises:
        DataError: no such data set, or not one usable pair.
        ConfigError: a page that is not there.
    """
    lenient = config.data.model_copy(update={"max_rejected": float(2**53)})
    dataset = read_dataset(lenient)
    pages = -(-len(dataset.pairs) // PAGE_SIZE)
    if not 1 <= page <= pages:
        raise ConfigError(f"--page {page}: the data set has pages 1 to {pages}.")
    allowed = allowed_rejections(dataset.n_source, config.data.max_rejected)
    return {
        "name": dataset.name,
        "path": dataset.path,
        "format": dataset.format,
        "digest": dataset.digest,
        "n_source": dataset.ledger.n_source,
        "n_asked": dataset.n_source,
        "n_pairs": len(dataset.pairs),
        "n_rejected": len(dataset.rejections),
        "within_max_rejected": len(dataset.rejections) <= allowed,
        "n_images": len({pair.image_digest for pair in dataset.pairs if pair.image_digest is not None}),
        "n_captions": len({pair.caption for pair in dataset.pairs}),
        "n_duplicate_images": dataset.n_duplicate_images,
        "n_empty_captions": dataset.n_empty_captions,
        "metadata_columns": list(dataset.metadata_columns),
        "ledger": dataset.ledger.model_dump(mode="json"),
        "rejection_reasons": count_kinds(dataset.rejections),
        "rejections": [
            {"key": item.key, "kind": item.kind, "reason": item.reason} for item in dataset.rejections[:PAGE_SIZE]
        ],
        "page": page,
        "pages": pages,
        "samples": _page(dataset, page),
    }


def _page(dataset: PairDataset, page: int) -> list[dict[str, Any]]:
    pairs = dataset.pairs[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
    return [
        {
            "key": pair.key,
            "caption": pair.caption,
            "image": None if pair.image is None else pair.image.name,
            "metadata": pair.metadata,
        }
        for pair in pairs
    ]
