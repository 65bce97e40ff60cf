"""Holm's rule against published values, and against the step-down rule itself."""

from __future__ import annotations

import numpy as np
import pytest

from koda.statistics import holm


def test_holm_against_published_values():
    # Wright (1992), Adjusted p-values for simultaneous inference: four hypotheses
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([None, None]) == [None, None]
    assert holm([None, 0.02, None, 0.5]) == [None, 0.04, None, 0.5]
    assert holm([0.02, 0.02, 0.02]) == pytest.approx([0.06] * 3)
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 1"):
            holm([0.5, wrong])


@pytest.mark.parametrize("seed", range(3))
def test_holm_rejects_as_the_step_down_rule_does(seed):
    p = np.random.default_rng(seed).uniform(0, 0.08, size=12)
    adjusted = np.array(holm(list(p)))
    for alpha in (0.01, 0.05, 0.3):
        rejected = set()
        for step, i in enumerate(np.argsort(p)):
            if p[i] > alpha / (len(p) - step):
                break
            rejected.add(int(i))
        assert set(np.flatnonzero(adjusted <= alpha)) == rejected
