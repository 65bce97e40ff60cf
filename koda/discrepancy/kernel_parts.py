"""Products with a model's kernel in parts, each one block of the kernel matrix, by the workers of the run.

A part is the block that one process makes at a time, and the products are added in the order in which one process adds
them, so that the sums are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from koda.embeddings import EmbeddingTable
from koda.embeddings.rows import row_slices
from koda.kernels import Kernel
from koda.kernels.covariance_parts import arrays_of, table_at
from koda.parallel import Exchange, Handle, Kept, Workers, in_order
from koda.typing import FloatArray, IntArray


@dataclass(frozen=True)
class BlockMaker:
    """What makes a block of a kernel matrix, the same at a worker and in the process of the run.

    Args:
        kernel: of the model.
        power: the kernel is raised to it.
        device: where blocks are made.
        dtype: of the blocks.
    """

    kernel: Kernel
    power: float
    device: str
    dtype: torch.dtype

    def block(self, left: EmbeddingTable, right: EmbeddingTable) -> torch.Tensor:
        """Return the kernel between two tables, (left.n, right.n).

        Raises:
            DataError: an embedding that the kernel cannot use.
        """
        return raised(self.kernel.matrix(left, right, device=self.device, dtype=self.dtype), self.power)


def raised(block: torch.Tensor, power: float) -> torch.Tensor:
    """Return a kernel raised to a power."""
    return block if power == 1 else block.pow(power)


def multiplied(block: torch.Tensor, weights: torch.Tensor) -> FloatArray:
    """Return a block times weights, float64."""
    # the weights are copied: how a product is cut may depend on where in memory its factors begin
    values: FloatArray = (block @ weights.to(block, copy=True)).double().cpu().numpy()
    return values


def times_by(
    workers: Workers,
    maker: BlockMaker,
    table: EmbeddingTable,
    rows: IntArray,
    columns: IntArray,
    weights: FloatArray,
    cut: tuple[int, int],
) -> FloatArray:
    """Return ``sum over j of k(i, j) w_j``, (len(rows), k) float64, by workers.

    Args:
        workers: who work on the parts.
        maker: of the blocks.
        table: of the samples.
        rows: of the table, one for each i.
        columns: of the table, one for each j.
        weights: (len(columns), k).
        cut: rows and columns of a block.

    Raises:
        KodaError: no worker can finish a part.
    """
    exchange = workers.exchange
    cuts = [list(row_slices(len(rows), cut[0])), list(row_slices(len(columns), cut[1]))]
    places = [(i, j) for j in range(len(cuts[1])) for i in range(len(cuts[0]))]

    def parts() -> Iterator[tuple[Any, ...]]:
        left: dict[int, Handle] = {}
        for i, j in places:
            here, there = cuts[0][i], cuts[1][j]
            if i == 0:  # what is shared is not written again: columns of several products lie there once
                right = exchange.share_arrays(arrays_of(table.take(columns[there])))
                of_right = exchange.share_arrays({"weights": weights[there]})
            if j == 0:
                left[i] = exchange.share_arrays(arrays_of(table.take(rows[here])))
            yield exchange, maker, left[i], right, of_right

    result = np.zeros((len(rows), weights.shape[1]))
    for (i, _), handle in zip(places, in_order(workers, product_of_block, parts()), strict=True):
        result[cuts[0][i]] += exchange.take_arrays(handle)["product"]
    return result


def product_of_block(exchange: Exchange, maker: BlockMaker, left: Handle, right: Handle, weights: Handle) -> Handle:
    """Make a block of the kernel and multiply it; the work of one part.

    Args:
        exchange: where the embeddings lie, and the product is left.
        maker: of the block.
        left: the embeddings of the rows.
        right: those of the columns.
        weights: of the columns.

    Returns:
        The handle of the product, float64.

    Raises:
        MachineError: a handle names nothing.
    """
    block = maker.block(_kept_table(exchange, left), _kept_table(exchange, right))
    product = multiplied(block, torch.from_numpy(exchange.get_arrays(weights)["weights"]))
    return exchange.put_arrays({"product": product})


_tables: Kept[EmbeddingTable] = Kept(8)  # at 4096 and 8192 rows of 1024 numbers 128 to 256 MiB in float32


def _kept_table(exchange: Exchange, handle: Handle) -> EmbeddingTable:
    """Read a table, or take it from the last parts: neighbours share rows or columns."""
    return _tables.get(handle.digest, lambda: table_at(exchange, handle))
