"""The block covariance of the stacked features of two models, in one pass over the samples.

``G = [Phi_A Phi_B]'[Phi_A Phi_B] / n`` holds everything the search needs: n disappears (paper 2606.04180,
proposition 4.3). Features that are integers are summed as integers: the sum is exact, so it is the same
bytes for any order, chunking, number of shards or workers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch

from koda.devices import has_int8_products
from koda.embeddings import TableLike
from koda.errors import DataError
from koda.kernels.features import FeatureMap
from koda.storage import digest_json

_EXACT_FP32 = float(2**24)  # every integer up to here is a float32
_CHUNK_ROWS = {"cpu": 7168, "cuda": 16_384}  # rows of a chunk, by device
_FP32_ROWS = 1792  # squares of 127^2 / 2 on average: the sum of so many stays under 2^24, with room for chance
MOST_INT32_ROWS = 133_000  # the sum of more squares of 127 would leave int32
CACHE_BYTES = 512 * 2**20  # of integer features kept for a second pass


@dataclass(frozen=True)
class CovarianceBlocks:
    """The one-pass sums, and the maps that made them.

    Args:
        sums: (D, D) float64, the upper triangle of the unscaled ``Phi'Phi``, D = D_A + D_B, target coordinates
            first; integers where the features are.
        n: number of samples.
        maps: the feature maps of target and reference.
        exact: whether the sums are integers, hence the same for any order of the samples.
    """

    sums: torch.Tensor
    n: int
    maps: tuple[FeatureMap, FeatureMap]
    exact: bool

    @property
    def split(self) -> int:
        """Where the reference's coordinates begin, D_A."""
        return self.maps[0].width

    @property
    def g(self) -> torch.Tensor:
        """G = Phi'Phi / n, (D, D) float64, exactly symmetric."""
        scale = _scales(self.maps, self.exact).to(self.sums.device)  # (D,)
        g = self.sums / scale[:, None]
        g /= scale * self.n
        step = 1024
        for i in range(0, g.shape[0], step):
            j = i + step
            square = g[i:j, i:j]
            square.copy_(square.triu() + square.triu(1).T)
            g[j:, i:j] = g[i:j, j:].T
        return g

    def digest(self) -> str:
        """Return the digest of the sums, the number of samples and the maps."""
        state = hashlib.sha256()
        state.update(digest_json([self.n, self.exact, [m.digest() for m in self.maps]]).encode())
        for rows in torch.split(self.sums, 1024):
            state.update(rows.cpu().numpy().tobytes())
        return state.hexdigest()


@dataclass
class StackedFeatures:
    """Rows [phi_A(z), phi_B(z)] of two joined tables, chunk by chunk, as often as they are asked for.

    Integer features are kept after the first pass as long as they take no more than ``cache_bytes``.

    Raises:
        DataError: tables whose keys are not the same in the same order.
    """

    target: TableLike
    reference: TableLike
    maps: tuple[FeatureMap, FeatureMap]
    device: torch.device
    rows: int | None = None
    cache_bytes: int = CACHE_BYTES
    _cache: list[tuple[slice, torch.Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.target.keys != self.reference.keys:
            raise DataError("The two tables are not over the same keys in the same order.", "Join them by key first.")
        self.device = torch.device(self.device)

    @property
    def n(self) -> int:
        """Number of samples."""
        return self.target.n

    @property
    def width(self) -> int:
        """Number of coordinates, D."""
        return self.maps[0].width + self.maps[1].width

    @property
    def exact(self) -> bool:
        """Whether the features are integers."""
        return all(m.bounded for m in self.maps)

    @property
    def scales(self) -> torch.Tensor:
        """(D,) float64: what the unscaled features are to be divided by."""
        return _scales(self.maps, self.exact).to(self.device)

    def chunks(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield (rows, unscaled features (rows, D)): int8 where exact, else float64."""
        if self._cache:
            yield from self._cache
            return
        size = self.rows or _CHUNK_ROWS.get(self.device.type, 4096)
        keep = self.exact and self.n * self.width <= self.cache_bytes
        kept = []
        for (rows, first), (_, second) in zip(self.target.chunks(size), self.reference.chunks(size), strict=True):
            parts = [
                phi.integers(part, device=self.device) if self.exact else phi(part, device=self.device)
                for phi, part in zip(self.maps, (first, second), strict=True)
            ]
            chunk = torch.cat(parts, 1)
            if keep:
                kept.append((rows, chunk))
            yield rows, chunk
        self._cache = kept


def accumulate(features: StackedFeatures, *, blocks: int = 8) -> CovarianceBlocks:
    """Return the covariance of stacked features; memory O(D^2 + rows D), whatever n, beside features that are kept.

    Only blocks on and over the diagonal are multiplied. Integer features are multiplied int8 x int8 -> int32 where
    the hardware has such products (tensor cores, AMX, VNNI), else in float32 over so few rows that every partial sum
    is an integer under 2^24, hence exact as well; the sums over chunks are float64, exact up to 2^53.

    Args:
        blocks: column blocks the upper triangle is made of.
    """
    width = features.width
    sums = torch.zeros(width, width, device=features.device, dtype=torch.float64)
    edges = [width * i // blocks for i in range(blocks + 1)]
    for _, x in features.chunks():
        if not features.exact:
            for i, j in pairwise(edges):
                sums[i:j, i:].addmm_(x[:, i:j].T, x[:, i:])
        elif has_int8_products(features.device):
            _add_int8(sums, x, edges)
        else:
            _add_fp32(sums, x, edges)
    return CovarianceBlocks(sums.triu_(), features.n, features.maps, features.exact)


def _add_int8(sums: torch.Tensor, x: torch.Tensor, edges: Sequence[int]) -> None:
    """Add x'x for int8 x (rows, D) by integer products."""
    for part in torch.split(x, MOST_INT32_ROWS // 32 * 32):
        k, width = part.shape
        if not x.is_cuda:
            for i, j in pairwise(edges):
                sums[i:j, i:] += torch._int_mm(part[:, i:j].T, part[:, i:])
            continue
        # the CUDA library wants multiples of 8 and more than 16 rows; zeros add nothing
        padded = torch.nn.functional.pad(part, (0, -width % 32, 0, -k % 32)).T.contiguous()  # (D', k')
        for i, j in pairwise(edges):
            start, stop = i // 32 * 32, -(-j // 32) * 32
            product = torch._int_mm(padded[start:stop], padded[start:].T)  # (stop - start, D' - start) int32
            sums[i:j, i:] += product[i - start : j - start, i - start : width - start]


def _add_fp32(sums: torch.Tensor, x: torch.Tensor, edges: Sequence[int]) -> None:
    """Add x'x for int8 x (rows, D) by float32 products that round nothing."""
    if x.shape[0] > _FP32_ROWS:
        for part in torch.split(x, _FP32_ROWS):
            _add_fp32(sums, part, edges)
        return
    single = x.float()
    # Cauchy-Schwarz bounds every partial sum of a product of two columns by their larger squared norm; the norms
    # are sums of up to 127^2 each, exact here under 2^24 and not under it by rounding alone beyond
    if x.shape[0] > 1 and float(single.square().sum(0).max()) >= _EXACT_FP32:
        half = x.shape[0] // 2
        _add_fp32(sums, x[:half], edges)
        _add_fp32(sums, x[half:], edges)
        return
    for i, j in pairwise(edges):
        sums[i:j, i:] += single[:, i:j].T @ single[:, i:]


def _scales(maps: tuple[FeatureMap, FeatureMap], exact: bool) -> torch.Tensor:
    scale = [m.scale if exact else 1.0 for m in maps]
    return torch.cat([torch.full((m.width,), s, dtype=torch.float64) for m, s in zip(maps, scale, strict=True)])
