"""What is measured of very many samples, with the numbers from which samples are drawn lowered."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

import koda.metrics.sampling
from koda.audit.evaluation import Evaluation, evaluate, load_evaluation
from koda.audit.metrics import queries_drawn
from koda.audit.plan import EVALUATIONS, AuditPlan, prepare
from koda.audit.samples import load_samples
from koda.audit.solutions import discover
from koda.config import AuditConfig
from koda.embeddings import EmbeddingTable
from koda.embeddings.rows import drawn_keys
from koda.extraction import extract
from koda.records import ALL
from koda.typing import ROLES, SIDES

N, MANY, DRAWN = 400, 300, 100


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> AuditPlan:
    """Plan an audit of a group of 60 that the candidate scatters, searched already."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    old = rng.normal(size=(N, 16))
    old[:60] = 4 * rng.normal(size=16) + rng.normal(size=(60, 16))
    new = old.copy()
    new[:60] = rng.normal(size=(60, 16))
    keys = [f"{row:03d}" for row in rng.permutation(N)]
    columns = {"caption": [f"text {key}" for key in keys], "kind": ["a" if row < 60 else "b" for row in range(N)]}
    for name, values in (("old", old), ("new", new)):
        noise = 0.3 * rng.normal(size=values.shape)
        EmbeddingTable(keys, values.astype(np.float32), (values + noise).astype(np.float32), columns).save(
            folder / name
        )
    config = {
        "baseline": {"name": f"embeddings:{folder / 'old'}"},
        "candidate": {"name": f"embeddings:{folder / 'new'}"},
        "data": {"path": str(folder / "old")},
        "discrepancy": {"n_directions": 2, "device": "cpu"},
        "significance": {"stability": 0},
    }
    plan = prepare(AuditConfig.model_validate(config), folder / "home")
    for role in ROLES:
        extract(plan.artifacts, plan.dataset, plan.models[role], device="cpu")
    plan = plan.of_part(plan.dataset)  # without what is only to be looked at
    for side in SIDES:
        discover(plan, side)
    return plan


def _evaluated(plan: AuditPlan) -> Evaluation:
    evaluate(plan)
    evaluation = plan.artifacts.read(EVALUATIONS, plan.evaluation_key, load_evaluation)
    plan.artifacts.discard(EVALUATIONS, plan.evaluation_key)
    return evaluation


@pytest.fixture(scope="module")
def measured(plan: AuditPlan) -> Mapping[str, Evaluation]:
    """The audit's evaluation of all samples, and of drawn ones."""
    every = _evaluated(plan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(koda.metrics.sampling, "MANY", MANY)
        patch.setattr(koda.metrics.sampling, "DRAWN", DRAWN)
        return {"every": every, "drawn": _evaluated(plan)}


def test_of_few_samples_nothing_is_drawn(measured: Mapping[str, Evaluation]) -> None:
    metrics = measured["every"].metrics
    assert (metrics.asked, metrics.ranked) == (None, None)
    assert {record.n for record in metrics.retrieval if record.subset == ALL} == {N}


def test_of_many_samples_the_record_says_how_many_were_drawn(measured: Mapping[str, Evaluation]) -> None:
    drawn = measured["drawn"]
    assert drawn.metrics.asked == DRAWN
    assert DRAWN < drawn.metrics.ranked < 2 * DRAWN  # those that are tested, and the held-out ones that ask
    whole = [record for record in drawn.metrics.retrieval if record.subset == ALL]
    assert [(record.n, record.n_gallery) for record in whole] == [(DRAWN, N), (DRAWN, N)]
    assert all(row.n <= DRAWN for row in drawn.metrics.by_value)


def test_drawn_samples_leave_the_tests_as_they_are_and_the_figures_within_their_intervals(
    measured: Mapping[str, Evaluation],
) -> None:
    every, drawn = measured["every"], measured["drawn"]
    tested = [[(f.side, f.direction, f.p_value, f.target_share) for f in one.findings] for one in (every, drawn)]
    assert tested[0] == tested[1]
    assert any(finding.confirmed and finding.side == "lost" for finding in drawn.findings)
    for full, part in zip(every.metrics.retrieval, drawn.metrics.retrieval, strict=False):
        if full.subset != ALL:
            break
        for depth, estimate in part.image_to_text.items():
            assert estimate.low <= full.image_to_text[depth].value <= estimate.high


def test_the_held_out_samples_that_are_ranked_are_those_that_are_tested_or_ask(
    plan: AuditPlan, measured: Mapping[str, Evaluation]
) -> None:
    confirmation = load_samples(plan).confirmation
    drawn = set(drawn_keys(confirmation, DRAWN, plan.config.discrepancy.seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(koda.metrics.sampling, "MANY", MANY)
        patch.setattr(koda.metrics.sampling, "DRAWN", DRAWN)
        asked = set(queries_drawn(plan, load_samples(plan)) or ())
    rows = measured["drawn"].slices
    assert {row["key"] for row in rows if row["split"] == "confirmation"} <= drawn | asked
    assert measured["drawn"].metrics.ranked == len(drawn | asked.intersection(confirmation))
    members = [row for row in rows if (row["side"], row["direction"]) == ("lost", 1) and row["in_slice"]]
    assert {row["split"] for row in members} == {"discovery", "confirmation"}
    assert any('"kind": "a"' in row["metadata"] for row in members)
