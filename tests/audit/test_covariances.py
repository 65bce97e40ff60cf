"""What another setting makes the samples be looked at again for, and what it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import koda.discrepancy.tuning
import numpy as np
import pytest

import koda.discrepancy.forms
from koda.audit.covariances import load_covariance, save_covariance
from koda.audit.plan import AuditPlan, prepare
from koda.config import AuditConfig
from koda.discrepancy import Problem, Solution
from koda.embeddings import EmbeddingTable
from tests.tiny import write_tiny_model

TUNE = {"sigma": "tune", "features": "orf", "n_features": 8, "n_directions": 4, "device": "cpu", "modality": "image"}


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
        settings["discrepancy"] = TUNE | search
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


@pytest.mark.parametrize("sigma", ["auto", "tune", 0.7])
def test_limits_and_counts_are_no_part_of_the_key_of_a_covariance(planned, sigma):
    kept = planned(sigma=sigma).covariance_key("lost")
    for other in ({"n_directions": 9}, {"eps": 0.01}, {"eps_quantile": 0.5}, {"tolerance": 1e-4}, {"method": "spec"}):
        assert planned(sigma=sigma, **other).covariance_key("lost") == kept
    assert planned(sigma=sigma).covariance_key("gained") != kept
    assert planned(sigma=sigma, share=0.4).covariance_key("lost") != kept  # other samples are searched
    for other in ({"seed": 1}, {"n_features": 9}, {"features": "rff"}, {"modality": "joint"}):
        assert planned(sigma=sigma, **other).covariance_key("lost") != kept


def test_a_tuned_covariance_has_the_key_of_its_bandwidths(planned):
    plan = planned()
    sigmas = {"target": {"image": 0.5}, "reference": {"image": 0.4}}
    kept = plan.covariance_key("lost", sigmas)
    assert planned(eps=0.01).covariance_key("lost", sigmas) == kept
    assert plan.covariance_key("lost", sigmas | {"target": {"image": 0.6}}) != kept
    assert plan.covariance_key("lost") != kept


def test_the_key_of_a_choice_of_bandwidths_holds_what_it_depends_on(planned, monkeypatch):
    kept = planned().tuning_key("lost")
    # the first three directions judge, to a tolerance of their own, with exact kernels
    for other in (
        {"n_directions": 3},
        {"n_directions": 9},
        {"tolerance": 1e-4},
        {"n_features": 9},
        {"features": "rff"},
    ):
        assert planned(**other).tuning_key("lost") == kept
    for other in ({"n_directions": 2}, {"eps": 0.01}, {"eps_quantile": 0.5}, {"tolerance": 0.1}, {"seed": 1}):
        assert planned(**other).tuning_key("lost") != kept
    assert planned(method="spec").tuning_key("lost") != kept
    assert planned(share=0.4).tuning_key("lost") != kept  # other samples are searched
    assert planned().tuning_key("gained") != kept
    monkeypatch.setattr(koda.discrepancy.tuning, "MULTIPLIERS", (0.3, 0.4))
    assert planned().tuning_key("lost") != kept


def test_another_count_neither_tunes_nor_sums_again(planned, monkeypatch):
    tables = _world()
    first = _searched(planned(), tables)
    monkeypatch.setattr(koda.discrepancy.tuning, "tune_kernels", None)
    monkeypatch.setattr(koda.discrepancy.forms, "accumulate", None)
    again = _searched(planned(n_directions=6), tables)
    assert again.kernels == first.kernels
    assert again.kernels.tuning
    for one, other in zip(first.directions, again.directions, strict=False):
        assert other.target_energy == pytest.approx(one.target_energy, rel=1e-6)


def test_another_limit_tunes_again_and_sums_again_only_for_other_bandwidths(planned, monkeypatch):
    tables, tuned, summed = _world(), [], []
    tune, accumulate = koda.discrepancy.tuning.tune_kernels, koda.discrepancy.forms.accumulate
    monkeypatch.setattr(koda.discrepancy.tuning, "tune_kernels", lambda *given: tuned.append(tune(*given)) or tuned[-1])
    monkeypatch.setattr(koda.discrepancy.forms, "accumulate", lambda given: summed.append(1) or accumulate(given))
    for share in (0.0005, 0.0006, 0.05, 0.2):
        before = {str(pair.target.sigmas) for pair in tuned}
        solution = _searched(planned(max_reference_share=share), tables)
        assert solution.kernels == tuned[-1]
        assert len(summed) == len(before | {str(tuned[-1].target.sigmas)})
    assert len(tuned) == 4
    assert len(summed) < 4


def test_exact_kernels_keep_the_choice_of_bandwidths_too(planned, monkeypatch):
    tables = _world()
    plan = planned(features="exact", n_features=None)
    first = load_covariance(plan, "lost", *tables)
    assert set(first) == {"kernels"}
    monkeypatch.setattr(koda.discrepancy.tuning, "tune_kernels", None)
    assert load_covariance(plan, "lost", *tables) == first
    assert load_covariance(planned(sigma="auto", features="exact", n_features=None), "lost", *tables) == {}
