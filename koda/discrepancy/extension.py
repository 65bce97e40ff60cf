"""Values of the directions on samples that the search did not see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from koda.discrepancy.blocks import KEPT_SAMPLES, Kernels, kernels_of, parts_used
from koda.discrepancy.products import Products, stacked
from koda.embeddings import EmbeddingTable
from koda.errors import SolverError
from koda.typing import FloatArray

if TYPE_CHECKING:
    from koda.discrepancy.solution import Solution

Key = TypeVar("Key", bound=str)  # of several solutions

_ROUNDING = 1e-9  # a nu under this share of its terms is rounding: float64 after sums over n


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

    The optimum x_k solves ``M_k x_k = nu_k x_k + sum_{j<k} x_j (x_j' M_k x_k)`` with ``M_k = A - lambda_k B``, A and B
    the kernel matrices over n that were searched: exact ones, or those of the random features. By other kernels x_k
    would solve no such equation, and where its energies are within the error of the features the values would have
    little to do with it. A sample z of the search has the value x_k(z). Any other has ::

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
        (n_directions, len(keys)) float64; memory beside it is flat in the number of keys. After a search with features
        a sample costs no more than its own features, however many were searched.

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
        return stacked(self.solution)

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


def extension_of(solution: Solution, target: EmbeddingTable, reference: EmbeddingTable) -> Extension:
    """Return the extension of a solution over two tables, in float32 where they are too large for kernels to be kept.

    Raises:
        ConfigError: a modality that a table lacks.
        DataError: an embedding that a kernel cannot use.
    """
    many = min(target.n, reference.n) > KEPT_SAMPLES  # no matrix is kept then, and float32 takes half of the time
    return Extension(solution, kernels_of(solution, target, reference, keep=many))


def extensions(solutions: Mapping[Key, Solution], kernels: Mapping[Key, Kernels]) -> dict[Key, Extension]:
    """Return the extensions of several solutions, which make each block of a kernel that they share once for all.

    Args:
        solutions: each under its key.
        kernels: of the target and of the reference of each. They share what is one object, between solutions of the
            same samples.
    """
    products = Products(tuple((solution, kernels[key]) for key, solution in solutions.items()))
    return {key: Extension(solution, kernels[key], products) for key, solution in solutions.items()}
