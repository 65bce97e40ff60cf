"""Values of the directions on samples that the search did not see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from koda.discrepancy.blocks import Kernels, SampledKernel, kernels_of, parts_used
from koda.embeddings import EmbeddingTable
from koda.embeddings.rows import rows_by_key
from koda.errors import SolverError
from koda.typing import FloatArray

if TYPE_CHECKING:
    from koda.discrepancy.solution import Solution

Key = TypeVar("Key", bound=str)  # of several solutions

_ROUNDING = 1e-9  # a nu under this share of its terms is rounding: float64 after sums over n
_EXACT_ROWS = 8192  # up to so many samples x'Ax is exact
_DRAWN_ROWS = 2048  # on which it is estimated beyond


def common_keys(solution: Solution, target: EmbeddingTable, reference: EmbeddingTable) -> tuple[str, ...]:
    """Return the keys that both tables hold and both kernels can use, in the target's order."""
    pair = solution.kernels
    invalid = {
        key
        for table, kernel in ((target, pair.target), (reference, pair.reference))
        for key in parts_used(table, kernel).invalid_rows()
    }
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
        samples in the solution the inner products ``x_j' M_k x_k`` are estimated on 2048 rows, drawn in
        proportion to their weight in the directions, seeded: as the coefficients of a weighted regression of M_k x_k
        on the directions, which has no error where these are the eigenvectors of the exact kernels too.

    Raises:
        DataError: a key that a table lacks, or an embedding that is not finite or zero.
        SolverError: values that are not finite.

    Source: method of paper 2606.04180, section 4; out-of-sample extension after Nystrom.
    """
    wanted = common_keys(solution, target, reference) if keys is None else tuple(keys)
    return extended(solution, kernels_of(solution, target, reference), wanted)


def extended(solution: Solution, kernels: Kernels, wanted: Sequence[str]) -> FloatArray:
    """Return what :func:`extend` returns, from kernels that are at hand.

    Args:
        solution: of the search.
        kernels: of the target and of the reference, over tables that hold the samples searched and those wanted.
        wanted: keys.
    """
    return Extension(solution, kernels).values(wanted)


@dataclass(frozen=True)
class Extension:
    """The directions of a solution as functions of any sample: for several sets of samples, one after the other.

    The inner products of the directions, which no sample asked for enters, are made once, and so are the values on a
    sample that is asked for again.

    Args:
        solution: of the search.
        kernels: of the target and of the reference, over tables that hold the samples searched and those asked for.
        products: of the kernels with the directions, where several extensions share them; see :func:`extensions`.
    """

    solution: Solution
    kernels: Kernels
    products: Products | None = field(default=None, repr=False, compare=False)
    _made: dict[str, FloatArray] = field(default_factory=dict, repr=False, compare=False)  # key -> (k,)

    def values(self, wanted: Sequence[str]) -> FloatArray:
        """Return the values of all directions on samples, (n_directions, len(wanted)), as :func:`extend` does.

        Raises:
            DataError: a key that a table lacks, or an embedding that is not finite or zero.
            SolverError: values that are not finite.
        """
        row_of = {key: row for row, key in enumerate(self.solution.keys)}
        if not self.solution.directions:
            return np.zeros((0, len(wanted)))
        x = self._x
        values = np.empty((len(wanted), x.shape[1]))  # (m, k)
        rows = np.array([row_of.get(key, -1) for key in wanted], dtype=np.int64)  # (m,)
        values[rows >= 0] = x[rows[rows >= 0]]
        fresh = np.flatnonzero(rows < 0)
        asked = [wanted[int(row)] for row in fresh]
        if missing := [key for key in asked if key not in self._made]:
            self._made.update(zip(missing, self._fresh(missing), strict=True))
        for row, key in zip(fresh, asked, strict=True):
            values[row] = self._made[key]
        if not np.isfinite(values).all():
            bad = sorted({int(k) + 1 for k in np.nonzero(~np.isfinite(values))[1]})
            raise SolverError(
                f"Directions {bad} have no finite extension to new samples.",
                "The solution is damaged or was made from other tables; search again.",
            )
        return np.ascontiguousarray(values.T)

    @cached_property
    def _x(self) -> FloatArray:
        return _stacked(self.solution)

    @cached_property
    def _inner(self) -> tuple[FloatArray, FloatArray]:
        """X'AX and X'BX, (k, k) each."""
        return self._products.inner(self.solution, self.kernels)

    @cached_property
    def _products(self) -> Products:
        return self.products or Products(((self.solution, self.kernels),))

    def _fresh(self, keys: Sequence[str]) -> FloatArray:
        """Return f on samples that the search did not see, (len(keys), k)."""
        x = self._x
        n, k = x.shape
        multipliers = [direction.multiplier for direction in self.solution.directions]
        inner_a, inner_b = self._inner
        at_a, at_b = (self._products.at(self.solution, kernel, keys) for kernel in self.kernels)  # (m, k) each
        f = np.zeros((len(keys), k))
        for i, multiplier in enumerate(multipliers):  # what is not finite is refused by the caller
            coupling = inner_a[:, i] - multiplier * inner_b[:, i]  # (k,): x_j' M x_i
            nu = coupling[i] - (1 - multiplier) / n
            if abs(nu) <= _ROUNDING * (inner_a[i, i] + multiplier * inner_b[i, i]):
                continue  # f stays 0
            f[:, i] = (at_a[:, i] - multiplier * at_b[:, i] - f[:, :i] @ coupling[:i]) / nu
        return f


def extensions(solutions: Mapping[Key, Solution], kernels: Mapping[Key, Kernels]) -> dict[Key, Extension]:
    """Return the extensions of several solutions, which make each block of a kernel that they share once for all.

    Args:
        solutions: each under its key.
        kernels: of the target and of the reference of each. They share what is one object, between solutions of the
            same samples.
    """
    products = Products(tuple((solution, kernels[key]) for key, solution in solutions.items()))
    return {key: Extension(solution, kernels[key], products) for key, solution in solutions.items()}


@dataclass(frozen=True)
class Products:
    """Kernels times directions: what one solution asks for is made for all that may ask for the same.

    Args:
        solutions: and the kernels of the target and of the reference of each.
    """

    solutions: tuple[tuple[Solution, Kernels], ...]
    _kept: dict[tuple[int, int, tuple[str, ...]], FloatArray] = field(default_factory=dict, repr=False, compare=False)

    def at(self, solution: Solution, kernel: SampledKernel, keys: Sequence[str]) -> FloatArray:
        """Return sum over i of k(z, i) x_i / n at the samples z, (len(keys), k)."""
        wanted = tuple(keys)
        if (kept := self._kept.pop((id(solution), id(kernel), wanted), None)) is not None:
            return kept
        users = [other for other in self._beside(solution) if any(one is kernel for one in self._kernels(other))]
        xs = [_stacked(user) for user in users]
        n = len(solution.keys)
        together = kernel.times(kernel.rows(wanted), kernel.rows(solution.keys), np.concatenate(xs, axis=1) / n)
        ends = np.cumsum([x.shape[1] for x in xs])[:-1]
        for user, values in zip(users, np.split(together, ends, axis=1), strict=True):
            self._kept[id(user), id(kernel), wanted] = values
        return self._kept.pop((id(solution), id(kernel), wanted))

    def inner(self, solution: Solution, kernels: Kernels) -> tuple[FloatArray, FloatArray]:
        """Return X'AX and X'BX, (k, k), exactly or by a regression on rows that are drawn by importance."""
        x = _stacked(solution)
        n = len(x)
        rows, weights = np.arange(n), np.ones(n)
        if n > _EXACT_ROWS:
            by_key = rows_by_key(solution.keys)  # (n,): what is drawn does not depend on the order of the rows
            squares = [np.square(_stacked(other)[by_key]).sum(axis=1) for other in self._beside(solution)]
            chance = np.mean([square / square.sum() for square in squares], axis=0)  # (n,): the same rows serve all
            rng = np.random.default_rng(solution.config.seed)
            places, times = np.unique(rng.choice(n, size=_DRAWN_ROWS, p=chance / chance.sum()), return_counts=True)
            rows, weights = by_key[places], times / (_DRAWN_ROWS * chance[places])
        left = (x[rows] * weights[:, None]).T  # (k, rows)
        keys = [solution.keys[int(row)] for row in rows]
        at_a, at_b = (self.at(solution, kernel, keys) for kernel in kernels)
        if n <= _EXACT_ROWS:
            return left @ at_a, left @ at_b
        # (M x_k) is nearly a sum of the directions: its coefficients are regressed on them, as X'X = 1 is known
        by_a, by_b = (np.linalg.lstsq(left @ x[rows], left @ at, rcond=None)[0] for at in (at_a, at_b))
        return by_a, by_b

    def _beside(self, solution: Solution) -> list[Solution]:
        """Return the solutions with directions on the same samples in the same order, itself among them."""
        return [other for other, _ in self.solutions if other.directions and other.keys == solution.keys]

    def _kernels(self, solution: Solution) -> Kernels:
        return next(kernels for other, kernels in self.solutions if other is solution)


def _stacked(solution: Solution) -> FloatArray:
    """Return the directions, (n, k)."""
    return np.stack([direction.x for direction in solution.directions], axis=1)
