"""Do the samples at the top of the directions fall into groups under a model? The paper's k-means scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from koda.embeddings import EmbeddingTable
from koda.kernels.kernel import unit_embeddings

TOP_SAMPLES = 50  # of each ranking
KMEANS_RUNS = 10


@dataclass(frozen=True)
class Agreement:
    """Agreement of a model's k-means clusters with the directions: 1 for the same groups, 0 by chance (but nmi)."""

    ami: float
    nmi: float
    ari: float


def tops(rankings: Sequence[Sequence[str]], top: int = TOP_SAMPLES) -> dict[str, int]:
    """Return sample -> number of its direction, for the first samples of each ranking.

    A sample at the top of several belongs to the one that ranks it highest, the first of those that tie.
    """
    best: dict[str, tuple[int, int]] = {}
    for direction, ranking in enumerate(rankings):
        for rank, key in enumerate(ranking[:top]):
            best[key] = min(best.get(key, (rank, direction)), (rank, direction))
    return {key: direction for key, (_, direction) in sorted(best.items())}


def cluster_scores(
    table: EmbeddingTable, labels: dict[str, int], modalities: Sequence[str], *, seed: int = 0
) -> Agreement | None:
    """Cluster samples by k-means on a model's embeddings and compare with the directions that they are of.

    The embeddings of each modality have length 1; those of several stand side by side. The best of 10 runs counts.

    Args:
        table: of the model.
        labels: sample -> number of its direction, see :func:`tops`.
        modalities: what the kernel compares.
        seed: of the first centres.

    Returns:
        None where there are fewer than two directions.

    Source: paper 2606.04180, section 6. Such scores alone are no evidence: two copies of one model under different
    feature draws already have an AMI of 0.27.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, normalized_mutual_info_score

    truth = list(labels.values())
    k = len(set(truth))
    if k < 2:
        return None
    part = table.select(list(labels))
    x = np.hstack([unit_embeddings(part, name, "cpu", torch.float64).numpy() for name in modalities])  # (n, d)
    clusters = KMeans(n_clusters=k, n_init=KMEANS_RUNS, random_state=seed).fit_predict(x)
    return Agreement(
        ami=float(adjusted_mutual_info_score(truth, clusters)),
        nmi=float(normalized_mutual_info_score(truth, clusters)),
        ari=float(adjusted_rand_score(truth, clusters)),
    )
