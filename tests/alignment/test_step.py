"""The artifact of an alignment: it loads through open_clip alone, and its record says what was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from koda.alignment import AlignmentPlan, align, plan_alignment, read_alignment, recoveries, score_table
from koda.alignment.evaluation import recovery
from koda.alignment.groups import rankings_within
from koda.alignment.saving import WEIGHTS, copy_model, save_model
from koda.audit.plan import AuditPlan, prepare
from koda.audit.samples import load_samples
from koda.config import AlignmentConfig
from koda.errors import DataError
from koda.extraction import embedding_key, load_embeddings
from koda.metrics.clustering import cluster_scores, tops
from koda.metrics.retrieval import recall
from koda.models import resolve_model
from koda.models.weights import look_at_weights
from koda.records import ALL, RECORD_FILE, SEEN_FILE, AlignmentRecord, GroupScores, read_seen
from koda.storage.digests import digest_keys


@pytest.fixture(scope="module")
def aligned(audited: AuditPlan) -> tuple[AlignmentPlan, AlignmentRecord]:
    """Return an alignment that has been carried out."""
    config = AlignmentConfig(
        findings=(1,), steps=24, batch_size=64, learning_rate=1e-3, evaluate_every=8, max_retrieval_drop=1.0
    )
    plan = plan_alignment(audited, config)
    align(plan)
    return plan, read_alignment(plan.folder / RECORD_FILE)


_ALONE = """
import json, sys
import open_clip, torch
from PIL import Image
folder, pairs = sys.argv[1], json.loads(sys.argv[2])
model, _, preprocess = open_clip.create_model_and_transforms("local-dir:" + folder)
model.eval()
tokenizer = open_clip.get_tokenizer("local-dir:" + folder)
assert not any(name.split(".")[0] in ("koda", "tasks", "flows") for name in sys.modules)
with torch.no_grad():
    pixels = torch.stack([preprocess(Image.open(path).convert("RGB")) for path, _ in pairs])
    image = model.encode_image(pixels, normalize=True)
    text = model.encode_text(tokenizer([c for _, c in pairs]), normalize=True)
print(json.dumps([image.tolist(), text.tolist()]))
"""


def test_open_clip_alone_gives_the_recorded_embeddings(aligned: tuple[AlignmentPlan, AlignmentRecord]) -> None:
    plan, _ = aligned
    audit = plan.audit
    table = load_embeddings(audit.artifacts, embedding_key(audit.dataset, resolve_model(plan.model, "cpu")))
    some = audit.dataset.pairs[:24]
    folder = Path(audit.config.data.path).parent
    pairs = [[str(folder / "images" / f"{pair.key}.png"), pair.caption] for pair in some]
    command = [sys.executable, "-c", _ALONE, str(plan.folder), json.dumps(pairs)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout
    part = table.select([pair.key for pair in some])
    for values, recorded in zip(json.loads(found), (part.image, part.text), strict=True):
        assert recorded is not None
        cosines = (np.array(values) * recorded).sum(axis=1)
        assert cosines.min() > 0.9999


def test_the_record_names_what_was_used(aligned: tuple[AlignmentPlan, AlignmentRecord]) -> None:
    plan, record = aligned
    assert record.id == plan.id and record.audit_id == plan.audit.audit_id
    assert (record.student, record.teacher, record.role, record.side) == ("candidate", "baseline", "candidate", "lost")
    assert record.weights_digest == look_at_weights(plan.folder / WEIGHTS).digest
    assert record.split.train_digest == digest_keys(plan.split.train)
    assert record.split.held_out_digest == digest_keys(plan.samples.confirmation)
    assert sum(group.n_train for group in record.groups) == record.split.n_train_slice
    assert record.settings["steps"] == 24 and record.towers == ["image", "text"]
    assert 0 < record.n_parameters < record.n_parameters_total
    assert AlignmentRecord.model_validate_json(record.to_json()) == record


def test_the_samples_that_were_seen_lie_beside_the_weights(aligned: tuple[AlignmentPlan, AlignmentRecord]) -> None:
    plan, record = aligned
    seen = read_seen(plan.folder / SEEN_FILE).seen
    assert set(seen) == {*plan.split.train, *plan.split.validation} == set(plan.samples.discovery)
    assert record.split.seen_digest == digest_keys(seen)
    assert record.data_digest == plan.audit.dataset.digest


def test_an_aligned_model_that_is_aligned_again_has_seen_both_parts(
    aligned: tuple[AlignmentPlan, AlignmentRecord],
) -> None:
    plan, _ = aligned
    follow_up = prepare(plan.follow_up, plan.audit.home)
    assert follow_up.seen == set(plan.seen)
    samples = load_samples(follow_up)
    assert set(samples.confirmation) == set(plan.split.held_out)
    taken = samples.confirmation[:3]  # as a search on other data may have
    again = replace(plan, audit=follow_up, samples=replace(samples, discovery=taken))
    assert set(again.seen) == {*plan.seen, *taken}


def test_the_figures_are_those_of_the_stored_embeddings(aligned: tuple[AlignmentPlan, AlignmentRecord]) -> None:
    """Measured again from the artifacts, on the held-out samples."""
    plan, record = aligned
    audit, samples, keys = plan.audit, plan.samples, plan.split.held_out
    after = load_embeddings(audit.artifacts, embedding_key(audit.dataset, resolve_model(plan.model, "cpu")))
    labels = tops(list(rankings_within(plan.groups, keys).values()))
    assert set(labels) <= set(keys)
    for state, table in (("before", samples.candidate), ("after", after), ("teacher", samples.baseline)):
        again = [cluster_scores(table, labels, ("image", "text"), seed=seed) for seed in range(10)]
        score = record.score(state)  # type: ignore[arg-type]
        assert score is not None
        for name in ("ami", "nmi", "ari"):
            assert getattr(score, name) == pytest.approx(np.mean([getattr(each, name) for each in again]), abs=1e-12)
    captions = {pair.key: pair.caption for pair in audit.dataset.pairs}
    part = after.select(keys)
    part = replace(part, metadata={"caption": [captions[key] for key in keys]})
    found = recall(part)
    assert found is not None
    whole = next(each for each in record.retrieval if (each.state, each.subset) == ("after", ALL))
    assert whole.image_to_text["R@1"].value == found.image_to_text.at(1).value
    assert whole.n == len(keys)


def test_what_was_learnt_shows_in_the_tests_of_the_findings(aligned: tuple[AlignmentPlan, AlignmentRecord]) -> None:
    _, record = aligned
    (retest,) = record.retests
    assert str(retest.finding) == "lost 1"
    assert retest.after.value < 0.5 * retest.before.value
    shares = {share.state: share.share.value for share in record.shares}
    assert shares["before"] < shares["after"] < 1.2 * shares["teacher"]
    difference = next(each for each in record.retrieval_changes if each.subset == ALL).image_to_text["R@1"]
    by_state = {each.state: each.image_to_text["R@1"].value for each in record.retrieval if each.subset == ALL}
    assert difference.value == pytest.approx(by_state["after"] - by_state["before"])
    gaps = {str(each.subset): each.image_to_text["R@1"].value for each in record.retrieval_gaps}
    teacher = next(each for each in record.retrieval if (each.state, each.subset) == ("teacher", ALL))
    assert gaps["all"] == pytest.approx(by_state["after"] - teacher.image_to_text["R@1"].value)
    assert set(gaps) == {str(each.subset) for each in record.zero_shot_gaps}
    assert {str(each.subset) for each in record.zero_shot} == {"all", "rest", "lost 1 positive", "lost 1 negative"}


def test_a_second_call_makes_nothing(aligned: tuple[AlignmentPlan, AlignmentRecord]) -> None:
    plan, record = aligned
    before = (plan.folder / WEIGHTS).stat().st_mtime_ns
    align(plan)
    assert (plan.folder / WEIGHTS).stat().st_mtime_ns == before
    assert read_alignment(plan.folder / RECORD_FILE) == record


def test_the_follow_up_takes_the_aligned_model(aligned: tuple[AlignmentPlan, AlignmentRecord]) -> None:
    plan, _ = aligned
    follow_up = plan.follow_up
    assert follow_up.candidate.name == f"local-dir:{plan.folder}"
    assert follow_up.candidate.label == "candidate aligned"
    assert follow_up.baseline == plan.audit.config.baseline
    assert follow_up.candidate.source == f"koda, {plan.id}"


def test_a_copy_is_whole_or_not_there(aligned: tuple[AlignmentPlan, AlignmentRecord], tmp_path: Path) -> None:
    plan, _ = aligned
    copy_model(plan.folder, tmp_path / "out" / "model")
    names = {path.name for path in (tmp_path / "out" / "model").iterdir()}
    assert names == {"open_clip_config.json", WEIGHTS, RECORD_FILE, SEEN_FILE}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model"]


def test_the_students_own_tokenizer_goes_with_it(
    aligned: tuple[AlignmentPlan, AlignmentRecord], tmp_path: Path
) -> None:
    plan, _ = aligned
    source = tmp_path / "student"
    copy_model(plan.folder, source)
    (source / "tokenizer.json").write_text("{}")
    (source / "old.pt").write_bytes(b"weights")
    student = plan.audit.models["candidate"]
    student = replace(student, spec=student.spec.model_copy(update={"name": f"local-dir:{source}"}))
    save_model(tmp_path / "saved", student, load_file(plan.folder / WEIGHTS))
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert names == {"open_clip_config.json", WEIGHTS, "tokenizer.json"}


def test_seeds_give_a_mean_and_a_deviation(aligned: tuple[AlignmentPlan, AlignmentRecord]) -> None:
    _, record = aligned
    shifted = [score.model_copy(update={"ami": score.ami + 0.1}) for score in record.clusters]
    rows = score_table([record, record.model_copy(update={"clusters": shifted})])
    assert [(row.sample, row.state) for row in rows] == [
        (sample, state) for sample in ("trained on", "held out") for state in ("before", "after", "teacher")
    ]
    own = record.score("after")
    row = next(row for row in rows if (row.sample, row.state) == ("held out", "after"))
    assert own is not None
    assert row.ami.mean == pytest.approx(own.ami + 0.05)
    assert row.ami.deviation == pytest.approx(0.1 / 2**0.5)
    assert score_table([record])[0].ami.deviation is None
    assert set(recoveries([record])) <= {"trained on", "held out"}


def scores(before: float, after: float, teacher: float) -> list[GroupScores]:
    values = {"before": before, "after": after, "teacher": teacher}
    return [
        GroupScores(state=state, sample="held out", n=9, ami=ami, nmi=0, ari=0)  # type: ignore[arg-type]
        for state, ami in values.items()
    ]


def test_recovery_is_a_share_of_what_was_lacking() -> None:
    assert recovery(scores(0.2, 0.5, 0.6)) == pytest.approx(0.75)
    assert recovery(scores(0.2, 0.1, 0.6)) == pytest.approx(-0.25)
    assert recovery(scores(0.5, 0.5, 0.51)) is None, "nothing to recover"
    assert recovery(scores(0.6, 0.6, 0.5)) is None
    assert recovery([]) is None


def test_a_record_that_cannot_be_read_says_why(tmp_path: Path, aligned: tuple[AlignmentPlan, AlignmentRecord]) -> None:
    path = tmp_path / RECORD_FILE
    with pytest.raises(DataError, match="is not the record of an alignment"):
        read_alignment(path)
    path.write_text("[1]")
    with pytest.raises(DataError, match="is not the record of an alignment"):
        read_alignment(path)
    path.write_text(json.dumps({**json.loads(aligned[1].to_json()), "version": 99}))
    with pytest.raises(DataError, match="version 99; this koda reads versions up to 2"):
        read_alignment(path)
