"""The benchmark of planted groups, small: what the target alone ties together is found, decoys are not."""

from __future__ import annotations

import pytest
import torch

import koda
from benchmarks.planted import METHODS, SETTINGS, Score, plant, score, summary


@pytest.fixture(scope="module")
def scores() -> dict[str, Score]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    setting = SETTINGS["sharper, one bandwidth"]
    planted = plant(600, setting, seed=0)
    found = {
        method: score(
            planted,
            koda.DiscrepancyConfig(n_directions=6, tolerance=1e-2, device="cpu", sigma=setting.sigma, **options),
        )
        for method, options in METHODS.items()
    }
    torch.set_num_threads(threads)
    return found


def test_the_groups_are_disjoint_and_of_their_sizes():
    planted = plant(600, SETTINGS["alike"], seed=1)
    assert [len(rows) for rows in planted.groups] == [24, 18, 12, 9, 6]
    assert len({row for rows in planted.groups for row in rows.tolist()}) == 69


@pytest.mark.parametrize("method", ["default", "quantile"])
def test_koda_finds_the_planted_groups(scores, method):
    assert scores[method].found >= 4
    assert scores[method].purity >= 0.85


def test_its_slices_are_purer_than_those_of_spec(scores):
    assert scores["default"].purity > scores["spec"].purity + 0.05
    assert scores["default"].found_first > scores["spec"].found_first


def test_a_model_against_itself_scores_nothing():
    planted = plant(200, SETTINGS["alike"], seed=2)
    same = type(planted)(planted.reference, planted.reference, planted.groups)
    nothing = score(same, koda.DiscrepancyConfig(device="cpu"))
    assert (nothing.found, nothing.purity) == (0, 0.0)
    assert summary([nothing])["found_least"] == 0
