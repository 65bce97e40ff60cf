"""A store of two hundred audits (forty in a short run): pruned, every audit still verifies and is drawn again."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from koda.audit.folders import AUDITS, read_record
from koda.audit.plan import EVALUATIONS, RECORDS, REPORTS, AuditPlan, prepare
from koda.audit.publishing import _put_files, _read_record
from koda.audit.references import REFERENCES, note_references
from koda.audit.retention import PRUNED
from koda.audit.runs import Run
from koda.config import load_config
from koda.policy.export import verdict_json
from koda.report import render
from koda.storage import ArtifactStore, digest_json
from koda.storage.database import AuditStore
from tests import prefect_server
from tests.e2e.nursery import Nursery
from tests.e2e.scale import SHORT
from tests.flows.workplace import Workplace, make_workplace

N = 40 if SHORT else 200
SHARED = 4  # audits that share their embeddings
DAYS = 400 // N  # from one audit to the next: the oldest is some 400 days old
KEPT = 90 // DAYS  # of them, beside the first


def run(*arguments: str, expected: int = 0) -> dict[str, Any]:
    answer = CliRunner().invoke(app, [*arguments, "--json"])
    assert answer.exit_code == expected, answer.stderr
    return dict(json.loads(answer.stdout))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, dict[str, Any]]:
    """Return a store of many audits: one that ran, and copies of it under other ids, each some days older."""
    prefect_server.start()
    place = make_workplace(tmp_path_factory.mktemp("work"))
    result = place.run("--set", "discrepancy.features=orf", "--set", "discrepancy.n_features=6")[1]
    plan = prepare(load_config(place.config, {"discrepancy.features": "orf", "discrepancy.n_features": 6}), place.home)
    for number in range(1, N):
        _copy(plan, number)
    database = AuditStore(place.home)
    assert database.merge() == []
    return place, result


def _copy(plan: AuditPlan, number: int) -> None:
    """Store the audit once more, under another id, with artifacts of its own, as if it had run some days ago."""
    store, when = plan.artifacts, datetime.now(UTC) - timedelta(days=DAYS * number)
    audit, keys, digests = f"audit-{number:012x}", [], {}
    step_of = {step.key: step.name for step in plan.steps()}
    in_order = sorted(plan.needs(), key=lambda key: key[0] in (RECORDS, REPORTS))
    for kind, key in in_order:
        own = digest_json([key, number // SHARED if kind == "embeddings" else number])
        keys.append((kind, own))
        folder = store.folder(kind, own)
        if not store.has(kind, own):
            shutil.copytree(store.folder(kind, key), folder)
            (folder / "complete.json").unlink()
            if kind in PRUNED:
                (folder / "copy.txt").write_text(own, encoding="utf-8")  # so that no two have one digest
            if kind == RECORDS:
                record, _ = store.read(kind, key, _read_record)
                made_of = record.provenance.model_copy(update={"artifacts": digests})
                again = record.model_copy(update={"id": audit, "ended": when, "provenance": made_of})
                (folder / "audit.json").write_text(again.to_json(), encoding="utf-8")
                (folder / "verdict.json").write_bytes(verdict_json(again))
            if kind == REPORTS:
                render(*_read_record(store.folder(*keys[-2])), folder, pdf=False)
            store.complete(kind, own)
            for path in [*folder.rglob("*"), folder]:
                os.utime(path, (when.timestamp(), when.timestamp()))
        if key in step_of and kind in PRUNED:
            digests[step_of[key]] = store.digest(kind, own)
    own_of = dict(keys)
    reports, records = store.folder(REPORTS, own_of[REPORTS]), store.folder(RECORDS, own_of[RECORDS])
    _put_files(audit, reports, records, plan.home / AUDITS / audit)
    if number % 2:  # the others are of an older koda, which left no notes
        note_references(plan.home, audit, keys)
        note = plan.home / REFERENCES / f"{audit}.json"
        content = {**json.loads(note.read_bytes()), "asked": when.isoformat()}
        del content["seal"]
        note.write_text(json.dumps({**content, "seal": digest_json(content)}), encoding="utf-8")
    ran = Run(digest_json(number)[:32], audit, when, 1, "here", "command", ())
    database = AuditStore(plan.home)
    database.stage_audit(read_record(plan.home / AUDITS / audit / "audit.json"), [])
    database.stage_run(ran.row("finished", when, verdict="pass", steps_executed=8, steps_cached=0))


def test_a_store_of_many_audits_is_pruned(store: tuple[Workplace, dict[str, Any]], tmp_path: Path) -> None:
    place, first = store
    os.environ["KODA_HOME"] = str(place.home)
    artifacts = ArtifactStore(place.home / "artifacts")
    before = {path: path.stat().st_size for path in place.home.rglob("*") if path.is_file()}

    listed = run("prune", "--keep", "90d", "--dry-run")
    assert {path: path.stat().st_size for path in place.home.rglob("*") if path.is_file()} == before
    assert len(listed["removed"]) > 5 * (N - KEPT - 5)
    assert {entry["kind"] for entry in listed["removed"]} == set(PRUNED)

    pruned = run("prune", "--keep", "90d")
    assert pruned["removed"] == listed["removed"]
    assert pruned["bytes"] == listed["bytes"] == listed["bytes_before"] - pruned["bytes_after"]
    assert sum(path.stat().st_size for path in place.home.rglob("*") if path.is_file()) < sum(before.values())
    gone = {(entry["kind"], entry["key"]) for entry in pruned["removed"]}
    assert not [key for key in gone if artifacts.folder(*key).exists()]
    kept = [kind for kind in (EVALUATIONS, "embeddings") for _ in (artifacts.root / kind).iterdir()]
    assert len(kept) > KEPT

    audits = sorted(path.name for path in (place.home / AUDITS).iterdir())
    assert len(audits) == N == len(list((artifacts.root / RECORDS).iterdir()))
    for audit in audits:
        assert run("verify", audit)["verified"]
    drawn = 0
    for folder in sorted((artifacts.root / RECORDS).iterdir()):
        record, thumbnails = artifacts.read(RECORDS, folder.name, _read_record)
        render(record, thumbnails, tmp_path / "again", pdf=False)
        report = (place.home / AUDITS / record.id / "report.html").read_bytes()
        drawn += (tmp_path / "again" / "report.html").read_bytes() == report
    assert drawn == N
    assert len(json.loads(CliRunner().invoke(app, ["history", "--json"]).stdout)) == N
    assert run("show", first["id"])["verdict"]["status"] == first["verdict"]

    assert run("prune", "--keep", "90d")["removed"] == []
    small = run("prune", "--max-size", "1kB")
    assert any("still take" in note for note in small["notes"])
    assert not [path for kind in PRUNED for path in (artifacts.root / kind).iterdir()]
    for audit in audits:
        assert run("verify", audit)["verified"]

    told = run("export", first["id"], "--out", str(tmp_path / "out"), expected=2)["error"]
    assert "were pruned" in told
    assert "koda audit" in told
    features = ["--set", "discrepancy.features=orf", "--set", "discrepancy.n_features=6"]
    code, again, _ = place.run(*features)
    assert code in (0, 1)
    assert (again["id"], again["verdict"]) == (first["id"], first["verdict"])
    assert set(place.executed(again)) == {step["name"] for step in again["steps"]} - {"record", "render"}
    assert run("verify", first["id"])["verified"]
    assert run("export", first["id"], "--out", str(tmp_path / "out"))["baseline"]["n"] == 90


def test_old_runs_are_removed_from_the_prefect_that_is_koda_s_own(tmp_path: Path) -> None:
    place = make_workplace(tmp_path)
    prefect_server.furnish(place.home)
    nursery = Nursery(tmp_path, {**prefect_server.without(), "KODA_HOME": str(place.home), "OMP_NUM_THREADS": "1"})

    def command(*arguments: str) -> dict[str, Any]:
        code = nursery.run(place.home, *arguments, "--json")
        assert code in (0, 1), nursery.last.said
        return dict(json.loads(nursery.last.answer))

    for _ in range(2):
        result = command("audit", str(place.config))
    database = place.home / "prefect" / "prefect.db"
    with sqlite3.connect(database) as connection:
        connection.execute(
            "UPDATE flow_run SET end_time = '2020-01-01 00:00:00.000000' "
            "WHERE id = (SELECT id FROM flow_run ORDER BY end_time LIMIT 1)"
        )
    connection.close()
    (told,) = command("prune", "--keep", "90d")["notes"]
    assert told.startswith("1 run older than --keep removed")
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM flow_run").fetchone() == (1,)
    connection.close()
    notes = command("prune", "--max-size", "1kB")["notes"]
    assert any("removed from Prefect's results" in note for note in notes)
    kept = [path.name for path in (place.home / "prefect" / "storage").glob("koda-made-*")]
    assert len(kept) == 2  # of the record and the report, which stay
    again = command("audit", str(place.config))
    assert (again["id"], again["verdict"], again["steps_cached"]) == (result["id"], result["verdict"], 2)
    nursery.close()
