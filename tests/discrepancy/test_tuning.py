"""The tuned bandwidth: the right scale, the same for the same seed, and on no sample but those given."""

from __future__ import annotations

import numpy as np
import pytest

from koda.config import DiscrepancyConfig, SignificanceConfig
from koda.discrepancy import find_discrepancies
from koda.discrepancy.limits import at_size
from koda.discrepancy.significance import confirm
from koda.discrepancy.tuning import LEADING, MULTIPLIERS, tune_kernels
from koda.embeddings import EmbeddingTable
from koda.errors import DataError
from koda.kernels import choose_kernels

TUNE = DiscrepancyConfig(modality="image", sigma="tune", n_directions=2, device="cpu")


def _world(scale, seed, n=240, d=16):
    """Clusters far apart that both know, of which the target alone has three tight groups each; or wide clusters.

    Fine: the groups are a seventh as wide as the clusters are apart, so the smallest multiplier of the median distance
    is right. Coarse: the target alone has two clusters, nearly as wide as they are apart, so a large one is.
    """
    rng = np.random.default_rng(seed)
    cluster, group = rng.integers(0, 4, n), rng.integers(0, 3, n)
    centres, places = rng.normal(size=(4, d)), rng.normal(size=(4, 3, d))
    noise, other = rng.normal(size=(2, n, d))
    if scale == "fine":
        reference = 6 * centres[cluster] + noise
        target = 6 * centres[cluster] + places[cluster, group] + 0.2 * other
    else:
        reference = noise
        target = 0.8 * centres[cluster % 2] + other
    keys = [f"{i:04}" for i in range(n)]
    return EmbeddingTable(keys, image=target), EmbeddingTable(keys, image=reference)


@pytest.mark.parametrize(("scale", "right"), [("fine", 0.25), ("coarse", 0.7)])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_multiplier_of_the_planted_scale_is_found(scale, right, seed):
    """Groups far smaller than the median distance need the smallest bandwidth, clusters as wide as it a large one."""
    target, reference = _world(scale, seed)
    pair = tune_kernels(target, reference, TUNE.model_copy(update={"seed": seed}))
    contrast = dict(pair.tuning)
    assert list(contrast) == list(MULTIPLIERS)
    assert max(contrast, key=contrast.get) == right
    expected = choose_kernels(target, reference, TUNE, multiplier=right)
    assert pair.reference == expected.reference
    assert pair.target == expected.target
    assert pair.reference.sigmas["image"] == pytest.approx(right * pair.median_distances["reference"]["image"])
    assert f"{right:g} of 0.25, 0.3" in pair.rule


def test_the_contrast_is_the_sum_of_held_out_differences():
    target, reference = _world("coarse", 0)
    pair = tune_kernels(target, reference, TUNE)
    order = np.random.default_rng([TUNE.seed, 240]).permutation(240)
    searched, judged = ([target.keys[row] for row in sorted(part)] for part in (order[:120], order[120:]))
    seen = [table.select(searched) for table in (target, reference)]
    for multiplier, contrast in pair.tuning:
        kernels = choose_kernels(*seen, TUNE, multiplier=multiplier)
        solution = find_discrepancies(*seen, TUNE.model_copy(update={"tolerance": 1e-3}), kernels=kernels)
        found = confirm(solution, target, reference, judged, SignificanceConfig())
        assert len(found) <= min(LEADING, TUNE.n_directions)
        assert contrast == pytest.approx(sum(one.difference.value for one in found), rel=1e-9, abs=1e-12)


def test_the_choice_depends_on_the_seed_alone():
    target, reference = _world("fine", 0)
    first = tune_kernels(target, reference, TUNE)
    order = np.random.default_rng(1).permutation(target.n)
    assert tune_kernels(target.take(order), reference, TUNE) == first
    assert tune_kernels(target, reference, TUNE.model_copy(update={"seed": 1})).tuning != first.tuning


def test_a_search_with_tuning_is_one_with_the_kernels_found():
    target, reference = _world("fine", 0)
    solution = find_discrepancies(target, reference, TUNE)
    pair = tune_kernels(target, reference, TUNE)
    assert solution.kernels == pair
    other = find_discrepancies(target, reference, TUNE, kernels=pair)
    assert [d.target_energy for d in solution.directions] == [d.target_energy for d in other.directions]


def test_the_same_model_twice_keeps_the_usual_multiplier():
    target, _ = _world("fine", 0)
    pair = tune_kernels(target, target, TUNE)
    assert [contrast for _, contrast in pair.tuning] == [0.0] * len(MULTIPLIERS)
    assert pair.reference == choose_kernels(target, target, TUNE).reference
    assert find_discrepancies(target, target, TUNE).directions == ()


def test_too_few_samples_are_refused_in_words():
    target, reference = _world("fine", 0, n=59)
    with pytest.raises(DataError, match=r"needs 60 samples .* there are 59"):
        find_discrepancies(target, reference, TUNE)


def test_an_absolute_limit_keeps_its_share_at_another_size():
    config = TUNE.model_copy(update={"eps": 0.004, "max_reference_share": None})
    eps = at_size(config, 1000, 250).eps
    assert eps is not None
    assert (250 * eps - 1) / 249 == pytest.approx((1000 * 0.004 - 1) / 999)
    assert at_size(config, 1000, 1000) is config
    assert at_size(TUNE, 1000, 250) is TUNE
