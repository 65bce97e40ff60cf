"""What another setting makes the samples be looked at again for, and what it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import koda.discrepancy.forms
import koda.discrepancy.problem
from koda.audit.covariances import load_covariance, save_covariance
from koda.audit.plan import AuditPlan, prepare
from koda.config import AuditConfig
from koda.discrepancy import Problem, Solution
from koda.embeddings import EmbeddingTable
from tests.tiny import write_tiny_model

SEARCH = {"features": "orf", "n_features": 8, "n_directions": 4, "device": "cpu", "modality": "image"}


@pytest.fixture
def planned(tmp_path: Path, pairs_folder: Callable[..., Path]) -> Callable[..., AuditPlan]:
    """Return a function that plans an audit with other settings, in the same home."""
    names = [f"local-dir:{write_tiny_model(tmp_path / name, seed)}" for seed, name in enumerate(("old", "new"))]
    data = pairs_folder(12)
    first = prepare(
        AuditConfig.model_validate(
            {"baseline": {"name": names[0]}, "candidate": {"name": names[1]}, "data": {"path": str(data)}}
        ),
        tmp_path / "home",
    )

    def plan(*, share: float = 0.5, **search: object) -> AuditPlan:
        settings = first.config.model_dump() | {"significance": {"confirmation_share": share}}
        settings["discrepancy"] = SEARCH | search
        return replace(first, config=AuditConfig.model_validate(settings))

    return plan


def _world(n: int = 140, seed: int = 0) -> tuple[EmbeddingTable, EmbeddingTable]:
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(n, 6))
    tied = np.where(np.arange(n)[:, None] % 7 == 0, 0.2 * base + 1, base)
    keys = [f"{row:03}" for row in range(n)]
    return EmbeddingTable(keys, image=tied), EmbeddingTable(keys, image=base + 0.1 * rng.normal(size=(n, 6)))


def _searched(plan: AuditPlan, tables: tuple[EmbeddingTable, EmbeddingTable]) -> Solution:
    """Search as the discovery step does."""
    problem = Problem.of(*tables, plan.config.discrepancy, **load_covariance(plan, "lost", *tables))
    assert problem.covariance is not None
    save_covariance(plan, "lost", problem.covariance, problem.kernels)
    return problem.solve(plan.config.discrepancy)


@pytest.mark.parametrize("sigma", ["auto", "matched", 0.7])
def test_limits_and_counts_are_no_part_of_the_key_of_a_covariance(planned, sigma):
    kept = planned(sigma=sigma).covariance_key("lost")
    for other in ({"n_directions": 9}, {"eps": 0.01}, {"eps_quantile": 0.5}, {"tolerance": 1e-4}, {"method": "spec"}):
        assert planned(sigma=sigma, **other).covariance_key("lost") == kept
    assert planned(sigma=sigma).covariance_key("gained") != kept
    assert planned(sigma=sigma, share=0.4).covariance_key("lost") != kept  # other samples are searched
    for other in ({"seed": 1}, {"n_features": 9}, {"features": "rff"}, {"modality": "joint"}):
        assert planned(sigma=sigma, **other).covariance_key("lost") != kept


@pytest.mark.parametrize("sigma", ["auto", "matched"])
def test_another_count_or_limit_neither_chooses_bandwidths_nor_sums_again(planned, monkeypatch, sigma):
    tables = _world()
    first = _searched(planned(sigma=sigma), tables)
    monkeypatch.setattr(koda.discrepancy.problem, "choose_kernels", None)
    monkeypatch.setattr(koda.discrepancy.forms, "summed", None)
    again = _searched(planned(sigma=sigma, n_directions=6), tables)
    assert again.kernels == first.kernels
    for one, other in zip(first.directions, again.directions, strict=False):
        assert other.target_energy == pytest.approx(one.target_energy, rel=1e-6)
        assert other.target_share == pytest.approx(one.target_share, rel=1e-5)
    wider = _searched(planned(sigma=sigma, max_reference_share=0.2), tables)
    tie = first.kernels.ties["reference"]
    assert wider.kernels == first.kernels
    assert wider.eps == pytest.approx((1 + 0.2 * tie * 139) / 140)


def test_what_is_kept_is_of_its_bandwidths_alone(planned):
    tables = _world()
    auto = _searched(planned(), tables)
    assert load_covariance(planned(sigma="matched"), "lost", *tables) == {}
    assert load_covariance(planned(), "gained", *tables) == {}
    kept = load_covariance(planned(), "lost", *tables)
    assert kept["kernels"] == auto.kernels
    assert kept["covariance"].n == 140


def test_exact_kernels_have_no_covariance_to_keep(planned):
    plan = planned(features="exact", n_features=None)
    problem = Problem.of(*(tables := _world()), plan.config.discrepancy)
    assert problem.covariance is None
    assert load_covariance(plan, "lost", *tables) == {}
