"""The covariance in parts: any cut and any number of parts give the bytes of one process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from koda.kernels import covariance_parts
from koda.kernels.covariance import StackedFeatures, accumulate
from koda.kernels.covariance_parts import partial_sums, summed, summed_by
from koda.parallel import using
from tests.kernels.test_covariance import maps_of, pair
from tests.parallel.here import Here


def features_of(n: int, kind: str = "gaussian") -> StackedFeatures:
    target, reference = pair(n)
    return StackedFeatures(target, reference, maps_of(target, reference, kind), torch.device("cpu"))


@pytest.mark.parametrize("rows", [1, 7, 64, 203, 1000])
def test_any_cut_gives_the_same_bytes(tmp_path: Path, rows: int):
    here, features = Here(tmp_path), features_of(203)
    assert summed_by(here, features, rows).digest() == accumulate(features).digest()
    assert here.parts == ["partial_sums"] * -(-203 // rows)


def test_a_part_leaves_nothing_and_waits_for_few(tmp_path: Path):
    class Counting(Here):
        most = 0

        def submit(self, function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
            self.most = max(self.most, len(list(Path(self.exchange.url).iterdir())))
            return super().submit(function, *arguments)

    here, features = Counting(tmp_path), features_of(100)
    assert summed_by(here, features, 5).digest() == accumulate(features).digest()
    assert len(here.parts) == 20
    assert here.most <= 3 * 3 * here.size  # of 20: the rows of two models and the sums of each part that is handed out
    assert not any(Path(here.exchange.url).iterdir())


def test_workers_sum_what_is_many_rows_of_integers_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(covariance_parts, "PART_ROWS", 20)
    here = Here(tmp_path)
    with using(here):
        for features in (features_of(20), features_of(50, "polynomial")):
            assert summed(features).digest() == accumulate(features).digest()
        assert here.parts == []
        many = features_of(50)
        assert summed(many).digest() == accumulate(many).digest()
        assert here.parts == [partial_sums.__name__] * 3
