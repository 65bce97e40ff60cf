"""Would other samples have led to the same finding? The search again on other halves of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from koda.discrepancy.blocks import kernels_of
from koda.discrepancy.extension import Extension, common_keys, extended
from koda.embeddings import EmbeddingTable
from koda.embeddings.join import MIN_SAMPLES
from koda.embeddings.rows import drawn_keys
from koda.metrics.overlap import jaccard
from koda.records import Stability
from koda.slicing.slices import neighbourhood
from koda.typing import FloatArray

if TYPE_CHECKING:
    from koda.discrepancy import Solution


MAX_SAMPLES = 2000  # a search that is made again takes at most so many samples
COMMON = 4096  # samples at most on which slices are compared
_RANK_TOLERANCE = 1e-12  # relative size of a direction that those before it span


def stability(
    solution: Solution,
    target: EmbeddingTable,
    reference: EmbeddingTable,
    runs: int,
    extension: Extension | None = None,
) -> tuple[Stability, ...]:
    """Search again on other samples, and say how much of each slice comes back.

    Runs take turns. The odd ones search half of the solution's samples; the even ones as many as the solution has,
    drawn from all samples, as another split would. Each takes 2000 at most, with the seed of the solution and the
    number of the run. Kernels and limit are the solution's, without random features. All directions, old and new,
    are extended to the same common samples (at most 4096), where ::

        jaccard_k = mean over the runs of max over j of |S_k & S_j| / |S_k or S_j|
        subspace  = mean over the runs of ||F' F_run||_F^2 / the number of directions

    with S the neighbourhoods of the lobes (:func:`koda.slicing.slices.neighbourhood`; the sign of a direction does not
    matter), and F, F_run orthonormal bases of the
    directions: the mean squared cosine of the principal angles between the two subspaces. A run that finds fewer
    directions has less to offer and counts as it is; one that finds none counts as 0.

    Nothing here decides whether a finding is confirmed, so searching the confirmation part is no peeking.

    Args:
        solution: of :func:`koda.find_discrepancies`.
        target, reference: tables that hold the samples of the solution, and others.
        runs: how many searches.
        extension: of the solution over the tables, where it is at hand.

    Returns:
        One for each direction; () without directions or runs.

    Raises:
        DataError: an embedding that cannot be used.
    """
    if not solution.directions or runs < 1:
        return ()
    n, seed = len(solution.keys), solution.config.seed
    everything, searched = common_keys(solution, target, reference), solution.keys
    common = drawn_keys(everything, COMMON, [seed, 0])
    extension = extension or Extension(solution, kernels_of(solution, target, reference))
    kernels, values = extension.kernels, extension.values(common)  # (k, m)
    slices = [_slice(f) for f in values]
    draws = []
    for run in range(1, runs + 1):
        pool, size = (searched, n // 2) if run % 2 else (everything, n)
        draws.append(drawn_keys(pool, min(size, MAX_SAMPLES), [seed, run]))
    needed = sorted({key for drawn in draws for key in drawn})  # the tables may be far larger
    parts = [kernel.table.select(needed) for kernel in kernels]
    overlaps, subspaces = [], []
    for drawn in draws:
        again = _again(solution, *(part.select(drawn) for part in parts))
        if again is None or not again.directions:
            overlaps.append([0.0] * len(slices))
            subspaces.append(0.0)
            continue
        others = extended(again, kernels, common)  # (k', m)
        candidates = [_slice(f) for f in others]
        overlaps.append([max(jaccard(own, other) for other in candidates) for own in slices])
        subspaces.append(subspace_overlap(values, others))
    subspace = float(np.mean(subspaces))
    return tuple(Stability(jaccard=float(value), subspace=subspace, n_runs=runs) for value in np.mean(overlaps, axis=0))


def subspace_overlap(a: FloatArray, b: FloatArray) -> float:
    """Return the mean squared cosine of the principal angles between the rows' spans, over the dimension of a's.

    Args:
        a, b: (k, m) and (k', m), the directions on the same m samples.

    >>> import numpy as np
    >>> round(subspace_overlap(np.eye(3)[:2], np.eye(3)[1:]), 6)
    0.5
    """
    left, right = _basis(a), _basis(b)
    return float(np.square(left.T @ right).sum()) / left.shape[1] if left.shape[1] else 0.0


def _again(solution: Solution, target: EmbeddingTable, reference: EmbeddingTable) -> Solution | None:
    """Search these samples with the solution's kernels and limit; None where there are too few of them.

    Only overlaps are read off, so no gap is proved.
    """
    from koda.discrepancy import Problem
    from koda.discrepancy.limits import again_on

    if target.n < MIN_SAMPLES:
        return None
    config = again_on(solution.config, solution.eps, len(solution.keys), target.n)
    return Problem.of(target, reference, config, kernels=solution.kernels).solve(config, prove=False)


def _slice(f: FloatArray) -> frozenset[int]:
    """Return the rows of both lobes and of their neighbourhood."""
    return frozenset(neighbourhood(f).tolist())


def _basis(directions: FloatArray) -> FloatArray:
    """Return an orthonormal basis of the rows' span, (m, rank)."""
    u, s, _ = np.linalg.svd(directions.T, full_matrices=False)
    return u[:, s > _RANK_TOLERANCE * s[0]] if len(s) and s[0] > 0 else u[:, :0]
