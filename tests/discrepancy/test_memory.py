"""Exact kernels or features: what `features: auto` takes, within half of the memory that is free, and why."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import koda.discrepancy.forms
from koda.config import DiscrepancyConfig
from koda.devices import _available_of, _left_in_groups, free_memory
from koda.discrepancy import find_discrepancies
from koda.errors import ConfigError
from tests.discrepancy.problems import tables

CPU = torch.device("cpu")


def reason(n: int, free: int | None, monkeypatch: pytest.MonkeyPatch, features: str = "auto") -> tuple[bool, str]:
    monkeypatch.setattr(koda.discrepancy.forms, "free_memory", lambda device: free)
    return koda.discrepancy.forms.use_exact(features, n, CPU)


def test_auto_takes_exact_kernels_only_where_they_are_quicker_and_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = 6 * 8 * 4000**2
    assert reason(4000, 2 * needed, monkeypatch)[0]
    assert reason(4000, None, monkeypatch)[0]
    exact, words = reason(4000, 2 * needed - 1, monkeypatch)
    assert not exact and "exact kernels of 4000 samples need about 0.72 GiB, more than half" in words
    exact, words = reason(5000, 2**60, monkeypatch)
    assert not exact and "of more than 4096 samples features are the quicker" in words
    assert koda.discrepancy.forms.exact_samples(torch.device("cuda")) == 16_384


def test_exact_kernels_that_do_not_fit_are_refused_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="16384 samples need about 12 GiB, and 4 GiB are free"):
        reason(16_384, 4 * 2**30, monkeypatch, "exact")
    assert reason(100, 2**30, monkeypatch, "exact") == (True, "as asked for")
    assert reason(100, 2**30, monkeypatch, "orf") == (False, "as asked for")


def test_the_choice_and_its_reason_are_in_the_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = tables(60)
    config = DiscrepancyConfig(n_directions=1, device="cpu", n_features=50)
    first = find_discrepancies(*pair, config)
    assert first.stats["features"] == "exact" and "exact kernels are the quicker" in first.stats["features_chosen"]
    monkeypatch.setattr(koda.discrepancy.forms, "free_memory", lambda device: 1000)
    tight = find_discrepancies(*pair, config)
    assert tight.stats["features"] == "orf" and "half of the memory" in tight.stats["features_chosen"]


def test_free_memory_is_that_of_the_machine_or_of_the_narrowest_group(tmp_path: Path) -> None:
    assert free_memory(CPU) > 0
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 100 kB\nMemAvailable:   64 kB\n")
    assert _available_of(meminfo) == [64 * 1024]
    assert _available_of(tmp_path / "none") == []

    def group(place: str, limit: str, usage: int, cache: int, version: int = 2) -> None:
        names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        folder = tmp_path / "cgroup" / place
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in zip(names, (limit, str(usage)), strict=True):
            (folder / name).write_text(text + "\n")
        (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\n")

    member = tmp_path / "member"
    member.write_text("0::/user/job\n")
    assert _left_in_groups(member, tmp_path / "cgroup") == []
    group("user", "1000", 900, 300)
    group("user/job", "max", 900, 300)
    assert _left_in_groups(member, tmp_path / "cgroup") == [400]
    group("", "500", 400, 0)  # in a container the group is the root
    assert min(_left_in_groups(member, tmp_path / "cgroup")) == 100
    member.write_text("4:memory:/docker/x\n3:cpu:/\n")
    group("memory", str(2**63 - 4096), 1, 0, version=1)
    assert _left_in_groups(member, tmp_path / "cgroup") == []
    group("memory/docker/x", "2000", 500, 100, version=1)
    assert _left_in_groups(member, tmp_path / "cgroup") == [1600]
