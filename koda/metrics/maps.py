"""The same samples in two dimensions under two models, by t-SNE: to look at, not to measure by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from koda.embeddings import EmbeddingTable
from koda.typing import FloatArray

MIN_SAMPLES, MAX_SAMPLES = 10, 1500
PERPLEXITY = 30
ITERATIONS = 400  # of 1500 scenes of the demo the nearest 10 in the map are as right as after 1000, to a point in 100
_ANGLE = 0.8  # of Barnes-Hut
_SPREAD = 1e-4  # standard deviation of the first coordinate at the start
_DIGITS = 4


@dataclass(frozen=True)
class Maps:
    """Two maps of the same samples.

    Args:
        baseline, candidate: (n, 2), in the order of the samples.
        method: with its settings, in words.
    """

    baseline: FloatArray
    candidate: FloatArray
    method: str


def maps(baseline: EmbeddingTable, candidate: EmbeddingTable, modalities: Sequence[str], *, seed: int) -> Maps | None:
    """Map the same samples under two models, so that the maps can be compared by eye.

    A sample is its embeddings, each of length 1, side by side. The baseline's map starts from the first two principal
    components; the candidate's starts from the baseline's map and is turned to lie upon it as well as it can, which
    changes no distance in it. One thread computes both, so that the same samples give the same maps.

    Args:
        baseline, candidate: n samples, the same in the same order.
        modalities: that are compared.
        seed: of t-SNE.

    Returns:
        The maps; None of fewer than 10 samples.

    Source: van der Maaten and Hinton (2008); Kobak and Berens (2019) for the start.
    """
    from threadpoolctl import threadpool_limits  # here, with scikit-learn, since both are slow to load

    if baseline.n < MIN_SAMPLES:
        return None
    with threadpool_limits(limits=1):
        x, y = (_joined(table, modalities) for table in (baseline, candidate))
        first = _mapped(x, _principal(x), seed)
        second = _turned(_mapped(y, first, seed), first)
    perplexity = _perplexity(baseline.n)
    names = " and ".join(modalities)
    method = (
        f"t-SNE (scikit-learn) of the {names} embeddings at length 1, Euclidean distances, perplexity {perplexity:g}, "
        f"{ITERATIONS} iterations, Barnes-Hut angle {_ANGLE:g}; the baseline's map starts from the first two principal "
        "components, the candidate's from the baseline's map, and is turned upon it"
    )
    return Maps(_rounded(first), _rounded(second), method)


def _joined(table: EmbeddingTable, modalities: Sequence[str]) -> FloatArray:
    """Return the embeddings of each sample side by side, each of length 1, (n, d)."""
    parts = [np.asarray(getattr(table, name), dtype=np.float64) for name in modalities]
    return np.hstack([part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-300) for part in parts])


def _principal(x: FloatArray) -> FloatArray:
    """Return the first two principal components, (n, 2); the largest entry of each is positive."""
    centred = x - x.mean(axis=0)
    if len(x) > x.shape[1]:
        directions = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :2]  # (d, 2)
        scores = centred @ directions
    else:
        values, vectors = np.linalg.eigh(centred @ centred.T)
        scores = vectors[:, ::-1][:, :2] * np.sqrt(np.maximum(values[::-1][:2], 0))
    if scores.shape[1] < 2:  # of embeddings in one dimension
        scores = np.hstack([scores, np.zeros((len(x), 2 - scores.shape[1]))])
    signs = np.sign(scores[np.abs(scores).argmax(axis=0), [0, 1]])
    components: FloatArray = scores * np.where(signs == 0, 1, signs)
    return components


def _mapped(x: FloatArray, start: FloatArray, seed: int) -> FloatArray:
    """Return the t-SNE map of samples from a start, (n, 2), centred."""
    from sklearn.manifold import TSNE

    spread = float(start[:, 0].std())
    # samples that are all alike have no principal components, and stay where they are
    begin = start * (_SPREAD / spread) if spread > 1e-12 else np.zeros_like(start)
    search = TSNE(
        perplexity=_perplexity(len(x)),
        max_iter=ITERATIONS,
        angle=_ANGLE,
        init=begin.astype(np.float32),
        random_state=seed,
        n_jobs=1,
    )
    found = np.asarray(search.fit_transform(x), dtype=np.float64)
    centred: FloatArray = found - found.mean(axis=0)
    return centred


def _turned(points: FloatArray, towards: FloatArray) -> FloatArray:
    """Return centred points, turned and mirrored to lie nearest to others (orthogonal Procrustes)."""
    left, _, right = np.linalg.svd(points.T @ towards)
    turned: FloatArray = points @ (left @ right)
    return turned


def _perplexity(n: int) -> float:
    return min(PERPLEXITY, (n - 1) // 3)


def _rounded(points: FloatArray) -> FloatArray:
    rounded: FloatArray = np.round(points, _DIGITS) + 0.0  # no negative zero
    return rounded
