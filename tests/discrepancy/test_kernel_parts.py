"""Products with a kernel by workers: those of one process bit for bit, and nothing handed out that is small or kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from koda import EmbeddingTable
from koda.discrepancy import blocks
from koda.discrepancy.blocks import SampledKernel
from koda.errors import MachineError
from koda.kernels import Kernel
from koda.parallel import using
from tests.parallel.here import Here

N = 90
ROWS, COLUMNS = np.random.default_rng(3).permutation(N)[:39], np.arange(5, 85)  # 3 times 3 blocks
WEIGHTS = np.random.default_rng(4).normal(size=(len(COLUMNS), 3))
GAUSSIAN = Kernel({"image": 1.3, "text": 0.9})
COSINE = Kernel({"image": None, "text": None}, kind="cosine")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_BLOCK_ROWS", 16)
    monkeypatch.setattr(blocks, "_BLOCK_COLUMNS", 32)


def sampled(kernel: Kernel = GAUSSIAN, values: Any = np.float32) -> SampledKernel:
    rng = np.random.default_rng(0)
    image, text = (rng.normal(scale=0.3, size=(N, width)).astype(values) for width in (24, 17))
    return SampledKernel.of(EmbeddingTable([f"{row:02}" for row in range(N)], image, text), kernel, 0.3)


@pytest.mark.parametrize(
    ("kernel", "power"), [(GAUSSIAN, 1.0), (GAUSSIAN, 0.37), (COSINE, 1.0)], ids=["gaussian", "rescaled", "cosine"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("values", [np.float32, np.float64])
def test_the_products_are_those_of_one_process_to_the_bit(
    tmp_path: Path, kernel: Kernel, power: float, dtype: torch.dtype, values: Any
):
    one = replace(sampled(kernel, values), dtype=dtype, power=power)
    alone, projected = one.times(ROWS, COLUMNS, WEIGHTS), one.projections(COLUMNS, WEIGHTS)
    assert np.ptp(alone) > 0.1
    with using(here := Here(tmp_path)):
        np.testing.assert_array_equal(one.times(ROWS, COLUMNS, WEIGHTS), alone)
        assert here.parts == ["product_of_block"] * 9
        np.testing.assert_array_equal(one.projections(COLUMNS, WEIGHTS), projected)
        assert here.parts == ["product_of_block"] * (9 + 5 * 3)


def test_columns_are_written_once_for_several_products_and_no_product_is_left(tmp_path: Path):
    one = sampled()
    with using(here := Here(tmp_path)):
        one.times(ROWS, COLUMNS, WEIGHTS)
        left = set(Path(here.exchange.url).iterdir())
        assert len(left) == 3 + 3 + 3  # rows, columns, weights
        one.times(ROWS[:20], COLUMNS, WEIGHTS)
        assert len(here.parts) == 9 + 6
        assert len(set(Path(here.exchange.url).iterdir()) - left) == 1  # four rows of the second block


def test_equal_products_of_two_blocks_are_each_read(tmp_path: Path):
    table = EmbeddingTable([f"{row:02}" for row in range(N)], image=np.ones((N, 4), dtype=np.float32))
    alike = SampledKernel.of(table, Kernel({"image": 1.0}), 0.3)
    ones = np.ones((64, 1))
    alone = alike.times(np.arange(32), np.arange(64), ones)
    with using(here := Here(tmp_path)):
        np.testing.assert_array_equal(alike.times(np.arange(32), np.arange(64), ones), alone)
    assert len(here.parts) == 4


def test_a_small_product_and_one_with_a_kept_matrix_stay_in_this_process(tmp_path: Path):
    one = sampled()
    kept = SampledKernel.kept(one.table, one.kernel, one.tie)
    with using(here := Here(tmp_path)):
        one.times(ROWS[:16], COLUMNS[:64], WEIGHTS[:64])
        kept.times(ROWS, COLUMNS, WEIGHTS)
        assert here.parts == []
        one.times(ROWS[:17], COLUMNS[:64], WEIGHTS[:64])
        assert len(here.parts) == 4


def test_a_worker_that_does_not_see_the_exchange_says_so(tmp_path: Path):
    class Blind(Here):
        def submit(self, function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
            shutil.rmtree(self.exchange.url, ignore_errors=True)
            return super().submit(function, *arguments)

    values = sampled().table
    moved = EmbeddingTable(values.keys, np.asarray(values.image) + 1, values.text)  # what no earlier part has read
    with using(Blind(tmp_path)), pytest.raises(MachineError, match=r"does not see .* where the run and its workers"):
        SampledKernel.of(moved, GAUSSIAN, 0.3).times(ROWS, COLUMNS[:64], WEIGHTS[:64])
