"""The sweep over quantiles: what single searches give, from one covariance and warm starts."""

from __future__ import annotations

from itertools import pairwise

import pytest

import koda
from koda import DiscrepancyConfig, quantile_sweep
from koda.errors import ConfigError
from tests.discrepancy.problems import tables

QUANTILES = (0.2, 0.5, 0.9)


@pytest.mark.parametrize("settings", [{}, {"features": "orf", "n_features": 40}])
@pytest.mark.parametrize("n", [100, 320])
def test_it_gives_what_single_searches_give(n, settings):
    target, reference = tables(n)
    points = quantile_sweep(
        target, reference, DiscrepancyConfig(n_directions=3, device="cpu", **settings), quantiles=QUANTILES
    )
    assert [point.quantile for point in points] == list(QUANTILES)
    for point in points:
        config = DiscrepancyConfig(n_directions=3, device="cpu", eps_quantile=point.quantile, **settings)
        single = koda.find_discrepancies(target, reference, config)
        assert point.solution.eps == pytest.approx(single.eps)
        assert point.solution.config == config
        for d, e in zip(point.solution.directions, single.directions, strict=True):
            assert d.target_energy == pytest.approx(e.target_energy, rel=1e-6)
            assert d.gap <= 1e-6


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_without_proofs_it_gives_the_same_curve(seed):
    target, reference = tables(320, seed)
    config = DiscrepancyConfig(n_directions=5, device="cpu", features="exact", tolerance=0.01, seed=seed)
    proved = quantile_sweep(target, reference, config)
    for one, other in zip(proved, quantile_sweep(target, reference, config, prove=False), strict=True):
        assert other.solution.eps == one.solution.eps
        for d, e in zip(one.solution.directions, other.solution.directions, strict=True):
            assert e.quotient == pytest.approx(d.quotient, rel=1e-4)
            assert d.gap <= 0.01
            assert e.gap == float("inf")  # nothing is claimed that was not proved
            assert "no proof was asked for" in e.status


def test_a_wider_limit_never_lowers_the_first_energy_nor_raises_its_quotient():
    target, reference = tables(150)
    points = quantile_sweep(target, reference, DiscrepancyConfig(n_directions=3, device="cpu"))
    assert len(points) == 10
    firsts = [point.solution.directions[0] for point in points if point.solution.directions]
    for narrow, wide in pairwise(firsts):
        assert wide.target_energy >= narrow.target_energy * (1 - 1e-9)
        assert wide.quotient <= narrow.quotient * (1 + 1e-9)
    assert points[0].mean_quotient(1) == firsts[0].quotient
    assert points[0].mean_quotient(3) == pytest.approx(sum(d.quotient for d in points[0].solution.directions) / 3)
    assert points[0].mean_quotient(5) is None


@pytest.mark.parametrize("quantiles", [(), (0.0,), (0.5, 1.2)])
def test_quantiles_that_are_none_are_refused(quantiles):
    with pytest.raises(ConfigError, match="quantiles"):
        quantile_sweep(*tables(20), quantiles=quantiles)


def test_a_model_against_itself_has_nothing_at_any_limit():
    _, reference = tables(60)
    for point in quantile_sweep(reference, reference, quantiles=(0.3, 1.0)):
        assert point.solution.directions == ()
        assert point.mean_quotient(1) is None
