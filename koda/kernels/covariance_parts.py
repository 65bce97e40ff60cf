"""The covariance of stacked features in parts, each over some rows: integer sums, which add up to the same G.

Features of every row are the same integers wherever they are made, and so are sums of them; a part leaves its sums in
the exchange, and they are added in float64, exact up to 2^53. Features that are no integers are summed in one process,
since a sum of fractions depends on where it is cut.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from koda.embeddings import EmbeddingTable
from koda.errors import MachineError
from koda.kernels.covariance import MOST_INT32_ROWS, CovarianceBlocks, StackedFeatures, accumulate
from koda.kernels.features import FeatureMap, draw_features
from koda.kernels.kernel import Kernel
from koda.parallel import Exchange, Handle, Kept, Workers, current, in_order

PART_ROWS = 14_336  # two chunks of rows on a CPU; the square of a feature is up to 127^2, so that int32 holds their sum
MOST_PARTS = 256


def summed(features: StackedFeatures) -> CovarianceBlocks:
    """Return the covariance of stacked features, by the workers of the run where it has some and the rows are many.

    It is the same bytes either way; see :func:`koda.kernels.covariance.accumulate`.
    """
    workers = current()
    if workers is None or not features.exact or features.n <= PART_ROWS:
        return accumulate(features)
    return summed_by(workers, features)


def part_rows(n: int) -> int:
    """Return the rows of a part of so many: sums of 64 to 128 MB are read for each part, so that these stay few.

    >>> part_rows(1_000_000), part_rows(100_000_000)
    (14336, 401408)
    """
    return PART_ROWS * math.ceil(n / (PART_ROWS * MOST_PARTS))


def summed_by(workers: Workers, features: StackedFeatures, rows: int | None = None) -> CovarianceBlocks:
    """Return the covariance of integer features, by workers.

    Args:
        workers: who work on the parts.
        features: of two joined tables.
        rows: of a part; default: as :func:`part_rows` says.

    Raises:
        MachineError: a worker makes other features of the same embeddings, or none can finish a part.
    """
    exchange, notes = workers.exchange, tuple(map(_note, features.maps))
    sums = torch.zeros(features.width, features.width, dtype=torch.float64)
    handed_out: deque[tuple[Handle, ...]] = deque()

    def parts() -> Iterator[tuple[Any, ...]]:
        tables = (features.target, features.reference)
        for cut in zip(*(table.chunks(rows or part_rows(features.n)) for table in tables), strict=True):
            handed_out.append(tuple(exchange.put_arrays(arrays_of(part)) for _, part in cut))
            yield exchange, handed_out[-1], notes, str(features.device)

    for handle in in_order(workers, partial_sums, parts()):
        sums += torch.from_numpy(exchange.take_arrays(handle)["sums"])
        for rows_of_part in handed_out.popleft():
            exchange.drop(rows_of_part)
    return CovarianceBlocks(sums.to(features.device), features.n, features.maps, True)


def partial_sums(
    exchange: Exchange, tables: tuple[Handle, Handle], maps: tuple[dict[str, Any], dict[str, Any]], device: str
) -> Handle:
    """Sum the products of the features of some rows; the work of one part.

    Args:
        exchange: where the rows lie, and the sums are left.
        tables: of target and reference, over the same keys.
        maps: what the feature maps are drawn again from, with their digests.
        device: on which the sums are made.

    Returns:
        The handle of the upper triangle of the sums, int32 (D, D).

    Raises:
        MachineError: the features drawn here are not those of the run, or a handle names nothing.
    """
    target, reference = (table_at(exchange, handle) for handle in tables)
    drawn = _drawn(maps[0], target), _drawn(maps[1], reference)
    blocks = accumulate(StackedFeatures(target, reference, drawn, torch.device(device), cache_bytes=0))
    small = torch.int32 if target.n <= MOST_INT32_ROWS else torch.int64
    return exchange.put_arrays({"sums": blocks.sums.to(small).cpu().numpy()})


def arrays_of(table: EmbeddingTable) -> dict[str, np.ndarray]:
    """Return the embeddings of a table, without its keys, as they are exchanged."""
    return {name: np.asarray(getattr(table, name)) for name in table.modalities}


def table_at(exchange: Exchange, handle: Handle) -> EmbeddingTable:
    """Read a table that was written as :func:`arrays_of` has it; the keys are numbers of rows.

    Raises:
        MachineError: the handle names nothing.
    """
    arrays = exchange.get_arrays(handle)
    n = len(next(iter(arrays.values())))
    return EmbeddingTable([str(row) for row in range(n)], arrays.get("image"), arrays.get("text"))


def _note(feature_map: FeatureMap) -> dict[str, Any]:
    kernel = vars(feature_map.kernel) | {"sigmas": dict(feature_map.kernel.sigmas)}
    return {
        "kernel": kernel,
        "r": feature_map.width // 2,
        "kind": feature_map.kind,
        "seed": feature_map.seed,
        "digest": feature_map.digest(),
    }


_maps: Kept[FeatureMap] = Kept(4)  # two questions of two maps


def _drawn(note: dict[str, Any], table: EmbeddingTable) -> FeatureMap:
    """Draw a feature map again, or take that of the last parts."""
    return _maps.get(note["digest"], lambda: _drawn_again(note, table))


def _drawn_again(note: dict[str, Any], table: EmbeddingTable) -> FeatureMap:
    drawn = draw_features(Kernel(**note["kernel"]), table, note["r"], kind=note["kind"], seed=note["seed"])
    if drawn.digest() != note["digest"]:
        raise MachineError(
            "A worker draws other random features than the run from the same seed.",
            "Install the same versions of numpy and torch on all machines of the cluster.",
        )
    return drawn
