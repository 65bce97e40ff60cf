"""A store that an earlier koda wrote is read, verified and gone on with; the keys of its artifacts are still those.

`old_store/store.tar.xz` was written by koda 0.1.0 before its modules moved: two audits of two embedding folders of
160 samples, the second with another policy and level, with the folders, the configuration and the database.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from typer.testing import CliRunner

from flows.cli import app
from koda.audit.plan import AuditPlan, prepare
from koda.config import AuditConfig, load_config
from koda.embeddings import EmbeddingTable
from koda.records import AuditRecord

FIRST, SECOND = "audit-1d1ad163e1bd", "audit-f4dc5e0a52ac"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the store as `koda-runs`, which is KODA_HOME, and with what was audited."""
    shutil.unpack_archive(Path(__file__).parent / "old_store" / "store.tar.xz", tmp_path, filter="data")
    monkeypatch.setattr("koda.audit.plan.__version__", "0.1.0")  # part of the keys
    return tmp_path


def run(*arguments: str) -> Any:
    answer = CliRunner().invoke(app, [*arguments, "--json"])
    assert answer.exit_code in (0, 1), answer.stderr
    return json.loads(answer.stdout)


def planned(folder: Path) -> AuditPlan:
    return prepare(load_config(folder / "audit.yaml"), folder / "koda-runs")


def test_what_it_holds_is_listed_shown_and_compared(folder: Path) -> None:
    listed = {audit["id"]: audit["verdict"] for audit in run("history")}
    for name in (FIRST, SECOND):
        record = AuditRecord.from_json((folder / "koda-runs" / "audits" / name / "audit.json").read_bytes())
        assert listed.pop(name) == record.verdict.status
        assert run("show", name)["findings"] == record.model_dump(mode="json")["findings"]
        assert name in CliRunner().invoke(app, ["show", name]).stderr
    assert not listed
    changes = run("diff", FIRST, SECOND)
    assert (changes["before"], changes["after"], changes["verdict_after"]) == (FIRST, SECOND, "pass")
    assert {row["name"] for row in changes["config"]} >= {"significance.alpha"}


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_its_audits_verify(folder: Path, name: str) -> None:
    result = run("verify", str(folder / "koda-runs" / "audits" / name))
    assert (result["id"], result["verified"]) == (name, True)
    assert set(result["files"]) == {"audit.json", "report.html", "slices.csv", "verdict.json"}


def test_the_keys_of_its_artifacts_have_not_changed(folder: Path) -> None:
    plan = planned(folder)
    assert {step.name: step.key for step in plan.steps() if step.name not in ("record", "render")} == {
        "embed baseline": "2e28b84f01b08e0439b3f509b47270c9bcd0cde541e957cf5e1a9eaff758de46",
        "embed candidate": "49e5188629142fa15755fa097cf1e79b80bf89146ea6ec127b5fb3a0eb39123c",
        "discover lost": "13c495034969eeef6fee31fe53268f030df0284deb8db6cecb8a311a8a459dea",
        "discover gained": "e0e6deca07e5c61fe4e3e050a5c221e5e91601c3cef947bac319c9da99a6f0ca",
        "evaluate": "f736d9d0a52cf9882ccf664fce799f5e0163aea9f1d0c649ab4289387ca29c9e",
    }
    assert plan.covariance_key("lost") == "2bb0937f14a76457a98e2a369df85ab0750d503b4d5f9547a7d72272ac5950fa"
    assert plan.covariance_key("gained") == "6974e13e44102039412ca2fa33e687b4eada6a3baf86dcf91bab5733a8dedae6"
    # the key of a record holds where the data lay
    record = AuditRecord.from_json((folder / "koda-runs" / "audits" / FIRST / "audit.json").read_bytes())
    there = replace(plan.dataset, path=record.data.path)
    moved = replace(plan, config=AuditConfig.model_validate(record.config), dataset=there)
    assert moved.record_key == "1d1ad163e1bdad790148ae4b87769e8d0e6f65b5c9eed978c5b74108e2e835ef"
    assert moved.audit_id == FIRST


def test_a_new_audit_takes_up_its_artifacts_and_lies_beside_the_old_ones(folder: Path) -> None:
    result = run("audit", str(folder / "audit.yaml"))
    assert [step["name"] for step in result["steps"] if step["executed"]] == ["record", "render"]
    assert result["id"] not in (FIRST, SECOND)
    assert {audit["id"] for audit in run("history")} == {FIRST, SECOND, result["id"]}
    record = AuditRecord.from_json(Path(result["paths"]["record"]).read_bytes())
    old = AuditRecord.from_json((folder / "koda-runs" / "audits" / FIRST / "audit.json").read_bytes())
    assert record.findings[0].target_share == old.findings[0].target_share
    assert record.provenance.artifacts == old.provenance.artifacts
    assert record.changes is not None and record.changes.before == SECOND  # the last of the same line
    assert run("verify", result["paths"]["folder"])["verified"]
    with duckdb.connect(str(folder / "koda-runs" / "koda.duckdb"), read_only=True) as connection:
        assert connection.execute("SELECT count(DISTINCT audit_id) FROM directions").fetchone() == (3,)


def test_its_embeddings_are_exported(folder: Path) -> None:
    result = run("audit", str(folder / "audit.yaml"))
    written = run("export", result["id"], "--out", str(folder / "out"))
    for role, name in (("baseline", "old"), ("candidate", "new")):
        source = EmbeddingTable.load(folder / name)
        table = EmbeddingTable.load(Path(written[role]["folder"]))
        assert table.keys == source.keys
        assert np.array_equal(np.asarray(table.image, dtype=np.float32), np.asarray(source.image, dtype=np.float32))


def test_a_database_from_before_alignments_is_brought_up_to_date(folder: Path) -> None:
    path = folder / "koda-runs" / "koda.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("DROP TABLE alignments; DROP TABLE alignment_metrics")
        connection.execute("DELETE FROM schema_version WHERE version > 1")
    assert {audit["id"] for audit in run("history")} == {FIRST, SECOND}
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.execute("SELECT max(version) FROM schema_version").fetchone() == (4,)
        for table in ("alignments", "themes"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
