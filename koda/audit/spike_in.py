"""What could this audit have seen? Groups that the reference is made to lose, searched and tested like all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from koda.config import DiscrepancyConfig, SignificanceConfig
from koda.devices import device_of
from koda.discrepancy import Problem, Solution
from koda.discrepancy.blocks import Kernels, SampledKernel, kernels_of
from koda.discrepancy.extension import extended
from koda.discrepancy.forms import SampleForms
from koda.discrepancy.limits import again_on
from koda.discrepancy.multiplicity import adjusted_p_values
from koda.discrepancy.significance import held_out_shares
from koda.embeddings import EmbeddingTable
from koda.embeddings.join import MIN_SAMPLES
from koda.embeddings.rows import drawn_keys
from koda.kernels import KernelPair
from koda.records.controls import SPIKE_IN_SHARES
from koda.slicing.slices import members
from koda.typing import IntArray

LEAST_SIZE = 3  # samples of a group: one or two are not what a direction is made of
MAX_SAMPLES = 2048  # of either part, in the trials
DIRECTIONS = 5  # searched: a group that is not among the first has hardly been seen


def shares_to_try(n: int) -> list[float]:
    """Return the shares of n samples that are a group, the largest in any case.

    >>> shares_to_try(4000), shares_to_try(120)
    ([0.04, 0.02, 0.01, 0.005], [0.04])
    """
    large = [share for share in SPIKE_IN_SHARES if round(share * n) >= LEAST_SIZE]
    return large or [SPIKE_IN_SHARES[0]]


@dataclass(frozen=True)
class Trial:
    """One group that was put in.

    Args:
        share: of the samples, that the group has.
        size: its samples.
        detected: whether a confirmed direction has a lobe of which at least half is the group.
        difference: held-out difference of shares of that direction, in ties; None where there is none.
    """

    share: float
    size: int
    detected: bool
    difference: float | None


@dataclass(frozen=True)
class SpikeIns:
    """The two models of one question over the samples of the trials; see :func:`spike_ins`."""

    kernels: Kernels
    pair: KernelPair
    discovery: tuple[str, ...]
    confirmation: tuple[str, ...]
    config: DiscrepancyConfig
    significance: SignificanceConfig
    n_directions: int
    most_directions: int
    others: tuple[tuple[float | None, ...], tuple[float | None, ...]]

    def trial(self, share: float, number: int) -> Trial:
        """Put in one group and look for it.

        A random sample and its nearest m - 1 under the target are the group, m = share x n. In the reference its
        samples change places with others of the same part, so that the reference no longer ties them together and all
        else of it stays: the search is the audit's own, but for its first five directions and without proofs.
        """
        rng = np.random.default_rng([self.config.seed, round(1e6 * share), number])
        n = len(self.discovery) + len(self.confirmation)
        size = max(1, round(share * n))
        group = self._group(int(rng.integers(n)), size)
        order = self._exchanged(group, rng)
        target, reference = self.kernels
        changed: Kernels = (target, _permuted(reference, order))
        m = len(self.discovery)
        a, b = self._forms
        place = torch.from_numpy(order[:m]).to(b.device)
        forms = SampleForms(a, b[place][:, place], same=False)
        problem = Problem(self.discovery, self.pair, forms, {}, device_of(self.config.device), 0.0)
        solution = problem.solve(self.config, prove=False)
        if not solution.directions:
            return Trial(share, size, detected=False, difference=None)
        everything = [*self.discovery, *self.confirmation]
        f = extended(solution, changed, everything)  # (k, n)
        tested = held_out_shares(f[:, m:].T, self.confirmation, changed, self.significance.materiality)
        lost, gained = self.others
        mine = [held.p_value for held in tested]
        p_values = adjusted_p_values([[*mine, *lost], gained], self.n_directions, self.most_directions)[0]
        inside = np.zeros(n, dtype=bool)
        inside[group] = True
        for values, held, p in zip(f, tested, p_values, strict=False):
            lobes = members(values)
            found = any(len(lobe) and 2 * int(inside[lobe].sum()) >= len(lobe) for lobe in lobes)
            if found and p is not None and p < self.significance.alpha:
                return Trial(share, size, detected=True, difference=held.difference.value)
        return Trial(share, size, detected=False, difference=None)

    @cached_property
    def _forms(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A and B of the search, (m, m) float64."""
        m = len(self.discovery)
        device = device_of(self.config.device)
        a, b = (k.kernel.matrix(k.table.select(self.discovery), device=device).div_(m) for k in self.kernels)
        return a, b

    def _group(self, row: int, size: int) -> IntArray:
        """Return the rows of a sample and its nearest others under the target."""
        target = self.kernels[0]
        everything = target.rows([*self.discovery, *self.confirmation])
        similarity = target.times(everything, everything[[row]], np.ones((1, 1)))[:, 0]
        similarity[row] = np.inf
        return np.argsort(-similarity, kind="stable")[:size]

    def _exchanged(self, group: IntArray, rng: np.random.Generator) -> IntArray:
        """Return which sample's embedding each sample has under the reference, (n,)."""
        n, m = len(self.discovery) + len(self.confirmation), len(self.discovery)
        order = np.arange(n)
        for part in (np.arange(m), np.arange(m, n)):
            inside = np.intersect1d(part, group)
            others = np.setdiff1d(part, group)
            count = min(len(inside), len(others))
            drawn = rng.choice(others, size=count, replace=False)
            mixed = rng.permutation(inside)[:count]
            order[mixed], order[drawn] = drawn, mixed
        return order


def spike_ins(
    target: EmbeddingTable,
    reference: EmbeddingTable,
    discovery: Sequence[str],
    confirmation: Sequence[str],
    solution: Solution,
    config: DiscrepancyConfig,
    significance: SignificanceConfig,
    others: tuple[Sequence[float | None], Sequence[float | None]],
) -> SpikeIns:
    """Prepare the two models of one question for trials: at most 2048 samples of either part, drawn with the seed.

    Args:
        target, reference: over the samples of both parts.
        discovery, confirmation: keys.
        solution: of the search, whose kernels and limit are those of the trials.
        config: of the search, before it went on.
        significance: of the test.
        others: p-values of the directions that the audit tests beside those of a trial, not adjusted: lost and gained.

    Raises:
        DataError: an embedding that cannot be used.
    """
    seen, new = (drawn_keys(part, MAX_SAMPLES, config.seed) for part in (discovery, confirmation))
    everything = [*seen, *new]
    kernels = kernels_of(solution, target.select(everything), reference.select(everything), keep=True)
    n_directions = min(DIRECTIONS, config.n_directions, max(1, len(seen) - MIN_SAMPLES))
    search = again_on(config, solution.eps, len(discovery), len(seen), n_directions)
    lost, gained = others
    return SpikeIns(
        kernels,
        solution.kernels,
        tuple(seen),
        tuple(new),
        search,
        significance,
        config.n_directions,
        config.max_directions,
        (tuple(lost), tuple(gained)),
    )


def _permuted(kernel: SampledKernel, order: IntArray) -> SampledKernel:
    """Return the kernel of a model that sees each sample as another one."""
    assert kernel.matrix is not None, "the samples of a trial are few"
    place = torch.from_numpy(order).to(kernel.matrix.device)
    return replace(kernel, matrix=kernel.matrix[place][:, place])
