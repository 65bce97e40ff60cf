"""The bandwidth with the largest held-out contrast: `sigma: tune`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from koda.config import DiscrepancyConfig, SignificanceConfig, modalities_of
from koda.discrepancy.limits import at_size
from koda.discrepancy.problem import Problem
from koda.discrepancy.significance import MIN_CONFIRMATION, confirm
from koda.embeddings import EmbeddingTable, TableLike
from koda.errors import DataError
from koda.kernels import AUTO_MULTIPLIER, KernelPair, choose_kernels

MULTIPLIERS = (0.25, 0.3, 0.4, 0.5, 0.7, 1.0)  # the bandwidths that are tried, in median distances of the reference
MAX_SAMPLES = 2048  # half of them to search, half to judge
LEADING = 3  # directions whose contrast counts
_SEARCH_TOLERANCE = 1e-3  # the gap of a trial search: far under the differences between bandwidths
_CONTRAST_TOLERANCE = 1e-9  # contrasts that differ by less are equal


def tune_kernels(target: TableLike, reference: TableLike, config: DiscrepancyConfig) -> KernelPair:
    """Choose the bandwidths under which the leading directions differ most on samples that they were not found on.

    At most 2048 of the samples are drawn with the seed and cut in half. For each multiplier of the reference's
    median distance (the target's bandwidth matched as ever, see :func:`koda.kernels.choose_kernels`) the first three
    directions are found on one half with exact kernels and the configured limit. The contrast of the multiplier is
    the sum of their differences of coherent shares on the other half, d of
    :func:`koda.discrepancy.significance.confirm`. The largest contrast wins; among equal ones the multiplier that is
    nearest to 0.4.

    A share grows with the bandwidth, so the contrast leans towards wide ones: more of the data in a slice, of samples
    that are less alike. On the scenes of the demo it took 1.0 of the median distance, where lobes reach the cap on
    their size and mix colours that 0.4 keeps apart. For slices of like things keep ``sigma: auto``.

    The samples given must be those of the search alone: the contrast is a maximum over multipliers, so samples that
    took part in it cannot test a finding. An audit passes its discovery part.

    Returns:
        The kernels of the multiplier, chosen on all the samples given; every contrast is in ``tuning``.

    Raises:
        DataError: fewer than 60 samples, and as :func:`koda.kernels.choose_kernels`.

    Source: method section 1 for the multipliers; the contrast of section 7.
    """
    keys = sorted(set(target.keys) & set(reference.keys))
    if len(keys) < 2 * MIN_CONFIRMATION:
        raise DataError(
            f"sigma: tune needs {2 * MIN_CONFIRMATION} samples to search and to judge on; there are {len(keys)}.",
            "Use sigma: auto, or add samples.",
        )
    order = np.random.default_rng([config.seed, len(keys)]).permutation(len(keys))[:MAX_SAMPLES]
    half = len(order) // 2
    searched, judged = (sorted(keys[row] for row in part) for part in (order[:half], order[half:]))
    names = modalities_of(config)
    parts = [_in_memory(table.only(names).select(searched + judged)) for table in (target, reference)]
    seen = [part.select(searched) for part in parts]
    search = at_size(trial_of(config), len(keys), half)
    tuning: dict[float, float] = {}
    for multiplier in MULTIPLIERS:
        kernels = choose_kernels(seen[0], seen[1], config, multiplier=multiplier)
        solution = Problem.of(seen[0], seen[1], search, kernels=kernels).solve(search)
        judgements = confirm(solution, parts[0], parts[1], judged, SignificanceConfig())
        tuning[multiplier] = sum(held.difference.value for held in judgements)
    highest = max(tuning.values())
    best = min(
        (multiplier for multiplier, value in tuning.items() if value >= highest - _CONTRAST_TOLERANCE),
        key=lambda multiplier: abs(multiplier - AUTO_MULTIPLIER),
    )
    chosen = choose_kernels(target, reference, config, multiplier=best)
    rule = (
        f"{chosen.rule}; {best:g} of {', '.join(f'{m:g}' for m in MULTIPLIERS)} has the largest held-out contrast, "
        f"{highest:.2g}, of {half} + {len(judged)} of the samples searched"
    )
    return replace(chosen, rule=rule, tuning=tuple(tuning.items()))


def tuned_kernels(target: TableLike, reference: TableLike, config: DiscrepancyConfig) -> KernelPair | None:
    """Return the kernels of :func:`tune_kernels` where the configuration asks for ``sigma: tune``, else None."""
    if config.sigma != "tune":
        return None
    ours, theirs, _ = Problem.joined(target, reference, config)
    return tune_kernels(ours, theirs, config)


def trial_of(config: DiscrepancyConfig) -> DiscrepancyConfig:
    """Return how a multiplier is tried: all of the configuration that the choice depends on, and nothing else."""
    return config.model_copy(
        update={
            "features": "exact",
            "n_features": None,
            "n_directions": min(LEADING, config.n_directions),
            "tolerance": max(config.tolerance, _SEARCH_TOLERANCE),
        }
    )


def _in_memory(table: TableLike) -> EmbeddingTable:
    part = table.take(np.arange(table.n))
    return EmbeddingTable(part.keys, part.image, part.text)
