"""What `koda doctor --store` finds in a home, and that it writes nothing there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from koda.audit.consistency import check_store
from koda.audit.folders import AUDITS, assemble
from koda.checks import Check
from koda.storage import ArtifactStore, digest_once
from koda.storage.database import AuditStore
from koda.storage.staging import stage
from tests.report import factory

AUDIT = "audit-77b0aa"
KEY = "0" * 64


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a home with an artifact, an audit and its rows."""
    home = tmp_path / "runs"
    artifacts = ArtifactStore(home / "artifacts")
    folder = artifacts.folder("solutions", KEY)
    folder.mkdir(parents=True)
    (folder / "x.bin").write_bytes(bytes(1000))
    with artifacts.lock("solutions", KEY):
        artifacts.complete("solutions", KEY)
    record = factory.record(2, map_points=0, id=AUDIT)
    source = tmp_path / "audit.json"
    source.write_text(record.to_json(), encoding="utf-8")
    assemble(AUDIT, {"audit.json": source}, {"audit.json": digest_once(source)}, home / AUDITS / AUDIT)
    AuditStore(home).stage_audit(record, [])
    AuditStore(home).merge()
    return home


def wrong(home: Path) -> list[Check]:
    return [finding for finding in check_store(home) if finding.state != "ok"]


def test_a_whole_home_is_content_and_stays_as_it_is(home: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in home.rglob("*"))
    assert wrong(home) == []
    assert sorted((path, path.stat().st_mtime_ns) for path in home.rglob("*")) == before


def test_an_empty_home_is_content(tmp_path: Path) -> None:
    assert wrong(tmp_path) == []


def artifact(home: Path) -> Path:
    return home / "artifacts" / "solutions" / KEY


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def written(path: Path, data: bytes = b"x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def database(home: Path, sql: str) -> None:
    with duckdb.connect(str(home / "koda.duckdb")) as connection:
        connection.execute(sql)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte of an artifact": (lambda home: flip(artifact(home) / "x.bin"), "other bytes"),
    "a file of an artifact": (lambda home: (artifact(home) / "x.bin").unlink(), "cannot be read"),
    "a mark": (lambda home: flip(artifact(home) / "complete.json"), "is damaged"),
    "a record": (lambda home: flip(home / AUDITS / AUDIT / "audit.json"), "changed since"),
    "a manifest": (lambda home: (home / AUDITS / AUDIT / "manifest.json").unlink(), "has no manifest.json"),
    "a folder": (lambda home: (home / AUDITS / AUDIT).rename(home / "elsewhere"), "and no folder"),
    "a row": (lambda home: database(home, "DELETE FROM audits"), "no rows"),
    "rows of a table": (lambda home: database(home, "DELETE FROM directions"), "directions has 0"),
    "another record": (lambda home: database(home, "UPDATE audits SET record_digest = 'x'"), "another record"),
    "another verdict": (lambda home: database(home, "UPDATE audits SET verdict = 'x'"), "and x in the database"),
    "the database": (lambda home: (home / "koda.duckdb").write_bytes(b"none" * 5000), "cannot be used"),
    "no database": (lambda home: (home / "koda.duckdb").unlink(), "is not there"),
    "a row of the chain": (lambda home: database(home, "UPDATE chain SET ended = 'x'"), "row 1"),
    "the tail of the chain": (lambda home: database(home, "DELETE FROM chain"), "its tail is cut"),
    "the head of the chain": (lambda home: (home / "chain-head.json").write_bytes(b"{"), "not the head"),
    "the mark of a run": (lambda home: written(home / "running" / "a.json"), "no mark of a run"),
    "an entry of the ledger": (lambda home: written(home / "checkpoints" / "a.json"), "no entry"),
    "the seal of an entry": (
        lambda home: written(home / "checkpoints" / "a.json", json.dumps({"id": "a", "seal": "x"}).encode()),
        "its seal",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_damaged_or_does_not_agree_is_at_fault(home: Path, name: str) -> None:
    damage, words = FAULTS[name]
    damage(home)
    found = [finding for finding in check_store(home) if finding.state == "fault"]
    assert len(found) == 1 and words in found[0].found and found[0].remedy, found


UNFINISHED = ".0123456789012345.tmp"  # no part of it is a credential in another test, which koda would not print


def earlier_run(home: Path) -> Path:
    """Keep an audit's own files as those of an earlier run of it."""
    folder = home / AUDITS / AUDIT
    files = [path for path in folder.iterdir() if path.is_file()]
    run = folder / "runs" / "1"
    run.mkdir(parents=True)
    for path in files:
        shutil.copyfile(path, run / path.name)
    return run


NOTES: dict[str, tuple[Callable[[Path], object], str]] = {
    "unfinished": (lambda home: (artifact(home) / "complete.json").unlink(), "is unfinished"),
    "replaced": (lambda home: ArtifactStore(home / "artifacts").retire("solutions", KEY), "to be made anew"),
    "more": (lambda home: written(artifact(home) / "y.bin"), "in no mark"),
    "staged": (lambda home: stage(home, {"datasets": [{"digest": "d"}]}), "1 folder of rows"),
    "aside": (lambda home: (home / "staging-aside" / "1").mkdir(parents=True), "could not be stored"),
    "temporary": (lambda home: written(home / "index" / UNFINISHED), UNFINISHED),
    "half an audit": (lambda home: (home / AUDITS / f".{AUDIT}.xyz").mkdir(), f".{AUDIT}.xyz"),
    "former signatures": (lambda home: (home / AUDITS / AUDIT / ".signed.old").mkdir(), "stopped while it signed"),
    "former signatures of a run": (
        lambda home: (earlier_run(home) / ".signed.old").mkdir(),
        "runs/1/.signed.old: koda was stopped while it signed",
    ),
    "an exchange": (
        lambda home: written(home / "exchange" / "run-1" / "sums", b"x" * 2048),
        "exchange, 2.0 kB, of runs that were killed",
    ),
    "half a staging": (lambda home: (home / "staging" / ".new-1").mkdir(), ".new-1"),
    "a lock": (lambda home: written(home / "artifacts" / "locks" / "run-1.lock"), "the lock of no run"),
    "a checkpoint": (
        lambda home: written(home / "checkpoints" / "a.json", b'{"id": "a", "state": "ready"}'),
        "a is ready in the ledger, and not in the table",
    ),
}


@pytest.mark.parametrize("name", NOTES)
def test_what_waits_or_was_left_behind_is_a_note(home: Path, name: str) -> None:
    leave, words = NOTES[name]
    leave(home)
    found = wrong(home)
    assert len(found) == 1 and found[0].state == "note" and words in found[0].found and found[0].remedy, found


def test_rows_that_a_process_stages_now_are_no_leftovers(home: Path) -> None:
    with ArtifactStore(home / "artifacts").lock("database", "staging"):
        (home / "staging" / ".new-1").mkdir(parents=True)
        written(home / "staging" / ".new-1" / UNFINISHED)
        assert wrong(home) == []
    assert [finding.name for finding in wrong(home)] == ["leftovers"] * 2


def test_an_exchange_of_a_run_that_goes_on_is_no_leftover(home: Path) -> None:
    with ArtifactStore(home / "artifacts").lock("exchange", "run-1"):
        written(home / "exchange" / "run-1" / "sums")
        assert wrong(home) == []


def test_a_ledger_whose_table_cannot_be_read_is_said(home: Path) -> None:
    written(home / "checkpoints" / "a.json", b'{"id": "a", "state": "ready"}')
    written(home / "koda.duckdb", b"no database")
    (finding,) = (each for each in check_store(home) if each.name == "checkpoints")
    assert finding.state == "note" and "1 checkpoint in the ledger, not compared" in finding.found
    assert "!." not in finding.found


def test_the_command_says_what_is_at_fault_and_exits_with_1(home: Path) -> None:
    runner = CliRunner(env={"KODA_HOME": str(home)})
    content = runner.invoke(app, ["doctor", "--store"])
    assert content.exit_code == 0 and "1 audit as in the records" in content.stdout
    flip(artifact(home) / "x.bin")
    told = runner.invoke(app, ["doctor", "--store", "--json"])
    assert told.exit_code == 1
    (fault,) = [check for check in json.loads(told.stdout)["checks"] if check["state"] == "fault"]
    assert fault["found"].startswith(str(artifact(home))) and "made anew" in fault["remedy"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_may_only_be_read_can_be_looked_at(home: Path) -> None:
    folders = [home, *(path for path in home.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert wrong(home) == []
    finally:
        for folder in folders:
            folder.chmod(0o755)
