"""The nearest samples of some samples under a model, by its kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from koda.devices import device_of
from koda.embeddings import EmbeddingTable
from koda.embeddings.rows import drawn_keys, rows_of
from koda.kernels import Kernel
from koda.typing import IntArray

NEIGHBOURS = 5
MAX_SAMPLES = 50_000  # that neighbours are looked for among; beyond, as many that are drawn stand for all
_BLOCK_ELEMENTS = 16_777_216  # kernel values at a time


@dataclass(frozen=True)
class Near:
    """One of the nearest samples, and the value of the kernel."""

    key: str
    similarity: float


def looked_among(keys: Sequence[str], seed: int) -> list[str]:
    """Return the samples that neighbours are looked for among: all, or 50 000 that are drawn; sorted."""
    return drawn_keys(keys, MAX_SAMPLES, seed)


def nearest(
    table: EmbeddingTable,
    kernel: Kernel,
    keys: Sequence[str],
    among: Sequence[str],
    contents: Sequence[object],
    *,
    k: int = NEIGHBOURS,
    device: str = "cpu",
) -> dict[str, list[Near]]:
    """Return the k nearest samples of each sample, the nearest first, those of one similarity in the order of `among`.

    The sample itself is none of them, nor are its copies. Only the rows of the samples asked for are made, some at a
    time, so that nothing is quadratic in the number of samples.

    Args:
        table: of one model.
        kernel: of the model.
        keys: the samples asked for.
        among: the samples that neighbours are looked for among.
        contents: (n,) what the sample in each row of the table is; rows of equal contents are copies of each other.
        k: neighbours at most; fewer where there are no more.
        device: where the kernel is computed.

    Raises:
        DataError: a key that the table lacks, or an embedding that the kernel cannot use.
    """
    where = device_of(device)
    number: dict[object, int] = {}
    copies = np.array([number.setdefault(content, len(number)) for content in contents], dtype=np.int64)  # (n,)
    asked, columns = rows_of(table.keys, keys), rows_of(table.keys, among)
    others = table.take(columns)
    found: dict[str, list[Near]] = {}
    step = max(1, _BLOCK_ELEMENTS // max(len(columns), 1))
    for start in range(0, len(asked), step):
        rows = asked[start : start + step]
        block = kernel.matrix(table.take(rows), others, device=where, dtype=torch.float32)  # (b, m)
        block[torch.from_numpy(copies[rows, None] == copies[None, columns]).to(where)] = -torch.inf
        for row, places, values in _leading(block, k):
            found[table.keys[int(rows[row])]] = [
                Near(among[place], float(value)) for place, value in zip(places.tolist(), values.tolist(), strict=True)
            ]
    return found


def _leading(block: torch.Tensor, k: int) -> list[tuple[int, IntArray, np.ndarray]]:
    """Return for each row of the block its number, and place and value of its k largest finite entries."""
    k = min(k, block.shape[1])
    if k == 0:
        return [(row, np.empty(0, dtype=np.int64), np.empty(0)) for row in range(len(block))]
    least = block.topk(k, dim=1).values[:, -1:]  # (b, 1): of entries that equal it, the first places count
    reach = ((block >= least) & block.isfinite()).cpu().numpy()
    values = block.cpu().numpy()
    leading = []
    for row in range(len(values)):
        places = np.flatnonzero(reach[row])
        places = places[np.argsort(-values[row, places], kind="stable")][:k]
        leading.append((row, places, values[row, places]))
    return leading
