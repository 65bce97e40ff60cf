"""How alike "alike" is under a kernel: the typical tie, the yardstick of every share.

tau(K) = the mean, over the samples, of the mean similarity of a sample with its nearest 1 % of the others, at least
one. A group of a share s of the data whose members are as alike as that has the share s; see
:func:`koda.discrepancy.significance.confirm`. It hardly depends on the number of samples.
"""

from __future__ import annotations

import math

import torch
from scipy.optimize import brentq

from koda.errors import DataError

NEAREST = 0.01  # of the other samples
TYPICAL_TIE = 0.3  # of `sigma: auto`
LEAST_TIE, MOST_TIE = 1e-6, 0.99  # outside nothing, or everything, is tied together
LOW_TIE, HIGH_TIE = 0.01, 0.9  # outside groups can hardly be found, which is warned about


def nearest_count(n: int) -> int:
    """Return how many of the other samples are the nearest ones: 1 %, at least one.

    >>> nearest_count(2), nearest_count(1001)
    (1, 10)
    """
    return max(1, round(NEAREST * (n - 1)))


def nearest_distances(squared: torch.Tensor) -> torch.Tensor:
    """Return each sample's smallest entries of a matrix of squared distances without the diagonal, (m, k) float64."""
    m = squared.shape[0]
    k = min(nearest_count(m), m - 1)
    own = squared.diagonal().clone()
    squared.fill_diagonal_(torch.inf)
    try:
        smallest = squared.topk(k, dim=1, largest=False, sorted=False).values
    finally:
        squared.diagonal().copy_(own)
    return smallest.double()


def typical_tie(kernel: torch.Tensor) -> float:
    """Return tau of a kernel matrix (m, m) with a diagonal of 1, m > 1."""
    m = kernel.shape[0]
    k = min(nearest_count(m), m - 1)
    # the diagonal of 1 is among the largest, whatever ties with it
    return (float(kernel.topk(k + 1, dim=1, sorted=False).values.sum(dtype=torch.float64)) - m) / (m * k)


def tie_at(nearest: torch.Tensor, multiplier: float) -> float:
    """Return tau of the Gaussian kernel exp(-s / multiplier^2), s the smallest scaled distances (m, k)."""
    return float(torch.exp(nearest / -(multiplier**2)).mean())


def multiplier_for(nearest: torch.Tensor, tie: float = TYPICAL_TIE) -> float:
    """Return the multiplier of the bandwidths at which the typical tie is the one asked for.

    Samples that are equal tie with 1 whatever the bandwidth. Where they alone make up half of the tie asked for, the
    multiplier is that of the nearest samples that are not equal.

    Args:
        nearest: (m, k), as :func:`nearest_distances` of the sum over modalities of ``d^2 / 2 median^2``.
        tie: in (0, 1).

    Raises:
        DataError: the nearest samples are all equal.
    """
    apart = nearest[nearest > 0]
    if not apart.numel():
        raise DataError(
            "The nearest 1 % of the other samples are equal to each sample, so no bandwidth tells them apart.",
            "Leave duplicates out, or compare another modality (discrepancy.modality).",
        )
    low, high = math.sqrt(float(apart.min())) * 1e-3, math.sqrt(float(apart.max())) * 1e3
    if 1 - apart.numel() / nearest.numel() < tie / 2:
        apart = nearest

    def excess(logarithm: float) -> float:
        return tie_at(apart, math.exp(logarithm)) - tie

    # the ends are so far apart that the tie is 0 at one and 1 at the other, to rounding
    return math.exp(brentq(excess, math.log(low), math.log(high), xtol=1e-15, rtol=1e-15))


def check_tie(tie: float, role: str, how: str) -> None:
    """Refuse a kernel under which nothing, or everything, is tied together.

    Raises:
        DataError: a typical tie under 1e-6 or over 0.99.
    """
    if LEAST_TIE <= tie <= MOST_TIE:
        return
    what = "nothing" if tie < LEAST_TIE else "everything"
    raise DataError(
        f"The kernel of the {role} model ties {what} together: the mean similarity of a sample with its nearest "
        f"1 % of the others is {tie:.2g} ({how}).",
        "Use sigma: auto with the gaussian kernel, which sets it to 0.3."
        if tie < LEAST_TIE
        else "Use sigma: auto with the gaussian kernel; where that is used already, the samples are copies of a few: "
        "compare another modality (discrepancy.modality).",
    )
