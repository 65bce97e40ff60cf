"""Does a finding hang on the bandwidth? Its held-out shares under narrower and wider kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from koda.discrepancy.blocks import Kernels, SampledKernel
from koda.discrepancy.significance import HeldOut, held_out_shares
from koda.embeddings.rows import drawn_keys
from koda.kernels.ties import multiplier_for
from koda.typing import FloatArray

TIES = (0.15, 0.3, 0.6)  # typical ties at which a finding should hold
_SAMPLES = 4096  # of the search, on which a bandwidth is set


@dataclass(frozen=True)
class AtTie:
    """The directions of one side under kernels of another typical tie.

    Args:
        tie: of both models.
        shares: one of each direction, as :func:`koda.discrepancy.significance.confirm` gives them.
    """

    tie: float
    shares: tuple[HeldOut, ...]


def bandwidth_sensitivity(
    f: FloatArray,
    keys: Sequence[str],
    searched: Sequence[str],
    kernels: Kernels,
    materiality: float,
    *,
    tested: Kernels | None = None,
    ties: Sequence[float] = TIES,
    seed: int = 0,
) -> tuple[AtTie, ...]:
    """Return the held-out shares of the same directions under Gaussian kernels of other bandwidths.

    In units of the typical tie a share hardly depends on the bandwidth. A difference that one bandwidth shows and
    another does not is a matter of how alike "alike" is.

    Args:
        f: (m, k) values of the directions on the held-out samples.
        keys: the m samples.
        searched: the samples of the search; the bandwidths are set on at most 4096 of them.
        kernels: of the target and of the reference, over all of these samples.
        materiality: the difference that is tested against.
        tested: the kernels over the held-out samples, where these are at hand.
        ties: typical ties, the same for both models.
        seed: of the subsample.

    Returns:
        One for each tie; () for kernels without a bandwidth.

    Raises:
        DataError: samples of which nearly all are copies of others.
    """
    if any(kernel.kernel.kind != "gaussian" for kernel in kernels):
        return ()
    drawn = drawn_keys(searched, _SAMPLES, seed)
    nearest = [kernel.nearest(kernel.rows(drawn)) for kernel in kernels]
    results = []
    for tie in ties:
        at: list[SampledKernel] = []
        for kernel, distances in zip(tested or kernels, nearest, strict=True):
            at.append(kernel.rescaled(multiplier_for(distances, tie), distances))
        results.append(AtTie(tie, held_out_shares(f, keys, (at[0], at[1]), materiality)))
    return tuple(results)
