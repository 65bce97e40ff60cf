"""Values of the directions on samples that the search did not see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from koda.devices import device_of
from koda.embeddings import EmbeddingTable
from koda.embeddings.rows import rows_by_key
from koda.errors import ConfigError, DataError, SolverError
from koda.kernels import Kernel
from koda.typing import FloatArray

if TYPE_CHECKING:
    from koda.discrepancy.solution import Solution


_ROUNDING = 1e-9  # a nu under this share of its terms is rounding: float64 after sums over n
_EXACT_ROWS = 8192  # up to so many samples x'Ax is exact, beyond it is estimated on as many
_BLOCK_ROWS, _BLOCK_COLUMNS = 1024, 8192  # the part of a kernel matrix that is made at a time


def common_keys(solution: Solution, target: EmbeddingTable, reference: EmbeddingTable) -> tuple[str, ...]:
    """Return the keys that both tables hold and both kernels can use, in the target's order."""
    target_part, reference_part = (parts_used(table, kernel) for table, kernel in roles(solution, target, reference))
    invalid = target_part.invalid_rows().keys() | reference_part.invalid_rows().keys()
    known = set(reference.keys) - invalid - solution.rejected.keys()
    return tuple(key for key in target.keys if key in known)


def extend(
    solution: Solution, target: EmbeddingTable, reference: EmbeddingTable, keys: Sequence[str] | None = None
) -> FloatArray:
    """Return the values of all directions on any samples, by their own eigen-equation.

    The optimum x_k solves ``M_k x_k = nu_k x_k + sum_{j<k} x_j (x_j' M_k x_k)`` with ``M_k = A - lambda_k B``,
    A and B the exact kernel matrices over n. A sample z of the search has the value x_k(z). Any other has ::

        f_k(z) = [ (k_A(z, .) - lambda_k k_B(z, .))'x_k / n - sum_{j<k} f_j(z) x_j' M_k x_k ] / nu'_k
        nu'_k  = x_k' M_k x_k - (1 - lambda_k) / n

    nu' is nu less the diagonal of M: for a sample of the search the sum without the sample itself is
    exactly ``nu' x_k``, so a new sample, which has no term of its own either, is on the same scale. Where
    nu' is 0 to rounding nothing but the samples themselves holds the direction up, and it is 0
    everywhere else.

    Args:
        solution: of :func:`koda.find_discrepancies`.
        target, reference: tables that hold the samples of the solution and those asked for.
        keys: samples wanted; default :func:`common_keys`.

    Returns:
        (n_directions, len(keys)) float64; memory beside it is flat in the number of keys. Beyond 8192
        samples in the solution the inner products ``x_j' M_k x_k`` are estimated on as many rows, drawn in
        proportion to their weight in the directions, seeded.

    Raises:
        DataError: a key that a table lacks, or an embedding that is not finite or zero.
        SolverError: values that are not finite.

    Source: method of paper 2606.04180, section 4; out-of-sample extension after Nystrom.
    """
    wanted = common_keys(solution, target, reference) if keys is None else tuple(keys)
    row_of = {key: row for row, key in enumerate(solution.keys)}
    if not solution.directions:
        return np.zeros((0, len(wanted)))
    x = np.stack([direction.x for direction in solution.directions], axis=1)  # (n, k)
    values = np.empty((len(wanted), x.shape[1]))  # (m, k)
    rows = np.array([row_of.get(key, -1) for key in wanted], dtype=np.int64)  # (m,)
    values[rows >= 0] = x[rows[rows >= 0]]
    fresh = np.flatnonzero(rows < 0)
    if len(fresh):
        values[fresh] = _extended(solution, target, reference, [wanted[i] for i in fresh], x)
    if not np.isfinite(values).all():
        bad = sorted({int(k) + 1 for k in np.nonzero(~np.isfinite(values))[1]})
        raise SolverError(
            f"Directions {bad} have no finite extension to new samples.",
            "The solution is damaged or was made from other tables; search again.",
        )
    return np.ascontiguousarray(values.T)


def _extended(
    solution: Solution, target: EmbeddingTable, reference: EmbeddingTable, keys: Sequence[str], x: FloatArray
) -> FloatArray:
    """Return f on samples that the search did not see, (len(keys), k)."""
    n, k = x.shape
    multipliers = [direction.multiplier for direction in solution.directions]
    inner_a, inner_b = _inner_products(solution, target, reference, x)  # (k, k) each
    at_a, at_b = _applied(solution, target, reference, keys, x)  # (m, k) each
    f = np.zeros((len(keys), k))
    for i, multiplier in enumerate(multipliers):  # what is not finite is refused by the caller
        coupling = inner_a[:, i] - multiplier * inner_b[:, i]  # (k,): x_j' M x_i
        nu = coupling[i] - (1 - multiplier) / n
        if abs(nu) <= _ROUNDING * (inner_a[i, i] + multiplier * inner_b[i, i]):
            continue  # f stays 0
        f[:, i] = (at_a[:, i] - multiplier * at_b[:, i] - f[:, :i] @ coupling[:i]) / nu
    return f


def _inner_products(
    solution: Solution, target: EmbeddingTable, reference: EmbeddingTable, x: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return X'AX and X'BX, (k, k), exactly or by importance sampling of the rows."""
    n = len(x)
    rows, weights = np.arange(n), np.ones(n)
    if n > _EXACT_ROWS:
        by_key = rows_by_key(solution.keys)  # (n,): what is drawn does not depend on the order of the rows
        chance = np.square(x[by_key]).sum(axis=1) / np.square(x).sum()  # (n,)
        rng = np.random.default_rng(solution.config.seed)
        places, times = np.unique(rng.choice(n, size=_EXACT_ROWS, p=chance), return_counts=True)
        rows, weights = by_key[places], times / (_EXACT_ROWS * chance[places])
    left = (x[rows] * weights[:, None]).T  # (k, rows)
    at_a, at_b = _applied(solution, target, reference, [solution.keys[row] for row in rows], x)
    return left @ at_a, left @ at_b


def _applied(
    solution: Solution, target: EmbeddingTable, reference: EmbeddingTable, keys: Sequence[str], x: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return sum over i of k(z, i) x_i / n at the samples z, for both kernels, (len(keys), k) each."""
    results = []
    for table, kernel in roles(solution, target, reference):
        base, new = usable(table, kernel, solution.keys), usable(table, kernel, keys)
        weights = torch.from_numpy(x / len(x))  # (n, k)
        result = np.zeros((len(keys), x.shape[1]))
        for rows, columns, block in kernel_blocks(kernel, new, base, solution.config.device):
            result[rows] += (block @ weights[columns].to(block)).cpu().numpy()
        results.append(result)
    return results[0], results[1]


def roles(
    solution: Solution, target: EmbeddingTable, reference: EmbeddingTable
) -> tuple[tuple[EmbeddingTable, Kernel], tuple[EmbeddingTable, Kernel]]:
    """Return (table, kernel) of the target and of the reference."""
    return (target, solution.kernels.target), (reference, solution.kernels.reference)


def parts_used(table: EmbeddingTable, kernel: Kernel) -> EmbeddingTable:
    """Return the table with the modalities of the kernel and nothing else: blocks of it cost little to cut."""
    missing = [name for name in kernel.sigmas if name not in table.modalities]
    if missing:
        raise ConfigError(
            f"The kernel needs {' and '.join(missing)} embeddings, which the table does not hold.",
            "Pass the tables that the solution was found on.",
        )
    return EmbeddingTable(keys=table.keys, **{name: getattr(table, name) for name in kernel.sigmas})


def usable(table: EmbeddingTable, kernel: Kernel, keys: Sequence[str]) -> EmbeddingTable:
    """Return the rows of the keys, with the modalities of the kernel only.

    Raises:
        DataError: a key that is not there, or an embedding that no kernel can use.
    """
    return sound(parts_used(table, kernel).select(keys))


def sound(part: EmbeddingTable) -> EmbeddingTable:
    """Return the table itself, if every row of it is one that a kernel can use.

    Raises:
        DataError: a row that is not.
    """
    if invalid := part.invalid_rows():
        key, reason = next(iter(invalid.items()))
        raise DataError(f"{len(invalid)} samples cannot be used, the first is {key!r}: {reason}.", "Leave them out.")
    return part


def kernel_blocks(
    kernel: Kernel, x: EmbeddingTable, y: EmbeddingTable, device: str, dtype: torch.dtype = torch.float64
) -> Iterator[tuple[slice, slice, torch.Tensor]]:
    """Yield (rows, columns, k(x_rows, y_columns)) block by block, so that memory stays flat in both."""
    where = device_of(device)
    for j in range(0, y.n, _BLOCK_COLUMNS):
        columns = slice(j, min(j + _BLOCK_COLUMNS, y.n))
        right = y.take(np.arange(columns.start, columns.stop))
        for i in range(0, x.n, _BLOCK_ROWS):
            rows = slice(i, min(i + _BLOCK_ROWS, x.n))
            left = x.take(np.arange(rows.start, rows.stop))
            yield rows, columns, kernel.matrix(left, right, device=where, dtype=dtype)
