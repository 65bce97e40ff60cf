"""The benchmark of level and power, small: koda confirms what is there, each trap what is not."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from benchmarks import significance as benchmark
from benchmarks.significance_table import interval


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _rate(runs, figure):
    return float(np.mean([run[figure] for run in runs if figure in run]))


@pytest.fixture(scope="module")
def runs():
    return {
        "rotation": list(benchmark.level("rotation", 300, 12)),
        "noise": list(benchmark.level("noise", 300, 12, fresh=1000)),
    }


def test_koda_confirms_nothing_that_is_not_there(runs):
    for name in ("rotation", "noise"):
        assert _rate(runs[name], "koda") == 0
        assert all(run["directions"] == 6 for run in runs[name])
    assert max(run["largest_difference"] for run in runs["rotation"]) < 1e-9


def test_the_traps_confirm_what_is_not_there(runs):
    assert _rate(runs["rotation"], "same_features") > 0.9
    assert _rate(runs["noise"], "zero_materiality") > 0.5
    assert np.median([run["optimism"] for run in runs["noise"]]) > 1.3
    assert _rate(runs["noise"], "in_sample_boundary") > 0.7 > 0.3 > _rate(runs["noise"], "boundary")


def test_a_planted_group_is_confirmed():
    found = list(benchmark.power(1500, 1))
    assert found[0]["planted"]


def test_intervals_of_rates():
    assert interval(0, 200) == pytest.approx((0, 0.0182751), abs=1e-6)  # 1 - 0.025^(1/200)
    assert interval(20, 20)[1] == 1
    low, high = interval(5, 100)
    assert (low, high) == pytest.approx((0.016432, 0.112835), abs=1e-5)


def test_results_are_written_as_they_stand(tmp_path, runs):
    results = {
        **dict.fromkeys(("date", "device", "torch", "numpy", "python", "koda"), "x"),
        "threads": 1,
        "alpha": benchmark.ALPHA,
        "materiality": benchmark.JUDGED.materiality,
        "n_level": 300,
        "n_power": 1500,
        "n_fresh": 1000,
        "noise": benchmark.NOISE,
        "seconds": 60.0,
        "group": 0.01,
        "runs": runs,
    }
    benchmark.write(results, tmp_path)
    assert json.loads((tmp_path / "significance.json").read_text())["runs"]["noise"][0]["directions"] == 6
    text = (tmp_path / "significance.md").read_text()
    assert "| koda, equal kernels (rotation) | 300 | 12 | 0.0%" in text
    assert "planted group of" not in text
