"""An audit of a model that koda aligned: nothing that the alignment saw is tested on, or asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from koda.audit.controls import control
from koda.audit.evaluation import evaluate, load_evaluation
from koda.audit.plan import EVALUATIONS, AuditPlan, prepare
from koda.audit.recording import build_record
from koda.audit.samples import load_samples
from koda.audit.solutions import discover
from koda.config import AuditConfig
from koda.embeddings import EmbeddingTable
from koda.errors import DataError
from koda.extraction import extract
from koda.metrics.identity import with_captions_and_images
from koda.metrics.retrieval import recall
from koda.models.weights import look_at_weights
from koda.records import ALL, RECORD_FILE, SEEN_FILE, AuditRecord, Retest, SeenSamples
from koda.storage.digests import digest_keys
from koda.typing import ROLES
from tests.report.factory_alignment import aligned
from tests.tiny import write_tiny_model

N = 40


@pytest.fixture
def place(tmp_path: Path, pairs_folder: Callable[..., Path]) -> Path:
    """Return a folder with two models, the newer of which is to be an aligned one, and pairs."""
    for seed, name in enumerate(("old", "new")):
        write_tiny_model(tmp_path / name, seed)
    pairs_folder(N)
    return tmp_path


def planned(place: Path, **changes: Any) -> AuditPlan:
    settings: dict[str, Any] = {
        "baseline": {"name": f"local-dir:{place / 'old'}", "precision": "fp32"},
        "candidate": {"name": f"local-dir:{place / 'new'}", "precision": "fp32"},
        "data": {"path": str(place / "data" / "pairs.tsv"), "max_rejected": 0.5},
        "discrepancy": {"n_directions": 1, "device": "cpu"},
        "significance": {"stability": 0, "spike_ins": 0},
        "zero_shot": {"column": "colour", "templates": ["a {} picture"]},
        "report": {"pdf": False},
    }
    return prepare(AuditConfig.model_validate(settings | changes), place / "home")


def embedded(plan: AuditPlan) -> AuditPlan:
    for role in ROLES:
        extract(plan.artifacts, plan.dataset, plan.models[role], device="cpu")
    return plan


def audited(plan: AuditPlan) -> AuditRecord:
    """Carry an audit out, up to its record."""
    embedded(plan)
    discover(plan, "lost")
    discover(plan, "gained")
    control(plan)
    evaluate(plan)
    evaluation = load_evaluation(plan.artifacts.folder(EVALUATIONS, plan.evaluation_key))
    return build_record(plan, evaluation, aligned().started)


def align(place: Path, first: AuditPlan, p_after: float | None = 1.0, **changes: Any) -> tuple[str, ...]:
    """Lay the record of an alignment after an audit beside the newer model; return the keys that it saw."""
    samples = load_samples(first)
    made = aligned(1)
    retests = [
        Retest(finding=old.finding, before=old.before, after=old.before, p_before=1e-9, p_after=p_after)
        for old in made.retests
    ]
    split = made.split.model_copy(
        update={"held_out_digest": digest_keys(samples.confirmation), "seen_digest": digest_keys(samples.discovery)}
    )
    facts = {
        "weights_digest": look_at_weights(place / "new" / "open_clip_model.safetensors").digest,
        "teacher_fingerprint": first.models["baseline"].fingerprint.digest,
        "data_digest": first.dataset.digest,
        "split": split,
        "retests": retests,
    }
    record = made.model_copy(update=facts | changes)
    (place / "new" / RECORD_FILE).write_text(record.to_json())
    (place / "new" / SEEN_FILE).write_text(SeenSamples(seen=samples.discovery).to_json())
    return samples.discovery


def spoil(place: Path, key: str) -> None:
    """Make an image that no model can read, so that its sample is left out."""
    path = next(path for path in (place / "data").iterdir() if path.stem == key or path.name == key)
    path.write_bytes(b"no image")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"discrepancy": {"n_directions": 1, "device": "cpu", "seed": 7}},
        {"significance": {"stability": 0, "spike_ins": 0, "confirmation_share": 0.8}},
    ],
)
@pytest.mark.parametrize("rejected", [0, 1, 3])
def test_the_split_is_carried_over(place: Path, rejected: int, changes: dict[str, Any]) -> None:
    """Without the list, a rejected sample, another seed or another share would shuffle the samples anew."""
    first = embedded(planned(place))
    seen = set(align(place, first))
    held_out = set(load_samples(first).confirmation)
    for key in sorted(seen)[:rejected]:
        spoil(place, key)
    samples = load_samples(embedded(planned(place, **changes)))
    assert len(samples.baseline.keys) == N - rejected
    assert samples.confirmation and not seen & set(samples.confirmation)
    assert set(samples.confirmation) <= held_out
    assert set(samples.discovery) >= seen & set(samples.baseline.keys)
    if not rejected and not changes:
        assert set(samples.confirmation) == held_out


def test_no_sample_that_was_seen_is_a_query_of_what_is_judged(place: Path) -> None:
    first = embedded(planned(place))
    align(place, first)
    plan = planned(place)
    record = audited(plan)
    samples = load_samples(plan)
    n = len(samples.confirmation)
    assert record.metrics.queries == "held out"
    assert record.data.unseen is True and record.data.confirmation_digest == digest_keys(samples.confirmation)
    assert {item.n for item in record.metrics.retrieval if item.subset == ALL} == {n}
    assert {item.n_gallery for item in record.metrics.retrieval} == {N}
    assert all(item.n <= n and not item.subset.searched for item in record.metrics.retrieval)
    assert record.metrics.zero_shot is not None and record.metrics.zero_shot.n_labelled == n
    assert {similar.n for similar in record.metrics.whole.values()} == {n}
    table: EmbeddingTable = with_captions_and_images(samples.candidate, plan.dataset.by_key)
    alone = recall(table, queries=samples.confirmation, groups="image")
    assert alone is not None
    ours = next(item for item in record.metrics.retrieval if (item.subset, item.role) == (ALL, "candidate"))
    assert ours.image_to_text == alone.estimates()["image_to_text"]


def test_without_an_alignment_every_sample_is_asked(place: Path) -> None:
    record = audited(planned(place))
    assert (record.metrics.queries, record.data.unseen, record.data.confirmation_digest) == ("all", None, None)
    assert {item.n for item in record.metrics.retrieval if item.subset == ALL} == {N}


def test_a_finding_that_the_retest_still_confirms_keeps_the_verdict_from_passing(place: Path) -> None:
    first = embedded(planned(place))
    align(place, first, p_after=0.0017)
    record = audited(planned(place, policy=[{"figure": "lost.confirmed", "fail": 0}]))
    assert record.verdict.status == "fail"
    assert "lost 1, is still confirmed: p = 0.0017" in record.verdict.reasons[0]
    assert [str(each.finding) for each in record.verdict.rules[0].retests] == ["lost 1"]
    align(place, first, p_after=0.6)
    record = audited(planned(place, policy=[{"figure": "lost.max_difference", "fail": 0.9}]))
    assert record.verdict.rules[0].result == "pass" and not record.verdict.rules[0].retests


def test_a_record_of_other_weights_says_nothing(place: Path) -> None:
    first = embedded(planned(place))
    align(place, first, weights_digest="0" * 64)
    plan = planned(place)
    assert plan.aligned == () and plan.evaluation_key == first.evaluation_key
    assert load_samples(plan).confirmation == load_samples(first).confirmation


def test_without_the_list_only_the_very_same_samples_are_known_to_be_unseen(place: Path) -> None:
    first = embedded(planned(place))
    align(place, first)
    (place / "new" / SEEN_FILE).unlink()
    assert audited(planned(place)).data.unseen is True
    other = {"n_directions": 1, "device": "cpu", "seed": 7}
    record = audited(planned(place, discrepancy=other, policy=[]))
    assert (record.data.unseen, record.verdict.status) == (False, "inconclusive")


def test_a_list_that_is_not_the_records_is_refused(place: Path) -> None:
    align(place, embedded(planned(place)))
    path = place / "new" / SEEN_FILE
    seen = json.loads(path.read_text())
    path.write_text(json.dumps(seen | {"seen": seen["seen"][1:]}))
    with pytest.raises(DataError, match="is not the list of samples of alignment-5f1c02"):
        planned(place).steps()
