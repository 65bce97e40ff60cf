"""The limits that a configuration can ask for."""

from __future__ import annotations

import numpy as np
import pytest

from koda import DiscrepancyConfig
from koda.discrepancy.limits import (
    EnergyLimit,
    FixedWeight,
    QuantileLimit,
    ShareLimit,
    again_on,
    limit_from,
    with_limit,
)
from koda.errors import ConfigError

ASKED = [
    ({"max_reference_share": 0.01}, ShareLimit(0.01)),
    ({"eps_quantile": 0.5}, QuantileLimit(0.5)),
    ({"eps": 0.004}, EnergyLimit(0.004)),
]


@pytest.mark.parametrize(("fields", "limit"), ASKED)
def test_each_way_to_set_a_limit_is_a_limit_of_its_own(fields, limit):
    asked = DiscrepancyConfig(**fields)
    assert limit_from(asked) == limit
    for other, _ in ASKED:  # one limit takes the place of another
        assert with_limit(DiscrepancyConfig(**other), limit).model_dump() == asked.model_dump()


def test_spec_has_a_weight_instead_of_a_limit():
    assert limit_from(DiscrepancyConfig(method="spec", eta=2.0)) == FixedWeight(2.0)


@pytest.mark.parametrize("tie", [0.04, 0.3, 1.0])
def test_a_share_is_the_energy_of_a_group_that_is_tied_as_is_typical(tie):
    m, n = 5, 41
    kernel = np.where(np.eye(m, dtype=bool), 1.0, tie)  # of m of the n samples
    x = np.full(m, m**-0.5)
    assert ShareLimit((m - 1) / (n - 1)).energy(n, tie).eps == pytest.approx(x @ kernel @ x / n)


@pytest.mark.parametrize("eps", [0.0, -0.1, float("inf"), float("nan")])
def test_no_energy_limit_is_0_or_not_a_number(eps):
    with pytest.raises(ConfigError, match="could meet a limit of 0"):
        EnergyLimit(eps)


def test_a_question_asked_again_of_fewer_samples_keeps_its_coherent_share():
    n, m, eps = 1000, 250, 0.004
    for fields in ({"eps": eps}, {"eps_quantile": 0.5}):  # which was eps with n samples
        again = again_on(DiscrepancyConfig(**fields, features="orf", n_features=50), eps, n, m, 3)
        assert again.eps_quantile is None
        assert (again.eps * m - 1) / (m - 1) == pytest.approx((eps * n - 1) / (n - 1))
        assert again_on(DiscrepancyConfig(**fields), eps, n, n).eps == eps
        assert (again.features, again.n_features, again.n_directions, again.tolerance) == ("exact", None, 3, 1e-3)
    for fields in ({"max_reference_share": 0.01}, {"method": "spec", "eta": 2.0}):  # they mean the same by themselves
        config = DiscrepancyConfig(**fields, tolerance=0.1)
        again = again_on(config, eps, n, m)
        assert limit_from(again) == limit_from(config)
        assert (again.n_directions, again.tolerance) == (config.n_directions, 0.1)
