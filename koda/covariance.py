"""The block covariance of the stacked features of two models, in one pass over the samples.

``G = [Phi_A Phi_B]'[Phi_A Phi_B] / n`` holds everything the search needs: n disappears (paper 2606.04180,
proposition 4.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch

from koda.embeddings import EmbeddingTable
from koda.errors import DataError
from koda.features import FeatureMap, slice_rows


@dataclass(frozen=True)
class CovarianceBlocks:
    """The one-pass sums, and the maps that made them.

    Args:
        g: (D, D) float64, D = D_A + D_B, target coordinates first; exactly symmetric.
        n: number of samples.
        maps: the feature maps of target and reference.
    """

    g: torch.Tensor
    n: int
    maps: tuple[FeatureMap, FeatureMap]

    @property
    def split(self) -> int:
        """Where the reference's coordinates begin, D_A."""
        return self.maps[0].width


def covariance(
    target: EmbeddingTable,
    reference: EmbeddingTable,
    maps: tuple[FeatureMap, FeatureMap],
    *,
    rows: int = 4096,
    blocks: int = 4,
    device: torch.device | str = "cpu",
) -> CovarianceBlocks:
    """Accumulate G over chunks of samples; memory O(D^2 + rows D), whatever n.

    Only blocks on and over the diagonal are multiplied; the rest is copied from them at the end.

    Args:
        rows: samples a chunk.
        blocks: column blocks the upper triangle is made of.

    Raises:
        DataError: tables whose keys are not the same in the same order.
    """
    if target.keys != reference.keys:
        raise DataError("The two tables are not over the same keys in the same order.", "Join them by key first.")
    width = maps[0].width + maps[1].width
    g = torch.zeros(width, width, device=device, dtype=torch.float64)
    edges = [width * i // blocks for i in range(blocks + 1)]
    sides = list(zip(maps, (target, reference), strict=True))
    for start in range(0, target.n, rows):
        parts = [phi_of(slice_rows(table, start, start + rows), device=device) for phi_of, table in sides]
        phi = torch.cat(parts, dim=1)  # (rows, D)
        for i, j in pairwise(edges):
            g[i:j, i:].addmm_(phi[:, i:j].T, phi[:, i:])
    g /= target.n
    upper = g.triu()
    return CovarianceBlocks(upper + upper.triu(1).T, target.n, maps)
