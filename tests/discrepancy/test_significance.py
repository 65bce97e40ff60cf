"""Held-out shares, their errors, and the level and power of the test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm, skew

import koda.discrepancy.blocks
from koda.config import DiscrepancyConfig, SignificanceConfig
from koda.discrepancy import Direction, find_discrepancies
from koda.discrepancy.extension import extend
from koda.discrepancy.significance import _reaches, confirm
from koda.embeddings import EmbeddingTable
from koda.errors import DataError
from koda.statistics import holm
from tests.dense import gaussian, tie_of

CONFIG = SignificanceConfig()
IMAGE = DiscrepancyConfig(modality="image", n_directions=3, device="cpu")


def _world(rng, n, prefix, centre, group=0.08):
    """Embeddings of n samples: the target moves a group towards a centre, the reference does not."""
    base = rng.normal(size=(n, len(centre)))
    inside = rng.random(n) < group
    return [f"{prefix}{i}" for i in range(n)], np.where(inside[:, None], centre + 0.4 * base, base), base


def _tables(*worlds):
    keys = [key for world in worlds for key in world[0]]
    return tuple(EmbeddingTable(keys, image=np.vstack([world[i] for world in worlds])) for i in (1, 2))


def _search(world, config=IMAGE):
    return find_discrepancies(*_tables(world), config)


@pytest.fixture(scope="module")
def planted():
    rng = np.random.default_rng(0)
    centre = 1.2 * rng.normal(size=12)
    seen, new = _world(rng, 200, "s", centre), _world(rng, 260, "n", centre)
    return _search(seen), *_tables(seen, new), new[0], centre, seen


def _tied(n_seen=60, n_new=100, group_seen=6, group_new=9):
    """The target ties the group perfectly and nothing else; the reference ties two other samples, seen ones.

    The nearest 1 % of 59 others is one sample, so the typical ties are the shares of samples that have a twin.
    """
    n = n_seen + n_new
    far = 100.0 * np.eye(n) + 1.0
    inside = np.zeros(n, dtype=bool)
    inside[:group_seen] = inside[n_seen : n_seen + group_new] = True
    keys = [f"k{i:03d}" for i in range(n)]
    target = EmbeddingTable(keys, image=np.where(inside[:, None], 1.0, far))
    twins = far.copy()
    twins[n_seen - 2] = twins[n_seen - 1]
    reference = EmbeddingTable(keys, image=twins)
    config = DiscrepancyConfig(modality="image", sigma=1.0, n_directions=1, device="cpu")
    seen = keys[:n_seen]
    return find_discrepancies(target.select(seen), reference.select(seen), config), target, reference, keys[n_seen:]


@pytest.mark.parametrize("group_seen", [6, 30])
def test_share_of_a_perfectly_tied_group(group_seen):
    """The raw share over the tie: of 60 samples 6, or 30, have a twin."""
    m, g = 100, 9
    solution, *world = _tied(n_new=m, group_new=g, group_seen=group_seen)
    ties = {"target": group_seen / 60, "reference": 2 / 60}
    assert solution.kernels.ties == pytest.approx(ties)
    assert solution.directions[0].target_share == pytest.approx((group_seen - 1) / 59 / ties["target"])
    (one,) = confirm(solution, *world, CONFIG)
    share = (g - 1) / (m - 1) / ties["target"]
    assert one.target_share.value == pytest.approx(share)
    assert one.reference_share.value == pytest.approx(0, abs=1e-9)
    assert one.difference.value == pytest.approx(share)
    # the count of the group is what varies: se = share sqrt((1 - g/m) / g), here with m - 1 in the variance
    assert one.difference.se == pytest.approx(share * np.sqrt((1 - g / m) / g * m / (m - 1)), rel=1e-6)
    assert one.n == m
    assert one.p_value < 0.01


def _reaches_by_search(a):
    """Hall's transformation inverted by root finding; an end is only ever moved out, to twice as far at most."""
    z = 1.959964

    def transformed(t):
        return t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6

    lower, upper = (brentq(lambda t, x=x: transformed(t) - x, -60, 60) for x in (z, -z))
    return min(max(z, lower), 2 * z), min(max(z, -upper), 2 * z)


@pytest.mark.parametrize("skewed", [-1, 1])
def test_the_interval_reaches_farther_to_the_side_of_the_skewness(skewed):
    """Few samples carry a direction: the interval of a share that they hold up is longer above than below."""
    rng = np.random.default_rng(0)
    influence = skewed * rng.exponential(size=400) ** 2
    below, above = _reaches(influence - influence.mean())
    assert (below, above) == pytest.approx(_reaches_by_search(skew(influence) / 20), rel=1e-6)
    longer, shorter = (above, below) if skewed > 0 else (below, above)
    assert shorter == pytest.approx(1.959964)
    assert 2 < longer < 3.92
    assert _reaches(np.zeros(9)) == pytest.approx((1.959964, 1.959964))
    assert max(_reaches(np.eye(40)[0])) == pytest.approx(2 * 1.959964)  # one sample carries it all


def test_every_figure_equals_the_formula_written_out(planted):
    solution, target, reference, new, *_ = planted
    m = len(new)
    f = extend(solution, target, reference, new)
    kernels = []
    for table, kernel in ((target, solution.kernels.target), (reference, solution.kernels.reference)):
        sigma = kernel.sigmas["image"]
        tie = tie_of(gaussian(table.select(solution.keys).image, sigma))  # of the samples searched
        kernels.append(gaussian(table.select(new).image, sigma) / tie)
    kernels.append(kernels[0] - kernels[1])
    for k, one in enumerate(confirm(solution, target, reference, new, CONFIG)):
        assert one.direction == k + 1
        x = f[k] / np.linalg.norm(f[k])
        for matrix, figure in zip(kernels, (one.target_share, one.reference_share, one.difference), strict=True):
            value = sum(x[i] * x[j] * matrix[i, j] for i in range(m) for j in range(m) if i != j) / (m - 1)
            assert figure.value == pytest.approx(value, rel=1e-4, abs=1e-7)  # ties are measured in float32
            h = np.array([f[k, i] * (f[k] @ matrix[i] - f[k, i] * matrix[i, i]) / (m - 1) for i in range(m)])
            v = np.mean(f[k] ** 2)
            influence = 2 * h / v - value * f[k] ** 2 / v - value
            se = influence.std(ddof=1) / m**0.5
            assert figure.se == pytest.approx(se, rel=1e-4)
            reaches = _reaches_by_search(skew(influence) / m**0.5)
            ends = figure.value - reaches[0] * figure.se, figure.value + reaches[1] * figure.se
            assert (figure.low, figure.high) == pytest.approx(ends, rel=1e-3)
        z_score = (one.difference.value - CONFIG.materiality) / one.difference.se
        assert one.p_value == pytest.approx(norm.sf(z_score), rel=1e-9)
        assert one.p_above(0.0) <= one.p_value <= one.p_above(0.01)


def test_the_planted_group_is_confirmed(planted):
    solution, target, reference, new, *_ = planted
    first = confirm(solution, target, reference, new, CONFIG)[0]
    assert first.p_value < 1e-3
    assert first.difference.low > CONFIG.materiality
    assert first.target_share.value > 5 * abs(first.reference_share.value)


def test_directions_found_with_random_features_are_tested_with_exact_kernels(planted):
    _, target, reference, new, _, seen = planted
    config = IMAGE.model_copy(update={"features": "orf", "n_features": 400, "n_directions": 1})
    (one,) = confirm(_search(seen, config), target, reference, new, CONFIG)
    exact = confirm(planted[0], target, reference, new, CONFIG)[0]
    assert one.p_value < 1e-3
    assert one.difference.value == pytest.approx(exact.difference.value, rel=0.3)


def test_the_standard_error_is_that_of_fresh_samples(planted):
    """60 fresh confirmation sets: the spread of d is what each of them says, and they scatter about one value."""
    solution, *_, centre, seen = planted
    rng = np.random.default_rng(7)
    found = []
    for number in range(60):
        new = _world(rng, 150, f"n{number}_", centre)
        found.append(confirm(solution, *_tables(seen, new), new[0], CONFIG)[0].difference)
    values, errors = np.array([d.value for d in found]), np.array([d.se for d in found])
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.25)  # 60 sets: the spread is known to 9 %
    big = _world(rng, 2500, "big", centre)
    truth = confirm(solution, *_tables(seen, big), big[0], CONFIG)[0].difference
    assert abs(values.mean() - truth.value) < 3 * np.hypot(truth.se, values.std() / 60**0.5)


def test_identical_kernels_differ_by_nothing(planted):
    solution, target, _, new, *_ = planted
    pair = solution.kernels
    twice = replace(pair, reference=pair.target, ties=dict.fromkeys(pair.ties, pair.ties["target"]))
    same = replace(solution, kernels=twice)
    for one in confirm(same, target, target, new, CONFIG):
        assert one.difference.value == 0.0
        assert one.difference.se == 0.0
        assert one.p_value == 1.0
        assert one.p_above(0.0) == pytest.approx(0.5)  # no evidence against "at most 0" where it is exactly 0


@pytest.mark.parametrize("kind", ["rotation", "noise"])
def test_models_that_do_not_differ_materially_confirm_nothing(kind):
    """Five pairs, three directions each: after Holm none is confirmed at materiality 0.003."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        base = rng.normal(size=(400, 16)) + 3 * rng.normal(size=(6, 16))[rng.integers(0, 6, size=400)]
        if kind == "rotation":
            other = base @ np.linalg.qr(rng.normal(size=(16, 16)))[0]
        else:
            other = base + 0.05 * base.std() * rng.normal(size=base.shape)
        keys = [f"k{i}" for i in range(400)]
        target, reference = EmbeddingTable(keys, image=other), EmbeddingTable(keys, image=base)
        solution = find_discrepancies(target.select(keys[:200]), reference.select(keys[:200]), IMAGE)
        results = confirm(solution, target, reference, keys[200:], CONFIG)
        assert all(p >= CONFIG.alpha for p in holm([one.p_value for one in results]))


def test_power_for_a_planted_group():
    """A group of 6 % is confirmed in at least 9 of 10 worlds of 200 + 200 samples."""
    confirmed = 0
    for seed in range(10):
        rng = np.random.default_rng(100 + seed)
        centre = 1.2 * rng.normal(size=12)
        seen, new = _world(rng, 200, "s", centre, 0.06), _world(rng, 200, "n", centre, 0.06)
        solution = _search(seen, IMAGE.model_copy(update={"n_directions": 2}))
        p = holm([one.p_value for one in confirm(solution, *_tables(seen, new), new[0], CONFIG)])
        confirmed += p[0] < CONFIG.alpha
    assert confirmed >= 9


def test_order_and_blocks_do_not_matter(planted, monkeypatch):
    solution, target, reference, new, *_ = planted
    want = confirm(solution, target, reference, new, CONFIG)
    monkeypatch.setattr(koda.discrepancy.blocks, "_BLOCK_ROWS", 13)
    monkeypatch.setattr(koda.discrepancy.blocks, "_BLOCK_COLUMNS", 50)
    order = np.random.default_rng(0).permutation(target.n)
    got = confirm(solution, target.take(order), reference, new[::-1], CONFIG)
    for one, other in zip(want, got, strict=True):
        assert other.difference.value == pytest.approx(one.difference.value, rel=1e-9)
        assert other.difference.se == pytest.approx(one.difference.se, rel=1e-9)


def test_a_subsample_is_drawn_with_the_seed(planted):
    solution, target, reference, new, *_ = planted
    config = SignificanceConfig(max_samples=80)
    first = confirm(solution, target, reference, new, config)[0]
    assert first.n == 80
    assert confirm(solution, target, reference, new[::-1], config)[0] == first
    assert first.difference.se > confirm(solution, target, reference, new, CONFIG)[0].difference.se


@pytest.mark.parametrize("m", [0, 1, 2, 29])
def test_too_few_samples_give_no_test(planted, m):
    solution, target, reference, new, *_ = planted
    for one in confirm(solution, target, reference, new[:m], CONFIG):
        assert one.p_value is None
        assert one.p_above(0.01) is None
        assert one.difference.se is one.difference.low is one.difference.high is None
        assert np.isfinite(one.difference.value)
        assert one.n == m
        assert f"{m} confirmation samples" in one.reason


def test_thirty_samples_are_enough(planted):
    solution, target, reference, new, *_ = planted
    assert all(0 <= one.p_value <= 1 for one in confirm(solution, target, reference, new[:30], CONFIG))


def test_a_direction_that_nothing_new_resembles_is_not_confirmed():
    solution, target, reference, new = _tied()
    x = np.zeros(60)
    x[30] = 1.0  # a sample that both kernels leave alone
    alone = replace(solution, directions=(Direction(x, 1 / 60, 1 / 60, 1.0, 0.5, 0.0, "optimal", 0.1, 0.1),))
    (one,) = confirm(alone, target, reference, new, CONFIG)
    assert one.p_value == one.p_above(0.0) == 1.0
    assert one.difference.value == 0.0
    assert one.difference.se is None
    assert "nothing new resembles it" in one.reason


def test_no_directions_no_results(planted):
    solution, target, reference, new, *_ = planted
    assert confirm(replace(solution, directions=()), target, reference, new, CONFIG) == ()


def test_samples_of_the_search_are_refused(planted):
    solution, target, reference, new, *_ = planted
    with pytest.raises(DataError, match="used in the search"):
        confirm(solution, target, reference, [*new, solution.keys[0]], CONFIG)
    with pytest.raises(DataError, match="repeated"):
        confirm(solution, target, reference, [*new, new[0]], CONFIG)
    with pytest.raises(DataError, match="'nobody'"):
        confirm(solution, target, reference, ["nobody", *new], CONFIG)


def test_damaged_confirmation_rows_are_refused(planted):
    solution, target, reference, new, *_ = planted
    image = target.image.copy()
    image[target.keys.index(new[5])] = np.nan
    with pytest.raises(DataError, match=repr(new[5])):
        confirm(solution, EmbeddingTable(target.keys, image=image), reference, new, CONFIG)
