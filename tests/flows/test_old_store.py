"""A store that an earlier koda wrote is read, verified and gone on with; its embeddings are still found by their keys.

`old_store/store.tar.xz` was written by koda 0.1.0 before its modules moved: two audits of two embedding folders of
160 samples, the second with another policy and level, with the folders, the configuration and the database. Its records
are of version 1, with shares in raw units; since shares are in typical ties, what is searched and tested is made anew.
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
from koda.storage.database import AuditStore
from koda.storage.schema import MIGRATIONS

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
        assert (record.version, record.method.share_unit) == (1, "raw")
        assert run("show", name)["findings"] == record.model_dump(mode="json")["findings"]
        assert name in CliRunner().invoke(app, ["show", name]).stdout
    assert not listed
    changes = run("diff", FIRST, SECOND)
    assert (changes["before"], changes["after"], changes["verdict_after"]) == (FIRST, SECOND, "pass")
    assert {row["name"] for row in changes["config"]} >= {"significance.alpha"}


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_its_audits_verify(folder: Path, name: str) -> None:
    result = run("verify", str(folder / "koda-runs" / "audits" / name))
    assert (result["id"], result["verified"]) == (name, True)
    assert set(result["files"]) == {"audit.json", "report.html", "slices.csv", "verdict.json"}


def test_nothing_of_it_is_taken_for_what_this_koda_would_make(folder: Path) -> None:
    plan = planned(folder)
    kept = {path.name for path in (folder / "koda-runs" / "artifacts").glob("*/*")}
    former = {
        # fingerprints hold more than they did: files of the tokenizer, versions of libraries
        "embed baseline": "2e28b84f01b08e0439b3f509b47270c9bcd0cde541e957cf5e1a9eaff758de46",
        "embed candidate": "49e5188629142fa15755fa097cf1e79b80bf89146ea6ec127b5fb3a0eb39123c",
        "discover lost": "13c495034969eeef6fee31fe53268f030df0284deb8db6cecb8a311a8a459dea",
        "discover gained": "e0e6deca07e5c61fe4e3e050a5c221e5e91601c3cef947bac319c9da99a6f0ca",
        "evaluate": "f736d9d0a52cf9882ccf664fce799f5e0163aea9f1d0c649ab4289387ca29c9e",
    }
    assert kept >= set(former.values())
    # in other units and at other bandwidths these are other artifacts, even where every setting is the former one
    record = AuditRecord.from_json((folder / "koda-runs" / "audits" / FIRST / "audit.json").read_bytes())
    as_before = replace(plan, config=AuditConfig.model_validate(record.config))
    for each in (plan, as_before):
        assert not kept & {step.key for step in each.steps()}
        assert each.covariance_key("lost") != "2bb0937f14a76457a98e2a369df85ab0750d503b4d5f9547a7d72272ac5950fa"


def test_a_new_audit_lies_beside_the_old_ones(folder: Path) -> None:
    result = run("audit", str(folder / "audit.yaml"))
    assert all(step["executed"] for step in result["steps"])
    assert result["id"] not in (FIRST, SECOND)
    assert {audit["id"] for audit in run("history")} == {FIRST, SECOND, result["id"]}
    record = AuditRecord.from_json(Path(result["paths"]["record"]).read_bytes())
    old = AuditRecord.from_json((folder / "koda-runs" / "audits" / FIRST / "audit.json").read_bytes())
    assert (record.version, record.method.share_unit) == (5, "ties")
    now, then = record.provenance.artifacts, old.provenance.artifacts
    assert not set(now.items()) & set(then.items())
    assert record.changes is not None and record.changes.before == SECOND  # the last of the same line
    assert not record.changes.comparable
    told = run("diff", FIRST, result["id"])["not_comparable"]
    assert any("shares are in other units" in reason for reason in told)
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
    before = path.read_bytes()
    assert {audit["id"] for audit in run("history")} == {FIRST, SECOND}
    assert path.read_bytes() == before  # to look at it changes nothing
    store = AuditStore(path.parent)
    store.stage_run({"run_id": "next", "audit_id": FIRST, "verdict": "pass"})
    assert store.merged() == []
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.execute("SELECT max(version) FROM schema_version").fetchone() == (len(MIGRATIONS),)
        for table in ("alignments", "themes"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
