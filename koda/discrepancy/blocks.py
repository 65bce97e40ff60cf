"""One model's exact kernel over many samples: products with it, block by block or from a matrix that is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from koda.devices import device_of
from koda.discrepancy.kernel_parts import BlockMaker, multiplied, raised, times_by
from koda.embeddings import EmbeddingTable
from koda.embeddings.rows import row_slices, rows_of
from koda.errors import ConfigError, DataError
from koda.kernels import Kernel
from koda.kernels.ties import nearest_count, tie_at
from koda.parallel import current
from koda.typing import FloatArray, IntArray

if TYPE_CHECKING:
    from koda.discrepancy.solution import Solution

_BLOCK_ROWS, _BLOCK_COLUMNS = 4096, 8192  # the part of a kernel matrix that is made at a time
_BLOCKS_HERE = 2  # up to so many are made in this process: it keeps a matrix of that size anyway
_LEAST = 1e-37  # of a kernel value whose logarithm is taken, in float32
KEPT_SAMPLES = 8192  # whose kernel matrix is kept in float32, 256 MiB


@dataclass(frozen=True)
class SampledKernel:
    """The exact kernel of one model over the samples of a table.

    Args:
        table: with the modalities that the kernel compares.
        kernel: of the model.
        tie: its typical tie, the unit of shares.
        device: where blocks are made.
        dtype: of the products.
        power: the kernel is raised to it, which is a Gaussian kernel with other bandwidths.
        matrix: (n, n) the kernel itself, where it is kept: then no block of it is made twice.
    """

    table: EmbeddingTable
    kernel: Kernel
    tie: float
    device: str = "cpu"
    dtype: torch.dtype = torch.float64
    power: float = 1.0
    matrix: torch.Tensor | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, table: EmbeddingTable, kernel: Kernel, tie: float, device: str = "cpu") -> SampledKernel:
        """Return the kernel in float64, nothing kept.

        Raises:
            ConfigError: a modality that the table lacks.
        """
        return cls(parts_used(table, kernel), kernel, tie, device)

    @classmethod
    def kept(cls, table: EmbeddingTable, kernel: Kernel, tie: float, device: str = "cpu") -> SampledKernel:
        """Return the kernel in float32, its matrix kept up to 8192 samples: for figures of many directions.

        Raises:
            ConfigError: a modality that the table lacks.
            DataError: an embedding that the kernel cannot use.
        """
        single = replace(cls.of(table, kernel, tie, device), dtype=torch.float32)
        if table.n > KEPT_SAMPLES:
            return single
        sound(single.table)
        matrix = kernel.matrix(single.table, device=device_of(device), dtype=torch.float32)
        return replace(single, matrix=matrix)

    def kept_on(self, keys: Sequence[str]) -> SampledKernel:
        """Return the kernel on some of the samples, its matrix kept up to 8192 of them: for many figures of the same.

        Raises:
            DataError: a key that is not there, or an embedding that no kernel can use.
        """
        if self.matrix is not None or len(keys) > KEPT_SAMPLES:
            return self
        return self.kept(self.table.take(self.rows(keys)), self.kernel, self.tie, self.device)

    def rows(self, keys: Sequence[str]) -> IntArray:
        """Return the rows of some samples.

        Raises:
            DataError: a key that is not there, or an embedding that no kernel can use.
        """
        rows: IntArray = rows_of(self.table.keys, keys)
        if self._invalid:
            for key in keys:
                if key in self._invalid:
                    sound(self.table.take(rows))
        return rows

    @cached_property
    def _invalid(self) -> frozenset[str]:
        return frozenset() if self.matrix is not None else frozenset(self.table.invalid_rows())

    def times(self, rows: IntArray, columns: IntArray, weights: FloatArray) -> FloatArray:
        """Return ``sum over j of k(i, j) w_j``, (len(rows), k) float64, for weights (len(columns), k).

        The workers of the run, where it has some, make the blocks of a large product; the result is the same.

        Raises:
            KodaError: an embedding that the kernel cannot use, or no worker can finish a part.
        """
        workers, cut = current(), (_BLOCK_ROWS, _BLOCK_COLUMNS)
        many = len(rows) * len(columns) > _BLOCKS_HERE * _BLOCK_ROWS * _BLOCK_COLUMNS
        if workers is not None and self.matrix is None and many:
            return times_by(workers, self._maker, self.table, rows, columns, weights, cut)
        result = np.zeros((len(rows), weights.shape[1]))
        w = torch.from_numpy(np.ascontiguousarray(weights))
        for here, there, block in self._blocks(rows, columns):
            result[here] += multiplied(block, w[there])
        return result

    def projections(self, rows: IntArray, f: FloatArray) -> FloatArray:
        """Return ``h_i = f_i (mean over j != i of f_j k(i, j)) / tau``, (m, k), for distinct rows and f (m, k)."""
        without_self = self.times(rows, rows, f) - f  # k(i, i) = 1
        return f * without_self / (self.tie * (len(f) - 1))

    def mean(self, rows: IntArray, columns: IntArray | None = None) -> float | None:
        """Return the mean of k over two sets of samples, or over the pairs of one; None where there are none."""
        others = rows if columns is None else columns
        if not len(rows) or not len(others) or (columns is None and len(rows) < 2):
            return None
        total = sum(float(block.sum(dtype=torch.float64)) for _, _, block in self._blocks(rows, others))
        n = len(rows)
        return (total - n) / (n * (n - 1)) if columns is None else total / (n * len(others))

    def nearest(self, rows: IntArray) -> torch.Tensor:
        """Return -log k of each sample to its nearest 1 % of the others among the rows, (m, count) float64.

        For a Gaussian kernel these are the smallest of ``d^2 / 2 sigma^2``, see :mod:`koda.kernels.ties`.
        """
        count = min(nearest_count(len(rows)), len(rows) - 1)
        found = []
        for here, _, block in self._blocks(rows, rows, columns_at_a_time=len(rows)):
            own = torch.arange(here.start, here.stop, device=block.device)
            others = block.clone()
            others[own - here.start, own] = -1.0
            found.append(others.topk(count, dim=1, sorted=False).values.double())
        return torch.cat(found).clamp_min(_LEAST).log().neg().clamp_min(0)

    def rescaled(self, multiplier: float, nearest: torch.Tensor) -> SampledKernel:
        """Return the Gaussian kernel whose bandwidths are so many times these.

        Args:
            multiplier: of every bandwidth.
            nearest: of this kernel, see :meth:`nearest`; it gives the typical tie of the other one.
        """
        return replace(self, power=self.power / multiplier**2, tie=tie_at(nearest, multiplier))

    @cached_property
    def _maker(self) -> BlockMaker:
        return BlockMaker(self.kernel, self.power, str(device_of(self.device)), self.dtype)

    def _blocks(
        self, rows: IntArray, columns: IntArray, columns_at_a_time: int | None = None
    ) -> Iterator[tuple[slice, slice, torch.Tensor]]:
        """Yield (part of the rows, part of the columns, the kernel between them)."""
        for there in row_slices(len(columns), columns_at_a_time or _BLOCK_COLUMNS):
            block_of = self._against(columns[there])
            for here in row_slices(len(rows), _BLOCK_ROWS):
                yield here, there, block_of(rows[here])

    def _against(self, columns: IntArray) -> Callable[[IntArray], torch.Tensor]:
        """Return what gives the kernel between some rows and these columns."""
        kept, maker = self.matrix, self._maker
        if kept is not None:
            return lambda rows: raised(_cut(kept, rows, columns), self.power)
        right = self.table.take(columns)
        return lambda rows: maker.block(self.table.take(rows), right)


Kernels = tuple[SampledKernel, SampledKernel]  # of the target and of the reference


def kernels_of(solution: Solution, target: EmbeddingTable, reference: EmbeddingTable, *, keep: bool = False) -> Kernels:
    """Return the kernels of a solution over the samples of the tables, in float64, or kept in float32."""
    pair, device = solution.kernels, solution.config.device
    make = SampledKernel.kept if keep else SampledKernel.of
    return (
        make(target, pair.target, pair.ties["target"], device),
        make(reference, pair.reference, pair.ties["reference"], device),
    )


def parts_used(table: EmbeddingTable, kernel: Kernel) -> EmbeddingTable:
    """Return the table with the modalities of the kernel and nothing else: blocks of it cost little to cut.

    Raises:
        ConfigError: a modality that the table lacks.
    """
    missing = [name for name in kernel.sigmas if name not in table.modalities]
    if missing:
        raise ConfigError(
            f"The kernel needs {' and '.join(missing)} embeddings, which the table does not hold.",
            "Pass the tables that the solution was found on.",
        )
    return EmbeddingTable(keys=table.keys, **{name: getattr(table, name) for name in kernel.sigmas})


def sound(part: EmbeddingTable) -> EmbeddingTable:
    """Return the table itself, if every row of it is one that a kernel can use.

    Raises:
        DataError: a row that is not.
    """
    if invalid := part.invalid_rows():
        key, reason = next(iter(invalid.items()))
        raise DataError(f"{len(invalid)} samples cannot be used, the first is {key!r}: {reason}.", "Leave them out.")
    return part


def _cut(matrix: torch.Tensor, rows: IntArray, columns: IntArray) -> torch.Tensor:
    """Return the part of a matrix, without a copy where the columns are neighbours."""
    part = matrix[_span(rows) or torch.from_numpy(rows).to(matrix.device)]
    return part[:, _span(columns) or torch.from_numpy(columns).to(matrix.device)]


def _span(rows: IntArray) -> slice | None:
    first, last = int(rows[0]), int(rows[-1])
    if last - first + 1 == len(rows) and bool((np.diff(rows) == 1).all()):
        return slice(first, last + 1)
    return None
