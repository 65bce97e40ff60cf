"""What Prefect shows of an audit: names, tags and artifacts, read back from its server."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact, FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import observation
from flows.prefect_artifacts import artifacts_of, safe_name
from koda.storage.database import AuditStore
from tests.flows.workplace import Workplace, make_workplace
from tests.report import factory


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, dict[str, Any]]:
    workplace = make_workplace(tmp_path_factory.mktemp("observed"))
    code, result, told = workplace.run("--set", "candidate.label=new <b>*one*")
    assert code in (0, 1), told
    return workplace, result


@pytest.fixture(scope="module")
def flow_run(audited: tuple[Workplace, dict[str, Any]]) -> FlowRun:
    workplace, _ = audited
    (row,) = AuditStore(workplace.home).query("SELECT flow_run FROM runs")
    with get_client(sync_client=True) as client:
        return client.read_flow_run(row["flow_run"])


def artifacts(run: FlowRun, key: str) -> list[Artifact]:
    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]), key=ArtifactFilterKey(any_=[key]))
    with get_client(sync_client=True) as client:
        return client.read_artifacts(artifact_filter=wanted)


def test_a_run_is_named_by_its_models_and_data_and_tagged(
    audited: tuple[Workplace, dict[str, Any]], flow_run: FlowRun
) -> None:
    _, result = audited
    assert flow_run.name == "new <b>*one* vs old on pairs"
    assert {f"verdict:{result['verdict']}", "baseline:old", "data:pairs"} <= set(flow_run.tags)
    assert flow_run.state is not None and flow_run.state.name == "Completed"


def test_the_artifacts_have_fixed_keys_and_say_what_came_of_it(
    audited: tuple[Workplace, dict[str, Any]], flow_run: FlowRun
) -> None:
    _, result = audited
    (table,) = artifacts(flow_run, "model-comparison")
    rows: Any = json.loads(table.data) if isinstance(table.data, str) else table.data  # it reads it itself
    assert {"figure", "baseline", "candidate", "difference"} <= rows[0].keys()
    assert any(row["figure"] == "R@1, image to caption" and row["difference"] for row in rows)
    (verdict,) = artifacts(flow_run, "verdict")
    assert result["verdict"].upper() in str(verdict.data) and result["id"] in str(verdict.data)
    assert r"new \<b\>\*one\*" in str(verdict.data)
    (link,) = artifacts(flow_run, "report-html")
    assert Path(result["paths"]["html"]).as_uri() in str(link.data)
    (progress,) = artifacts(flow_run, "koda-progress")
    assert float(progress.data) == 100  # type: ignore[arg-type]


def test_the_database_knows_what_each_step_took(audited: tuple[Workplace, dict[str, Any]]) -> None:
    workplace, result = audited
    rows = AuditStore(workplace.home).query("SELECT * FROM steps ORDER BY place")
    assert [row["step"] for row in rows] == [step["name"] for step in result["steps"]]
    assert all(row["peak_bytes"] > 2**20 and row["device"] == "cpu" and row["seconds"] >= 0 for row in rows)
    assert {row["peak_device_bytes"] for row in rows} == {None}


def test_figures_are_stored_with_their_intervals(audited: tuple[Workplace, dict[str, Any]]) -> None:
    workplace, result = audited
    rows = {row["figure"]: row for row in AuditStore(workplace.home).query("SELECT * FROM figures")}
    assert {"lost.max_share", "retrieval.drop", "rejections.share"} <= rows.keys()
    assert {row["audit_id"] for row in rows.values()} == {result["id"]}
    assert rows["retrieval.drop"]["low"] <= rows["retrieval.drop"]["value"] <= rows["retrieval.drop"]["high"]


def test_a_server_that_does_not_answer_neither_fails_nor_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens at the address; the end is waited for as long as there is something to tell, and no longer."""
    run = SimpleNamespace(id="0" * 8 + "-0000-0000-0000-" + "0" * 12, tags=[])
    monkeypatch.setattr(observation, "_flow_run", lambda: run)
    dataset = SimpleNamespace(name="pairs")
    plan: Any = SimpleNamespace(steps=lambda: (1, 2), label=lambda role: role, dataset=dataset, audit_id="a")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), observation.observed(plan) as observer:
        observer.step(1)


def test_names_from_outside_are_one_line_without_secrets_and_no_markup() -> None:
    assert safe_name("a\nb\x1b[2J") == r"a\nb\x1b[2J"
    assert "secret" not in safe_name("https://me:secret@host/data.tsv")
    assert len(safe_name("x" * 300)) == 80
    record = factory.record(3, map_points=0)
    shown = {artifact.key: artifact for artifact in artifacts_of(record, Path("/runs/a b/report.html"))}
    assert "file:///runs/a%20b/report.html" in shown["report-html"].data
    assert "# ✕ FAIL" in shown["verdict"].data and "lost 1" in shown["verdict"].data
    rows = json.loads(shown["model-comparison"].data)
    assert any(row["figure"].startswith("share of lost 1") for row in rows)
