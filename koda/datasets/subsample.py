"""A part of a data set, drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from koda.datasets.base import PairDataset, digest_of, kinds_of
from koda.records.ledger import Ledger


def subsample(dataset: PairDataset, size: int, seed: Sequence[int]) -> PairDataset:
    """Draw rows of a data set without replacement, the rejected ones among them.

    Args:
        dataset: of at least ``size`` rows.
        size: rows that are drawn.
        seed: of the draw.
    """
    n_pairs = len(dataset.pairs)
    order = np.random.default_rng(seed).permutation(n_pairs + len(dataset.rejections))
    rows = sorted(order[:size].tolist())
    pairs = tuple(dataset.pairs[row] for row in rows if row < n_pairs)
    rejections = tuple(dataset.rejections[row - n_pairs] for row in rows if row >= n_pairs)
    changes = {
        "n_outside_limit": dataset.ledger.n_outside_limit + dataset.n_source - len(rows),
        "rejected": kinds_of(rejections),
        "n_compared": len(pairs),
    }
    return replace(
        dataset,
        pairs=pairs,
        rejections=rejections,
        n_source=len(rows),
        digest=digest_of(pairs),
        ledger=Ledger.model_validate({**dict(dataset.ledger), **changes}),
    )
