"""What a report looks at, from planted groups and in a small audit of every step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import koda.audit.looks
from koda.audit.evaluation import evaluate, load_evaluation
from koda.audit.galleries import lobe_record
from koda.audit.looks import looks_of, map_of, spectra_of
from koda.audit.plan import EVALUATIONS, AuditPlan, prepare
from koda.audit.samples import Samples
from koda.audit.solutions import discover
from koda.config import AuditConfig
from koda.datasets.subsample import subsample
from koda.discrepancy import find_discrepancies
from koda.embeddings import EmbeddingTable
from koda.extraction import extract
from koda.metrics.zero_shot import ClassRanks
from koda.records import Finding, Looks, MapRecord
from koda.slicing.slices import slices
from koda.typing import ROLES, SIDES
from tests.report import factory
from tests.tiny import write_tiny_model

N, GROUP = 120, 24
COLOURS = ("blue", "purple")


def _plan(tmp_path: Path) -> AuditPlan:
    """Plan an audit over samples of two colours, one image a sample but for the first two, which are copies."""
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = ["filepath\ttitle\tcolour"]
    for i in range(N):
        pixels = rng.integers(0, 255, (12, 12, 3), dtype=np.uint8) if i != 1 else pixels  # noqa: F821
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")
        rows.append(f"{i:03d}.png\tcaption {max(i, 1)}\t{COLOURS[i % 2]}")
    (folder / "pairs.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    names = [f"local-dir:{write_tiny_model(tmp_path / name, seed)}" for seed, name in enumerate(("old", "new"))]
    settings = {
        "baseline": {"name": names[0], "label": "old"},
        "candidate": {"name": names[1], "label": "new"},
        "data": {"path": str(folder / "pairs.tsv"), "captions": "all"},
        "discrepancy": {"device": "cpu", "n_directions": 2},
        "significance": {"stability": 0, "spike_ins": 0},
        "zero_shot": {"column": "colour"},
        "report": {"pdf": False, "gallery": 6},
    }
    return prepare(AuditConfig.model_validate(settings), tmp_path / "home")


@dataclass(frozen=True)
class Planted:
    """A group that the baseline ties together, as the first finding of the side `lost`, and what is seen of it."""

    plan: AuditPlan
    samples: Samples
    findings: list[Finding]
    drawn: MapRecord
    looks: Looks
    spectra: dict[str, list[float]]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    plan = _plan(tmp_path_factory.mktemp("planted"))
    keys = sorted(pair.key for pair in plan.dataset.pairs)
    rng = np.random.default_rng(0)
    image, text = rng.normal(size=(2, N, 6))
    tied = np.where((np.arange(N) < GROUP)[:, None], 2 + 0.2 * image, image)
    tables = [EmbeddingTable(keys, image=part, text=text) for part in (tied, image)]
    samples = Samples(tables[0], tables[1], tuple(keys[::2]), tuple(keys[1::2]))
    search = plan.config.discrepancy
    solutions = {
        side: find_discrepancies(*(table.select(keys[::2]) for table in samples.of(side)), search) for side in SIDES
    }
    pieces = {side: slices(solutions[side], *samples.of(side)) for side in SIDES}
    verdicts = {("lost", 1): True, ("lost", 2): None, ("gained", 1): False, ("gained", 2): True}
    findings = [
        factory.finding(0).model_copy(
            update={
                "side": side,
                "direction": piece.direction,
                "confirmed": verdicts[side, piece.direction],
                **{
                    lobe.sign: lobe_record(plan.dataset.by_key, lobe, 6, [0])
                    for lobe in (piece.positive, piece.negative)
                },
            }
        )
        for side in SIDES
        for piece in pieces[side]
    ]
    right = np.arange(N) % 2
    ranks = {
        role: ClassRanks(tuple(keys), np.where(right == chosen, 1, 2), np.arange(N), right, chosen)
        for role, chosen in zip(ROLES, (right, np.zeros(N, dtype=np.int64)), strict=True)
    }
    drawn = map_of(plan, samples, pieces, findings)
    assert drawn is not None
    looks = looks_of(plan, samples, solutions, pieces, findings, ranks, drawn)
    return Planted(plan, samples, findings, drawn, looks, spectra_of(plan, samples, solutions))


def test_of_a_part_of_the_data_nothing_is_looked_at(planted: Planted) -> None:
    whole = planted.plan
    for role in ROLES:
        extract(whole.artifacts, whole.dataset, whole.models[role], device="cpu")
    plan = whole.of_part(subsample(whole.dataset, 80, (0, 1)))
    for side in SIDES:
        discover(plan, side)
    evaluate(plan)
    evaluation = plan.artifacts.read(EVALUATIONS, plan.evaluation_key, load_evaluation)
    assert evaluation.looks == Looks() and evaluation.metrics.map is None and evaluation.metrics.spectra == {}


def test_every_sample_in_a_gallery_that_was_not_refuted_has_neighbours_by_the_kernel(planted: Planted) -> None:
    standing = [finding for finding in planted.findings if finding.confirmed is not False]
    shown = {s.key for f in standing for lobe in (f.positive, f.negative) for s in lobe.samples}
    rows = {row.key: row for row in planted.looks.neighbours}
    assert set(rows) == shown and planted.looks.n_among == N
    keys = planted.samples.baseline.keys
    for row in rows.values():
        for role in ROLES:
            near = getattr(row, role)
            assert len(near) == 5 and row.key not in {item.key for item in near}
            assert [item.similarity for item in near] == sorted((item.similarity for item in near), reverse=True)
        assert row.shared == len({n.key for n in row.baseline} & {n.key for n in row.candidate})
    copies = [rows[key] for key in keys[:2] if key in rows]
    assert all(not {n.key for n in row.baseline} & set(keys[:2]) for row in copies)


def test_the_group_that_the_baseline_ties_together_has_its_neighbours_within(planted: Planted) -> None:
    first = planted.findings[0]
    group = set(planted.samples.baseline.keys[:GROUP])
    inside = [row for row in planted.looks.neighbours if row.key in group]
    assert first.side == "lost" and len(inside) >= 3
    within = {role: np.mean([n.key in group for row in inside for n in getattr(row, role)]) for role in ROLES}
    assert within["baseline"] > 0.9 and within["candidate"] < 0.5


def test_the_map_marks_the_strongest_finding_and_holds_every_gallery(planted: Planted) -> None:
    drawn = planted.drawn
    assert drawn.keys == sorted(drawn.keys) and len(drawn.keys) == drawn.n == N
    assert len(drawn.baseline) == len(drawn.candidate) == len(drawn.group) == N
    assert {abs(number) for number in drawn.group} <= {0, 1, 2, 4}  # the third finding was refuted
    group = dict(zip(drawn.keys, drawn.group, strict=True))
    members = {s.pick: group[s.key] for s in planted.findings[0].positive.samples if s.pick != "near miss"}
    assert set(members.values()) == {1}
    assert -1 in drawn.group


def test_a_map_of_many_takes_galleries_first_then_members(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(koda.audit.looks, "MAX_SAMPLES", 40)
    solutions = {
        side: find_discrepancies(
            *(table.select(planted.samples.discovery) for table in planted.samples.of(side)),
            planted.plan.config.discrepancy,
        )
        for side in SIDES
    }
    pieces = {side: slices(solutions[side], *planted.samples.of(side)) for side in SIDES}
    drawn = map_of(planted.plan, planted.samples, pieces, planted.findings)
    shown = {s.key for f in planted.findings for lobe in (f.positive, f.negative) for s in lobe.samples}
    assert drawn is not None and len(drawn.keys) == 40 and drawn.n == N
    assert shown <= set(drawn.keys) if len(shown) <= 40 else set(drawn.keys) <= shown


def test_spectra_are_of_the_discovery_samples(planted: Planted) -> None:
    assert list(planted.spectra) == list(ROLES)
    for values in planted.spectra.values():
        assert len(values) == 50 and values == sorted(values, reverse=True) and 0 < sum(values) <= 1
    assert planted.spectra["baseline"][0] > 0.01


def test_confusions_are_of_held_out_members_of_confirmed_findings(planted: Planted) -> None:
    rows = planted.looks.confusions
    assert {(row.subset.side, row.subset.direction) for row in rows} == {("lost", 1), ("gained", 2)}
    for row in rows:
        finding = next(f for f in planted.findings if f.subset == row.subset.finding)
        lobe = finding.positive if row.subset.lobe == "positive" else finding.negative
        assert row.n == lobe.n_held_out
        told = np.zeros_like(row.counts)  # all samples are in the map, and so each is named
        np.add.at(told, tuple(np.transpose(list(row.places.values()))), 1)
        assert told.tolist() == row.counts
        chosen = dict(zip(row.chosen, np.sum(row.counts, axis=0), strict=True))
        right = dict(zip(row.right, np.sum(row.counts, axis=1), strict=True))
        if row.role == "baseline":  # which is always right
            assert {name: chosen[name] for name in right} == right
        else:  # which takes everything for blue
            assert chosen["blue"] == row.n


def test_overlaps_are_of_one_side_and_what_is_shown_is_named(planted: Planted) -> None:
    assert {(str(o.first), str(o.second)) for o in planted.looks.overlaps} <= {("lost 1", "lost 2")}
    assert all(0 < overlap.jaccard <= 1 and overlap.shared > 0 for overlap in planted.looks.overlaps)
    shown = {s.key for f in planted.findings for lobe in (f.positive, f.negative) for s in lobe.samples}
    assert set(planted.looks.samples) == set(planted.drawn.keys) - shown
    key, sample = next(iter(planted.looks.samples.items()))
    assert (sample.caption, sample.metadata) == (
        planted.plan.dataset.by_key[key].caption,
        dict(planted.plan.dataset.by_key[key].metadata),
    )
