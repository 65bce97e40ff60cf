"""The figures beside the findings where there is hardly anything to measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import koda.audit.zero_shot
from koda.audit.metrics import measure, with_duplicates
from koda.audit.plan import AuditPlan, prepare
from koda.audit.samples import Samples
from koda.audit.zero_shot import zero_shot
from koda.config import AuditConfig
from koda.discrepancy import find_discrepancies
from koda.embeddings import EmbeddingTable
from koda.errors import ConfigError
from koda.records import ALL, Subset
from tests.tiny import write_tiny_model

WHOLE, PART = Subset("lost", 1, "positive"), Subset("lost", 1, "negative")


@pytest.fixture
def planned(tmp_path: Path, pairs_folder: Callable[..., Path]) -> Callable[..., AuditPlan]:
    """Return a function that plans an audit of a model against another over n pairs."""
    names = [f"local-dir:{write_tiny_model(tmp_path / name, seed)}" for seed, name in enumerate(("old", "new"))]

    def plan(n: int, rows: list[str] | None = None, **settings: object) -> AuditPlan:
        given = {"baseline": {"name": names[0]}, "candidate": {"name": names[1]}}
        given |= {"data": {"path": str(pairs_folder(n, rows)), "captions": "all"}, "discrepancy": {"device": "cpu"}}
        return prepare(AuditConfig.model_validate(given | settings), tmp_path / "home")

    return plan


def _samples(plan: AuditPlan, seed: int = 0) -> Samples:
    keys = sorted(pair.key for pair in plan.dataset.pairs)
    rng = np.random.default_rng(seed)
    tables = [EmbeddingTable(keys, *rng.normal(size=(2, len(keys), 4))) for _ in range(2)]
    return Samples(tables[0], tables[1], tuple(keys), ())


def test_without_directions_only_the_models_as_a_whole_are_measured(planned):
    plan = planned(12)
    samples = _samples(plan)
    same = replace(samples, candidate=samples.baseline)  # a model against itself
    empty = {
        side: find_discrepancies(same.baseline, same.candidate, plan.config.discrepancy) for side in ("lost", "gained")
    }
    found = {"lost": (), "gained": ()}
    metrics, _ = measure(plan, same, empty, found, [])
    assert {str(r.subset) for r in metrics.retrieval} == {"all"}
    (difference,) = metrics.retrieval_differences
    assert {(e.value, e.low, e.high) for e in difference.image_to_text.values()} == {(0.0, None, None)}
    assert metrics.clusters == []
    assert metrics.quotients == []
    assert metrics.whole["image"].cka == pytest.approx(1)
    row_of = {key: row for row, key in enumerate(samples.baseline.keys)}
    assert with_duplicates(plan, same, found, [], row_of) == []


def test_zero_shot_of_slices_without_a_label_is_left_out(planned, monkeypatch):
    rows = ["filepath\ttitle\tcolour"]
    rows += [f"{i:03d}.png\tcaption {i}\t{('red', 'blue', '')[i % 3]}" for i in range(9)]
    plan = planned(9, rows, zero_shot={"column": "colour"})
    samples = _samples(plan)
    same_for_all = lambda models, *given: (dict.fromkeys(models, np.eye(2, 4)), {})  # noqa: E731
    monkeypatch.setattr(koda.audit.zero_shot, "class_vectors_of", same_for_all)
    colour = {pair.key: pair.metadata["colour"] for pair in plan.dataset.pairs}
    labelled = tuple(key for key, value in colour.items() if value in ("red", "blue"))
    unlabelled = tuple(key for key in colour if key not in labelled)
    record, _ = zero_shot(plan, samples, {Subset("gained"): unlabelled, WHOLE: tuple(colour), PART: labelled[:1]})
    assert (record.n_labelled, len(unlabelled)) == (6, 3)
    assert [a.subset for a in record.accuracies] == [ALL, ALL, WHOLE, WHOLE, PART, PART]
    assert [list(a.top) for a in record.accuracies] == [["top-1"]] * 6  # of two classes the first five are all
    every, whole, one = record.differences
    assert whole.top == every.top
    assert (one.n, one.top["top-1"].low) == (1, None)


def test_figures_by_metadata_value_are_of_held_out_samples(planned, monkeypatch):
    rows = ["filepath\ttitle\tcolour\tnumber"]
    rows += [f"{i:03d}.png\tcaption {i}\t{('red', 'blue')[i % 2]}\t{i}" for i in range(140)]
    plan = planned(140, rows, zero_shot={"column": "colour"})
    same_for_all = lambda models, *given: (dict.fromkeys(models, np.eye(2, 4)), {})  # noqa: E731
    monkeypatch.setattr(koda.audit.zero_shot, "class_vectors_of", same_for_all)
    pairs = plan.dataset.by_key
    columns = {name: [pairs[key].metadata[name] for key in sorted(pairs)] for name in ("colour", "number")}
    samples = _samples(plan)
    table = EmbeddingTable(samples.baseline.keys, samples.baseline.image, samples.baseline.text, columns)
    held_out = [key for key in sorted(pairs) if int(pairs[key].metadata["number"]) < 80]
    same = replace(samples, baseline=table, candidate=table, confirmation=tuple(held_out))
    empty = {side: find_discrepancies(table, table, plan.config.discrepancy) for side in ("lost", "gained")}
    metrics, _ = measure(plan, same, empty, {"lost": (), "gained": ()}, [])
    assert [(item.column, item.value, item.n) for item in metrics.by_value] == [
        ("colour", "blue", 40),
        ("colour", "red", 40),
    ]
    assert metrics.by_value_unmeasured == {"number": "it has 140 values, and a category has 2 to 50"}
    for item in metrics.by_value:
        assert list(item.image_to_text) == list(item.text_to_image) == ["R@1", "R@5", "R@10"]
        assert item.zero_shot is not None
        assert {shares.p_value for shares in (*item.retrieval.values(), item.zero_shot)} == {1.0}


def test_zero_shot_where_no_joined_sample_has_a_label_is_empty(planned):
    plan = planned(6, zero_shot={"column": "colour"})
    other = EmbeddingTable(["a", "b"], *np.ones((2, 2, 4)))
    record, _ = zero_shot(plan, Samples(other, other, ("a", "b"), ()), {PART: ("a",)})
    assert (record.n_labelled, record.accuracies, record.differences) == (0, [], [])


def test_zero_shot_of_one_class_is_refused_before_any_work(planned):
    rows = ["filepath\ttitle\tcolour"] + [f"{i:03d}.png\tcaption {i}\tred" for i in range(4)]
    with pytest.raises(ConfigError, match="1 value;"):
        planned(4, rows, zero_shot={"column": "colour"})
