"""The memory that a step takes, as the kernel, a thread or the process's own books tell it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from koda.audit import costs

MANY = 200 * 2**20


def peak_of(size: int) -> int:
    with costs.measured() as peaks:
        taken = np.ones(size, np.uint8)
        assert taken[-1] == 1
    assert peaks.memory is not None
    return peaks.memory


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel keeps no peak")
def test_the_peak_is_that_of_the_step_and_of_no_earlier_one() -> None:
    small, large = peak_of(1), peak_of(MANY)
    assert large > small + MANY * 0.8
    assert peak_of(1) < large - MANY * 0.8


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="there is no /proc")
def test_where_the_kernel_may_not_be_told_a_thread_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clear_refs").mkdir()  # which cannot be written
    (tmp_path / "statm").symlink_to("/proc/self/statm")
    monkeypatch.setattr(costs, "_PROC", tmp_path)
    with costs.measured() as peaks:
        taken = np.ones(MANY, np.uint8)
        before = peaks.memory
    assert before is None and peaks.memory is not None and peaks.memory > taken.nbytes


def test_elsewhere_the_peak_of_the_process_stands_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "_PROC", tmp_path / "nothing")
    assert peak_of(1) > 2**20


def test_measuring_brings_in_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    with costs.measured() as peaks:
        pass
    assert peaks.device_memory is None and "torch" not in sys.modules
