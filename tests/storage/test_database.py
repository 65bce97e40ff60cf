"""The database: rows of an audit, several writers, migrations."""

from __future__ import annotations

import multiprocessing
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from koda.errors import StoreError
from koda.records import Theme
from koda.storage.database import AuditStore
from tests.report.factory import aligned
from tests.report.factory import record as make_record


def rows(audit: str) -> list[dict[str, object]]:
    return [
        {
            "side": "lost", "direction": 1, "lobe": "positive", "rank": rank, "key": f"k{rank}", "score": 0.1 / rank,
            "in_slice": True, "split": "discovery", "caption": "a 'quoted' caption",
        }
        for rank in (1, 2)
    ]  # fmt: skip


def run(number: int) -> dict[str, object]:
    now = datetime.now(UTC)
    return {
        "run_id": f"r{number}", "audit_id": "a", "started": now, "ended": now, "verdict": "pass", "steps_executed": 0,
        "steps_cached": 7, "seconds": 1.0,
    }  # fmt: skip


def test_an_audit_is_stored_once_and_replaced_whole(tmp_path: Path) -> None:
    store, record = AuditStore(tmp_path / "home"), make_record()
    named = [f.model_copy(update={"name": f"name of {f.subset}"}) for f in record.findings]
    theme = Theme(side="lost", number=1, findings=[named[0].subset], name=named[0].name, size=85, confirmed=True)
    record = record.model_copy(update={"findings": named, "themes": [theme]})
    assert not store.has_audit(record.id)
    for _ in range(2):
        store.add_audit(record, rows(record.id))
    assert store.has_audit(record.id)
    counts = {
        table: store.query(f"SELECT count(*) AS n FROM {table}")[0]["n"]
        for table in ("audits", "directions", "themes", "slices", "models", "datasets", "rules")
    }
    assert counts == {
        "audits": 1,
        "directions": len(record.findings),
        "themes": 1,
        "slices": 2,
        "models": 2,
        "datasets": 1,
        "rules": len(record.verdict.rules),
    }
    (first,) = store.query("SELECT * FROM directions WHERE side = 'lost' AND direction = 1")
    finding = next(f for f in record.findings if (f.side, f.direction) == ("lost", 1))
    assert first["target_share"] == finding.target_share.value
    assert (first["name"], first["words"], first["theme"]) == (finding.name, finding.words, 1)
    assert store.query("SELECT count(*) AS n FROM directions WHERE theme IS NULL")[0]["n"] == len(named) - 1
    assert store.query("SELECT name, size, confirmed FROM themes") == [
        {"name": finding.name, "size": 85, "confirmed": True}
    ]
    assert not list((tmp_path / "home" / "staging").iterdir())


def test_audits_are_listed_with_their_runs(tmp_path: Path) -> None:
    store, record = AuditStore(tmp_path), make_record()
    store.add_audit(record, [])
    store.add_run({**run(1), "audit_id": record.id})
    (audit,) = store.list_audits()
    assert audit["id"] == record.id
    assert audit["runs"] == 1


def _add(home: str, number: int) -> None:
    AuditStore(Path(home)).add_run(run(number))


def test_processes_that_write_at_once_all_get_through(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        pool.starmap(_add, [(str(tmp_path), number) for number in range(9)])
    assert AuditStore(tmp_path).query("SELECT count(*) AS n FROM runs")[0]["n"] == 9


def test_what_a_killed_process_staged_is_merged_by_the_next(tmp_path: Path) -> None:
    store = AuditStore(tmp_path)
    store.stage_run(run(1))
    (tmp_path / "staging" / ".new-half").mkdir()
    store.add_run(run(2))
    assert store.query("SELECT count(*) AS n FROM runs")[0]["n"] == 2


def test_a_newer_schema_and_a_broken_file_are_refused(tmp_path: Path) -> None:
    store = AuditStore(tmp_path / "a")
    store.add_run(run(1))
    with duckdb.connect(str(store.path)) as connection:
        connection.execute("INSERT INTO schema_version VALUES (99, now())")
    with pytest.raises(StoreError, match="schema 99"):
        store.query("SELECT 1")
    broken = AuditStore(tmp_path / "b")
    broken.home.mkdir()
    broken.path.write_bytes(b"not a database at all")
    with pytest.raises(StoreError, match="cannot be used"):
        broken.query("SELECT 1")


def test_an_audit_of_an_aligned_model_is_listed_with_the_audit_before(tmp_path: Path) -> None:
    store, before = AuditStore(tmp_path), make_record()
    after = before.model_copy(update={"id": "audit-after"})
    for made in (before, after):
        store.add_audit(made, [])
    store.add_alignment(aligned().model_copy(update={"audit_id": before.id}), after.id, "models/aligned")
    assert {audit["id"]: audit["aligned_after"] for audit in store.list_audits()} == {
        after.id: before.id,
        before.id: None,
    }
