"""The audit flow through the command line: real models, real images, real Prefect, real files."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from typer.testing import CliRunner

from flows.cli.app import app
from koda.audit.crosswalk import read_crosswalk
from koda.audit.plan import prepare
from koda.audit.thumbnails import sizes_of
from koda.config import ModelSpec, load_config
from koda.extraction import load_embeddings
from koda.models.precision import resolve_precision
from koda.records import ALL, AuditRecord, IntendedUse
from koda.typing import ROLES
from tests.flows.workplace import N, Workplace, make_workplace


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workplace, int, dict[str, Any]]]:
    place = make_workplace(tmp_path_factory.mktemp("work"))
    code, result, _ = place.run()
    yield place, code, result


STEPS = [
    "embed baseline", "embed candidate", "discover lost", "discover gained", "control", "evaluate", "record", "render",
]  # fmt: skip


def test_the_precision_that_is_chosen_by_itself_is_that_of_the_machine(tmp_path: Path) -> None:
    place = make_workplace(tmp_path)
    _, result, _ = place.run("--set", "baseline.precision=auto", "--set", "candidate.precision=auto")
    record = AuditRecord.from_json(Path(result["paths"]["record"]).read_bytes())
    precision = resolve_precision(ModelSpec(name="local-dir:old"), torch.device("cpu"))
    assert (record.baseline.precision, record.candidate.precision) == (precision, precision)


def test_an_audit_executes_every_step_and_leaves_its_files(first: tuple[Workplace, int, dict[str, Any]]) -> None:
    place, code, result = first
    assert place.executed(result) == STEPS
    assert result["steps_executed"] == 8
    assert code == (1 if result["verdict"] == "fail" else 0)
    folder = place.home / "audits" / result["id"]
    files = {"report.html", "audit.json", "verdict.json", "slices.csv", "manifest.json"}
    assert {path.name for path in folder.iterdir()} == files
    record = AuditRecord.from_json((folder / "audit.json").read_bytes())
    assert record.id == result["id"]
    assert record.verdict.status == result["verdict"]
    assert (record.data.n_source, record.data.n_compared, record.data.n_rejected) == (N, N, 0)
    assert record.data.n_discovery + record.data.n_confirmation == N
    assert record.data.ledger is not None
    assert record.data.ledger.lines() == [("rows in the source", N), ("compared", N)]
    assert record.baseline.label == "old"
    assert list(record.provenance.artifacts) == STEPS[:6]
    assert all(0 <= finding.gap < 1e-5 for finding in record.findings)
    assert "old" in (folder / "report.html").read_text(encoding="utf-8")


def test_there_is_something_to_look_at_and_a_thumbnail_of_all_of_it(
    first: tuple[Workplace, int, dict[str, Any]],
) -> None:
    place, _, result = first
    record = AuditRecord.from_json(Path(result["paths"]["record"]).read_bytes())
    assert record.metrics.map is not None and len(record.metrics.map.keys) == N
    assert set(record.metrics.spectra) == set(ROLES)
    lobes = [lobe for finding in record.findings for lobe in (finding.positive, finding.negative)]
    shown = {sample.key for lobe in lobes for sample in lobe.samples}
    assert shown | set(record.looks.samples) == set(record.metrics.map.keys)
    (path,) = (place.home / "artifacts" / "records").glob("*/thumbnails.parquet")
    assert set(pq.read_table(path)["key"].to_pylist()) == set(sizes_of(record, 160)) == set(record.metrics.map.keys)
    assert record.data.n_repeated_captions is not None and record.trend is None


def test_the_slices_are_listed_with_metadata(first: tuple[Workplace, int, dict[str, Any]]) -> None:
    place, _, result = first
    with (place.home / "audits" / result["id"] / "slices.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:8] == ["side", "direction", "lobe", "rank", "key", "score", "caption", "colour"]
    assert {row["side"] for row in rows} <= {"lost", "gained"}
    assert {row["lobe"] for row in rows} == {"positive", "negative"}
    assert all(row["caption"].split()[1] == row["colour"] for row in rows)


def test_the_database_answers_questions(first: tuple[Workplace, int, dict[str, Any]]) -> None:
    place, _, result = first
    with duckdb.connect(str(place.home / "koda.duckdb"), read_only=True) as connection:
        rows = connection.execute(
            "SELECT a.verdict, d.side, d.direction, d.target_share FROM audits a JOIN directions d ON d.audit_id = a.id"
        ).fetchall()
    record = AuditRecord.from_json((place.home / "audits" / result["id"] / "audit.json").read_bytes())
    assert sorted((side, number) for _, side, number, _ in rows) == sorted(
        (f.side, f.direction) for f in record.findings
    )


def test_an_audit_verifies_until_a_file_changes(first: tuple[Workplace, int, dict[str, Any]], tmp_path: Path) -> None:
    place, _, result = first
    folder = tmp_path / "copy"
    shutil.copytree(place.home / "audits" / result["id"], folder)
    assert CliRunner().invoke(app, ["verify", str(folder)]).exit_code == 0
    text = (folder / "slices.csv").read_text(encoding="utf-8")
    (folder / "slices.csv").write_text(text.replace("red", "rot"), encoding="utf-8")
    (folder / "report.html").unlink()
    answer = CliRunner().invoke(app, ["verify", "--json", str(folder / "audit.json")])
    assert answer.exit_code == 1
    assert json.loads(answer.stdout)["files"] == {
        "audit.json": "ok",
        "report.html": "missing",
        "slices.csv": "changed since the audit wrote it",
        "verdict.json": "ok",
    }
    assert CliRunner().invoke(app, ["verify", str(tmp_path)]).exit_code == 2


def test_history_and_show_tell_of_the_audit(first: tuple[Workplace, int, dict[str, Any]]) -> None:
    place, _, result = first
    os.environ["KODA_HOME"] = str(place.home)
    listed = CliRunner().invoke(app, ["history", "--json"])
    assert result["id"] in [audit["id"] for audit in json.loads(listed.stdout)]
    assert result["id"] in CliRunner().invoke(app, ["history"]).stdout
    shown = CliRunner().invoke(app, ["show", result["id"][:12]])
    assert result["verdict"].upper() in shown.stdout


def test_the_same_again_executes_nothing(first: tuple[Workplace, int, dict[str, Any]]) -> None:
    place, code, result = first
    again = place.run()
    assert again[0] == code
    assert (again[1]["steps_executed"], again[1]["steps_cached"], again[1]["id"]) == (0, 8, result["id"])


@pytest.mark.parametrize(
    ("setting", "steps"),
    [
        ("discrepancy.max_reference_share=0.002", STEPS[2:]),
        ("significance.alpha=0.01", STEPS[2:]),  # it says whether a search goes on
        ("significance.stability=1", STEPS[5:]),
        ("significance.spike_ins=1", ["control", *STEPS[6:]]),
        ("zero_shot={column: colour}", STEPS[5:]),
        ("policy=[{figure: rejections.count, fail: 5}]", STEPS[6:]),
    ],
)
def test_a_changed_setting_executes_what_depends_on_it(
    first: tuple[Workplace, int, dict[str, Any]], setting: str, steps: list[str]
) -> None:
    place, _, result = first
    _, other, _ = place.run("--set", setting)
    assert place.executed(other) == steps
    assert other["id"] != result["id"]


def test_intended_use_and_a_crosswalk_of_the_teams_own_are_in_the_record(
    first: tuple[Workplace, int, dict[str, Any]],
) -> None:
    place, _, result = first
    plain = AuditRecord.from_json(Path(result["paths"]["record"]).read_bytes())
    assert (plain.crosswalk, plain.intended_use) == (read_crosswalk(), IntendedUse())
    rows = [{"framework": "House rules", "reference": "Rule 1", "asks_for": "a test", "status": "part"}]
    ours = place.folder / "ours.yaml"
    ours.write_text(yaml.safe_dump({"title": "Ours", "as_of": "2026-11-01", "rows": rows}), encoding="utf-8")
    use = "{purpose: search of pictures, owner: the lab}"
    _, other, _ = place.run("--set", "report.crosswalk=ours.yaml", "--set", f"intended_use={use}")
    assert place.executed(other) == STEPS[6:]
    record = AuditRecord.from_json(Path(other["paths"]["record"]).read_bytes())
    assert record.crosswalk == read_crosswalk(ours)
    assert record.intended_use == IntendedUse(purpose="search of pictures", owner="the lab")
    assert "House rules" in Path(other["paths"]["html"]).read_text(encoding="utf-8")


def test_the_covariance_of_features_is_summed_once(
    first: tuple[Workplace, int, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another limit or count leaves the samples alone: G is an artifact of its own."""
    from koda.discrepancy import forms

    place, _, _ = first
    features = ["--set", "discrepancy.features=orf", "--set", "discrepancy.n_features=6"]
    _, result, _ = place.run(*features)
    kept = sorted((place.home / "artifacts" / "covariances").iterdir())
    assert len(kept) == 2  # one a question
    monkeypatch.setattr(forms, "summed", None)  # summing again would fail
    _, again, _ = place.run(*features, "--set", "discrepancy.max_reference_share=0.01")
    assert again["id"] != result["id"]
    assert sorted((place.home / "artifacts" / "covariances").iterdir()) == kept


def test_another_kernel_and_method_audit_too(first: tuple[Workplace, int, dict[str, Any]]) -> None:
    place, _, _ = first
    code, refused, _ = place.run("--set", "discrepancy.kernel=cosine")
    assert code == 2  # such small random models see nothing but one direction
    assert "ties everything together" in refused["error"]
    code, result, _ = place.run("--set", "discrepancy.sigma=matched", "--set", "discrepancy.method=spec")
    assert code in (0, 1), result
    record = AuditRecord.from_json((place.home / "audits" / result["id"] / "audit.json").read_bytes())
    assert "SPEC" in record.method.eps_rule
    assert "leading eigenvalues" in record.method.sigma_rule
    assert "bandwidth" not in " ".join(record.method.deviations)


def test_a_lost_artifact_is_made_again(first: tuple[Workplace, int, dict[str, Any]]) -> None:
    place, _, _ = first
    shutil.rmtree(place.home / "artifacts" / "evaluations")
    _, result, _ = place.run()
    assert place.executed(result) == ["evaluate"]


def test_fresh_executes_everything(first: tuple[Workplace, int, dict[str, Any]]) -> None:
    place, _, result = first
    _, again, _ = place.run("--fresh")
    assert place.executed(again) == STEPS
    assert again["id"] == result["id"]


def test_moved_data_and_models_are_recognised_by_content(
    first: tuple[Workplace, int, dict[str, Any]], tmp_path: Path
) -> None:
    place, _, _ = first
    shutil.copytree(place.folder / "data", tmp_path / "data")
    shutil.copytree(place.folder / "new", tmp_path / "new")
    _, result, _ = place.run(
        "--set", f"data.path={tmp_path}/data/pairs.tsv", "--set", f"candidate.name=local-dir:{tmp_path}/new"
    )
    assert place.executed(result) == ["record", "render"]


def test_a_model_against_itself_passes_with_no_finding(first: tuple[Workplace, int, dict[str, Any]]) -> None:
    place, _, _ = first
    code, result, _ = place.run("--set", "candidate.name=local-dir:" + str(place.folder / "old"))
    assert (code, result["verdict"], result["findings"]) == (0, "pass", [])
    record = AuditRecord.from_json(Path(result["paths"]["record"]).read_bytes())
    assert record.findings == []
    assert [step["name"] for step in result["steps"]] == ["embed baseline", *STEPS[2:]]
    assert list(record.provenance.artifacts) == STEPS[:6]  # the model is named twice, though embedded once
    assert "no discrepancy" in record.method.lost.status


def test_bad_images_are_recorded_and_counted(tmp_path: Path) -> None:
    place = make_workplace(tmp_path)
    (tmp_path / "data" / "7.png").write_bytes(b"broken")
    (tmp_path / "data" / "8.png").unlink()
    code, result, _ = place.run()
    record = AuditRecord.from_json(Path(result["paths"]["record"]).read_bytes())
    assert (record.data.n_source, record.data.n_compared, record.data.n_rejected) == (N, N - 2, 2)
    assert {item.key for item in record.data.rejections} == {"k007", "k008"}
    assert record.data.ledger is not None
    assert {item.kind: item.count for item in record.data.ledger.rejected} == record.data.rejection_reasons
    assert record.data.ledger.n_compared == N - 2
    rejections = next(rule for rule in record.verdict.rules if rule.figure == "rejections.share")
    assert rejections.result == "warn"
    code, result, _ = place.run("--set", "data.max_rejected=1")
    assert code == 2
    assert "more than the limit" in result["error"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"discrepancy.n_direction": 3}, "did you mean 'n_directions'"),
        ({"data.path": "/no/such.tsv"}, "does not exist"),
        ({"candidate.name": "local-dir:/no/such/model"}, "does not exist"),
        ({"candidate.name": "local-dir:empty"}, "no weights"),
        ({"data.image_column": "picture"}, "no column 'picture'"),
        ({"policy": "[{figure: lost.max_shar, fail: 1}]"}, "Did you mean 'lost.max_share'"),
    ],
)
def test_bad_input_exits_with_2_and_leaves_nothing(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    place = make_workplace(tmp_path)
    shutil.copytree(tmp_path / "new", tmp_path / "empty")
    (tmp_path / "empty" / "open_clip_model.safetensors").unlink()
    arguments = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    code, result, stderr = place.run(*arguments)
    assert code == 2
    assert words in result["error"]
    assert "Traceback" not in stderr
    assert words in stderr
    assert not (place.home / "audits").exists()


def test_a_data_set_with_no_usable_image_is_refused(tmp_path: Path) -> None:
    place = make_workplace(tmp_path)
    for path in (tmp_path / "data").glob("*.png"):
        path.write_bytes(path.name.encode())
    code, result, _ = place.run()
    assert code == 2
    assert "no usable pair" in result["error"] or "embedded by both models" in result["error"]
    assert not (place.home / "audits").exists()


def test_the_controls_are_in_record_report_and_database(first: tuple[Workplace, int, dict[str, Any]]) -> None:
    place, _, _ = first
    policy = "policy=[{figure: rejections.count, fail: 5}]"
    code, result, _ = place.run("--set", "significance.spike_ins=1", "--set", policy)
    record = AuditRecord.from_json(Path(result["paths"]["record"]).read_bytes())
    assert record.controls is not None
    assert [row.trials for row in record.controls.spike_ins] == [1]  # smaller ones are no group of so few
    assert record.controls.blind  # of so few samples
    assert (code, result["verdict"]) == (0, "inconclusive")
    assert "could not have seen a loss" in result["reasons"][0]
    assert result["not_judged"] == record.verdict.left_out == []  # the policy is not the default
    assert result["could_have_seen"] in Path(result["paths"]["html"]).read_text(encoding="utf-8")
    with duckdb.connect(str(place.home / "koda.duckdb"), read_only=True) as connection:
        rows = connection.execute(
            "SELECT kind, count(*) FROM controls WHERE audit_id = ? GROUP BY kind ORDER BY kind", [result["id"]]
        ).fetchall()
        (ties,) = connection.execute(
            "SELECT count(DISTINCT tie) FROM bandwidths WHERE audit_id = ?", [result["id"]]
        ).fetchone()  # type: ignore[misc]
    assert rows == [("self", 2), ("spike-in", 1)]
    assert ties == (3 if record.findings else 0)


def test_the_figures_beside_the_findings_are_in_the_record(first: tuple[Workplace, int, dict[str, Any]]) -> None:
    place, _, _ = first
    _, result, _ = place.run("--set", "zero_shot={column: colour}")
    metrics = AuditRecord.from_json(Path(result["paths"]["record"]).read_bytes()).metrics
    assert {(r.role, str(r.subset)) for r in metrics.retrieval} >= {("baseline", "all"), ("candidate", "all")}
    names = [str(r.subset) for r in metrics.retrieval if r.role == "baseline"]
    assert [str(d.subset) for d in metrics.retrieval_differences] == names
    assert all(f"rest of {name}" in names for name in names if name.startswith(("lost", "gained")))
    for d in metrics.retrieval_differences:
        old, new = ([r for r in metrics.retrieval if (r.role, r.subset) == (role, d.subset)] for role in ROLES)
        for part in ("image_to_text", "text_to_image"):
            for at, estimate in getattr(d, part).items():
                expected = getattr(new[0], part)[at].value - getattr(old[0], part)[at].value
                assert estimate.value == pytest.approx(expected)
    assert metrics.zero_shot is not None
    assert metrics.zero_shot.classes == ["blue", "green", "red"]
    assert metrics.zero_shot.n_labelled == N
    whole = [a for a in metrics.zero_shot.accuracies if a.subset == ALL]
    assert [(a.role, a.n, list(a.top)) for a in whole] == [(role, N, ["top-1"]) for role in ROLES]
    assert {curve.side for curve in metrics.quotients} == {"lost", "gained"}
    for curve in metrics.quotients:
        quantiles = [p.quantile for p in curve.points]  # at the largest there may be no discrepancy left
        assert quantiles == [round(0.1 * i, 1) for i in range(1, 1 + len(quantiles))]
        assert len(quantiles) >= 9
        assert curve.points[0].eps < curve.points[-1].eps
    assert set(metrics.whole) == {"image", "text"}
    assert {(c.side, c.role) for c in metrics.clusters} == {
        (side, role) for side in ("lost", "gained") for role in ("target", "reference")
    }


def test_the_found_subset_is_measured_beside_the_full_set(first: tuple[Workplace, int, dict[str, Any]]) -> None:
    """The paper's comparison, recomputed from the embeddings and the listed slices by plain numpy."""
    place, _, result = first
    record = AuditRecord.from_json(Path(result["paths"]["record"]).read_bytes())
    with Path(result["paths"]["slices"]).open(encoding="utf-8", newline="") as file:
        listed = [row for row in csv.DictReader(file) if row["lobe"] == "positive" and int(row["rank"]) <= 50]
    found = {side: {row["key"] for row in listed if row["side"] == side} for side in ("lost", "gained")}
    assert all(found.values())
    plan = prepare(load_config(place.config), place.home)
    tables = {role: load_embeddings(plan.artifacts, plan.embedding_key(role), plan.dataset) for role in ROLES}
    for role, table in tables.items():
        image, text = (
            np.asarray(part, dtype=np.float64) / np.linalg.norm(part, axis=1, keepdims=True)
            for part in (table.image, table.text)
        )
        scores = image @ text.T  # (n, n)
        own = scores.diagonal()
        hits = {
            "image_to_text": (scores >= own[:, None] - 1e-6).sum(axis=1) == 1,
            "text_to_image": (scores >= own[None, :] - 1e-6).sum(axis=0) == 1,
        }
        for subset, keys in {"all": set(table.keys), **{f"found {side}": keys for side, keys in found.items()}}.items():
            inside = np.array([key in keys for key in table.keys])
            (recall,) = [r for r in record.metrics.retrieval if (r.role, str(r.subset)) == (role, subset)]
            assert (recall.n, recall.n_gallery) == (inside.sum(), N)
            for way, hit in hits.items():
                assert getattr(recall, way)["R@1"].value == pytest.approx(hit[inside].mean())
    for score in record.metrics.clusters:
        assert score.n == len(found[score.side])


def test_a_zero_shot_column_that_is_not_there_is_refused(first: tuple[Workplace, int, dict[str, Any]]) -> None:
    place, _, _ = first
    code, result, _ = place.run("--set", "zero_shot={column: color}")
    assert code == 2
    assert "Did you mean 'colour'?" in result["error"]
