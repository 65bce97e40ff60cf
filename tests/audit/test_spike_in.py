"""Groups that are put in: found where they can be seen, and only then; and a model against its own copy."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import koda.audit.spike_in
from koda.audit.controls import control, load_controls
from koda.audit.plan import CONTROLS, SOLUTIONS, AuditPlan, prepare
from koda.audit.solutions import discover
from koda.audit.spike_in import spike_ins
from koda.config import AuditConfig, DiscrepancyConfig, SignificanceConfig
from koda.discrepancy import find_discrepancies
from koda.discrepancy.limits import again_on
from koda.discrepancy.saving import load_solution
from koda.embeddings import EmbeddingTable
from koda.records.controls import SPIKE_IN_SHARES

IMAGE = DiscrepancyConfig(modality="image", device="cpu")
TEST = SignificanceConfig()


def clustered(n: int, seed: int = 0) -> EmbeddingTable:
    """Samples of which each has near neighbours, as real ones have."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n // 40 + 1, 12))
    values = centres[np.arange(n) % len(centres)] + 0.2 * rng.normal(size=(n, 12))
    return EmbeddingTable([f"{row:04}" for row in range(n)], image=values)


def ready(n: int, **changes: object):
    table = clustered(n)
    halves = table.keys[: n // 2], table.keys[n // 2 :]
    given = {"config": IMAGE, "significance": TEST, "others": ([], [1.0] * 5)} | changes
    solution = find_discrepancies(table.select(halves[0]), table.select(halves[0]), given["config"])
    return spike_ins(table, table, *halves, solution, given["config"], given["significance"], given["others"])


def test_a_large_group_is_found_and_a_single_sample_is_not():
    trials = ready(800)
    found = trials.trial(0.04, 0)
    assert (found.size, found.detected) == (32, True)
    assert found.difference is not None and found.difference > TEST.materiality
    assert not trials.trial(0.001, 0).detected
    assert trials.trial(0.04, 0) == found  # seeded


def test_only_the_group_and_as_many_others_change_places():
    trials = ready(400)
    group = trials._group(7, 16)
    assert group[0] == 7
    order = trials._exchanged(group, np.random.default_rng(0))
    moved = np.flatnonzero(order != np.arange(400))
    assert set(group) <= set(moved)
    assert len(moved) == 32
    assert (order[order] == np.arange(400)).all()  # they change places
    assert ((order < 200) == (np.arange(400) < 200)).all()  # each within its own part
    dense = np.linalg.norm(np.asarray(trials.kernels[0].table.image) - trials.kernels[0].table.image[7], axis=1)
    assert set(group) == set(np.argsort(dense)[:16])


def test_the_trials_of_many_samples_are_made_on_some(monkeypatch):
    monkeypatch.setattr(koda.audit.spike_in, "MAX_SAMPLES", 100)
    trials = ready(800)
    assert (len(trials.discovery), len(trials.confirmation)) == (100, 100)
    assert trials.trial(0.04, 0).size == 8


def test_a_group_as_large_as_the_data_is_no_crash():
    assert not ready(80).trial(1.0, 0).detected


@pytest.fixture
def planned(tmp_path: Path, pairs_folder: Callable[..., Path]) -> Callable[..., AuditPlan]:
    """Return a function that plans an audit of two stored models over n samples."""
    from koda.extraction import extract

    def plan(n: int, **significance: object) -> AuditPlan:
        table = clustered(n)
        rng = np.random.default_rng(1)
        values = {"old": np.asarray(table.image), "new": table.image + 0.05 * rng.normal(size=table.image.shape)}
        for name, image in values.items():
            EmbeddingTable(table.keys, image=image.astype(np.float32)).save(tmp_path / f"{name}{n}")
        given = {
            "baseline": {"name": f"embeddings:{tmp_path / f'old{n}'}"},
            "candidate": {"name": f"embeddings:{tmp_path / f'new{n}'}"},
            "data": {"path": str(tmp_path / f"old{n}")},
            "discrepancy": {"device": "cpu", "modality": "image", "n_directions": 3, "max_directions": 3},
            "significance": significance,
        }
        made = prepare(AuditConfig.model_validate(given), tmp_path / "home")
        for role in made.models:
            extract(made.artifacts, made.dataset, made.models[role], device="cpu")
        for side in ("lost", "gained"):
            made.artifacts.folder(SOLUTIONS, made.solution_key(side)).mkdir(parents=True, exist_ok=True)
            discover(made, side)
        return made

    return plan


def test_the_controls_of_an_audit(planned):
    plan = planned(600, spike_ins=2)
    control(plan)
    folder = plan.artifacts.folder(CONTROLS, plan.control_key)
    controls = load_controls(folder)
    assert [row.share for row in controls.spike_ins] == list(SPIKE_IN_SHARES)
    assert [row.size for row in controls.spike_ins] == [24, 12, 6, 3]
    assert {row.trials for row in controls.spike_ins} == {2}
    assert controls.spike_ins[0].confirmed >= 1
    assert [(row.role, row.confirmed) for row in controls.self_controls] == [("baseline", 0), ("candidate", 0)]
    assert all(0 < row.noise < 1e-6 for row in controls.self_controls)  # stored in float32
    assert json.loads((folder / "controls.json").read_text())["n_discovery"] == 300


def test_trials_under_a_quantile_keep_the_limit_that_the_search_had(planned):
    """A quantile of fewer samples' eigenvalues would be another limit."""
    plan = planned(400, spike_ins=1)
    limit = {"max_reference_share": None, "eps_quantile": 0.9}
    plan = replace(
        plan, config=plan.config.model_copy(update={"discrepancy": plan.config.discrepancy.model_copy(update=limit)})
    )
    for side in ("lost", "gained"):
        discover(plan, side)
    lost = load_solution(plan.artifacts.folder(SOLUTIONS, plan.solution_key("lost")))
    kept = again_on(plan.config.discrepancy, lost.eps, 200, 200)
    assert (kept.eps, kept.eps_quantile) == (lost.eps, None)
    control(plan)
    trials = load_controls(plan.artifacts.folder(CONTROLS, plan.control_key)).spike_ins
    assert [row.trials for row in trials] == [1] * 3  # 0.5 % of 400 is no group


def test_a_group_of_one_or_two_samples_is_not_put_in(planned):
    plan = planned(120, spike_ins=1)
    control(plan)
    controls = load_controls(plan.artifacts.folder(CONTROLS, plan.control_key))
    assert [(row.share, row.size) for row in controls.spike_ins] == [(0.04, 5)]


def test_controls_that_are_turned_off_or_cannot_be_made_say_so(planned):
    plan = planned(600, spike_ins=0)
    control(plan)
    off = load_controls(plan.artifacts.folder(CONTROLS, plan.control_key))
    assert (off.spike_ins, off.note) == ([], None)
    assert "is not known: significance.spike_ins: 0" in off.in_words()
    assert len(off.self_controls) == 2
    small = planned(40)
    control(small)
    few = load_controls(small.artifacts.folder(CONTROLS, small.control_key))
    assert few.spike_ins == few.self_controls == []
    assert "a test needs 30" in (few.note or "")


def test_only_what_controls_depend_on_makes_them_again(planned):
    plan = planned(40)

    def changed(search: dict[str, object], **significance: object) -> AuditPlan:
        settings = plan.config.model_dump()
        settings["discrepancy"] |= search
        settings["significance"] |= significance
        return replace(plan, config=AuditConfig.model_validate(settings))

    assert changed({}, stability=5).control_key == plan.control_key
    for change in ({"spike_ins": 1}, {"materiality": 0.01}, {"alpha": 0.01}, {"max_samples": 10}):
        assert changed({}, **change).control_key != plan.control_key
        assert changed({}, **change).solution_key("lost") == plan.solution_key("lost")  # a search of one step
    longer = changed({"max_directions": 9})
    for change in ({"materiality": 0.01}, {"alpha": 0.01}, {"max_samples": 10}):  # they say whether a search goes on
        assert changed({"max_directions": 9}, **change).solution_key("lost") != longer.solution_key("lost")


def test_a_search_goes_on_while_its_last_direction_is_material(planned):
    plan = planned(600)
    (direction, *_) = load_solution(plan.artifacts.folder(SOLUTIONS, plan.solution_key("lost"))).directions
    assert direction.target_share > 0
    for materiality, count in ((-1.0, 9), (0.9, 3)):  # whatever there is is material, or nothing is
        judged = plan.config.significance.model_copy(update={"materiality": materiality})
        search = plan.config.discrepancy.model_copy(update={"max_directions": 9})
        longer = replace(plan, config=plan.config.model_copy(update={"discrepancy": search, "significance": judged}))
        discover(longer, "lost")
        found = load_solution(longer.artifacts.folder(SOLUTIONS, longer.solution_key("lost")))
        assert len(found.directions) == count
        assert ("stopped at 9 directions" in found.status) is (count == 9)
        assert found.stats.get("last_is_material", False) is (count == 9)
