"""How alike two models are as a whole, beside the local findings: linear CKA and shared nearest neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from koda.devices import device_of
from koda.embeddings import EmbeddingTable
from koda.errors import DataError

NEIGHBOURS = 10
MAX_SAMPLES = 8192  # for the neighbours, whose cost is quadratic
_CHUNK = 1024
_MEAN_ROWS = 65_536


@dataclass(frozen=True)
class GlobalSimilarity:
    """Figures of one modality.

    Args:
        cka: linear CKA, from 0 to 1; 1 for embeddings that are equal up to rotation and scale.
        neighbours: mean share of the k nearest neighbours that the two models agree on.
        by_chance: what ``neighbours`` is for models that have nothing to do with each other, k / (n - 1).
        k: neighbours looked at.
        n: samples that the neighbours were found among.
    """

    cka: float
    neighbours: float
    by_chance: float
    k: int
    n: int


def global_similarity(
    baseline: EmbeddingTable, candidate: EmbeddingTable, *, seed: int = 0, device: str = "cpu"
) -> Mapping[str, GlobalSimilarity]:
    """Return the similarity of two models over the same samples, for each modality that both have.

    Args:
        baseline, candidate: over the same keys in the same order.
        seed: of the subsample of at most 8192 samples that the neighbours are found among.
        device: where the products are computed.

    Raises:
        DataError: other keys, or under 3 samples.

    Source: Kornblith et al. (2019) for CKA; Huh et al. (2024) for the agreement of neighbours.

    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(50, 8)); q = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    >>> keys = [str(i) for i in range(50)]
    >>> image = global_similarity(EmbeddingTable(keys, image=x), EmbeddingTable(keys, image=3 * x @ q))["image"]
    >>> round(image.cka, 6), image.neighbours
    (1.0, 1.0)
    """
    if baseline.keys != candidate.keys:
        raise DataError("The two tables are not over the same keys in the same order.", "Join them by key first.")
    if baseline.n < 3:
        raise DataError(f"There are {baseline.n} samples; a similarity needs 3.", "Add samples.")
    place = device_of(device)
    rows = np.arange(baseline.n)
    if baseline.n > MAX_SAMPLES:
        rows = np.sort(np.random.default_rng(seed).choice(baseline.n, size=MAX_SAMPLES, replace=False))
    k = min(NEIGHBOURS, len(rows) - 1)
    figures = {}
    for name in baseline.modalities:
        if name not in candidate.modalities:
            continue
        x, y = (
            torch.as_tensor(np.ascontiguousarray(getattr(table, name))).to(place) for table in (baseline, candidate)
        )
        index = torch.from_numpy(rows).to(place)
        figures[name] = GlobalSimilarity(
            cka=linear_cka(x, y),
            neighbours=mutual_neighbours(x[index], y[index], k),
            by_chance=k / (len(rows) - 1),
            k=k,
            n=len(rows),
        )
    return figures


def linear_cka(x: torch.Tensor, y: torch.Tensor) -> float:
    """Return ``||X'Y||^2 / (||X'X|| ||Y'Y||)`` in Frobenius norms, X (n, d) and Y (n, d') centred.

    It is 0 where one of them is constant. The memory is that of the (d, d') products, whatever n.
    """
    # in float64 all rows at once would take four times the memory of what is stored
    means = [sum(rows.double().sum(0) for rows in torch.split(part, _MEAN_ROWS)) / len(part) for part in (x, y)]
    products: dict[str, torch.Tensor | float] = {"xx": 0.0, "yy": 0.0, "xy": 0.0}
    for a, b in zip(torch.split(x, _CHUNK), torch.split(y, _CHUNK), strict=True):
        u, v = a.double() - means[0], b.double() - means[1]
        products = {
            "xx": products["xx"] + u.T @ u, "yy": products["yy"] + v.T @ v, "xy": products["xy"] + u.T @ v,
        }  # fmt: skip
    norms = {name: float(torch.as_tensor(product).norm()) for name, product in products.items()}
    below = norms["xx"] * norms["yy"]
    return norms["xy"] ** 2 / below if below > 0 else 0.0


def mutual_neighbours(x: torch.Tensor, y: torch.Tensor, k: int) -> float:
    """Return the mean share of the k nearest neighbours by cosine, itself left out, that two models agree on.

    Args:
        x: (n, d); y: (n, d').
        k: from 1 to n - 1.
    """
    units = [part.double() / part.double().norm(dim=1, keepdim=True).clamp_min(1e-300) for part in (x, y)]
    shared = 0
    for start in range(0, len(x), _CHUNK):
        near = []
        for unit in units:
            scores = unit[start : start + _CHUNK] @ unit.T  # (b, n)
            own = torch.arange(len(scores), device=scores.device)
            scores[own, own + start] = -torch.inf
            near.append(scores.topk(k, dim=1).indices)  # (b, k)
        shared += int((near[0][:, :, None] == near[1][:, None, :]).sum())
    return shared / (len(x) * k)
