"""The database: rows of an audit, several writers, migrations."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from koda.errors import StoreError
from koda.records import AuditRecord, Theme
from koda.storage.database import AuditStore
from tests.holder import hold
from tests.report.factory import aligned
from tests.report.factory import record as make_record


def add_audit(store: AuditStore, record: AuditRecord, slices: list[dict[str, object]]) -> list[str]:
    store.stage_audit(record, slices)
    return store.merged()


def add_run(store: AuditStore, run: dict[str, object]) -> list[str]:
    store.stage_run(run)
    return store.merged()


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
    assert store.record_digest(record.id) is None
    for _ in range(2):
        add_audit(store, record, rows(record.id))
    assert store.record_digest(record.id) is not None
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
    add_audit(store, record, [])
    add_run(store, {**run(1), "audit_id": record.id})
    (audit,) = store.list_audits()
    assert audit["id"] == record.id
    assert audit["runs"] == 1


def _add(home: str, number: int) -> None:
    add_run(AuditStore(Path(home)), run(number))


def test_processes_that_write_at_once_all_get_through(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        pool.starmap(_add, [(str(tmp_path), number) for number in range(9)])
    AuditStore(tmp_path).merge()  # on a busy machine one may have been too long in turn to wait for
    assert AuditStore(tmp_path).query("SELECT count(*) AS n FROM runs")[0]["n"] == 9


def test_threads_that_write_and_read_at_once_all_get_through(tmp_path: Path) -> None:
    store = AuditStore(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        notes = pool.map(lambda number: add_run(store, run(number)), range(8))
        looks = pool.map(lambda _: store.query("SELECT count(*) AS n FROM runs"), range(4))
        assert (len(list(notes)), len(list(looks))) == (8, 4)
    store.merge()  # on a busy machine one may have been too long in turn to wait for
    assert len(store.query("SELECT * FROM runs")) == 8


def test_what_a_killed_process_staged_is_merged_by_the_next(tmp_path: Path) -> None:
    store = AuditStore(tmp_path)
    store.stage_run(run(1))
    (tmp_path / "staging" / ".new-half").mkdir()
    add_run(store, run(2))
    assert store.query("SELECT count(*) AS n FROM runs")[0]["n"] == 2


def test_a_newer_schema_and_a_broken_file_are_refused(tmp_path: Path) -> None:
    store = AuditStore(tmp_path / "a")
    add_run(store, run(1))
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
        add_audit(store, made, [])
    store.add_alignment(aligned().model_copy(update={"audit_id": before.id}), after.id, "models/aligned")
    assert {audit["id"]: audit["aligned_after"] for audit in store.list_audits()} == {
        after.id: before.id,
        before.id: None,
    }


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("koda.storage.connection.PATIENCE_SECONDS", 0.2)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("read_only", [True, False])
def test_a_database_that_someone_has_open_stops_nothing(tmp_path: Path, read_only: bool) -> None:
    store = AuditStore(tmp_path)
    add_run(store, run(1))
    holder = hold(store.path, read_only=read_only)
    try:
        notes = add_run(store, run(2))
        if read_only:
            assert [row["run_id"] for row in store.query("SELECT run_id FROM runs")] == ["r1"]
        else:
            with pytest.raises(StoreError, match=rf"(?s)is open in .*process {holder.pid}.*Close it"):
                store.query("SELECT run_id FROM runs")
    finally:
        holder.kill()
        holder.wait()
    assert f"(process {holder.pid})" in " ".join(notes)
    assert add_run(store, run(3)) == []
    assert [row["run_id"] for row in store.query("SELECT run_id FROM runs ORDER BY run_id")] == ["r1", "r2", "r3"]


@pytest.mark.usefixtures("hasty")
def test_a_connection_of_this_very_process_stops_nothing_either(tmp_path: Path) -> None:
    store = AuditStore(tmp_path)
    add_run(store, run(1))
    with duckdb.connect(str(store.path), read_only=True):
        assert "open in another connection" in " ".join(add_run(store, run(2)))
    assert store.merge() == []
    assert len(store.query("SELECT * FROM runs")) == 2


def test_looking_needs_no_right_to_write(tmp_path: Path) -> None:
    store = AuditStore(tmp_path / "home")
    assert store.query("SELECT * FROM runs") == []
    assert not store.home.exists()
    add_run(store, run(1))
    before = {path: path.stat().st_mtime_ns for path in store.home.rglob("*")}
    store.path.chmod(0o400)
    store.home.chmod(0o500)
    try:
        assert len(store.query("SELECT * FROM runs")) == 1
    finally:
        store.home.chmod(0o700)
    assert {path: path.stat().st_mtime_ns for path in store.home.rglob("*")} == before


NAMES = [
    "a%2Fb", "a?b=c", "a#b", "lr=0.1", "a b", "back\\slash", "q'uo\"te", "glob[1]*{x}", "ä", "a:b", "~", "$HOME",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_home_may_have_any_name(tmp_path: Path, name: str) -> None:
    store, record = AuditStore(tmp_path / name / "home"), make_record()
    add_audit(store, record, rows(record.id))
    add_run(store, {**run(1), "audit_id": record.id})
    assert [audit["runs"] for audit in store.list_audits()] == [1]
    assert len(store.query("SELECT * FROM slices")) == 2
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_damaged_database_is_not_taken_for_a_locked_one_by_the_words_of_its_path(tmp_path: Path) -> None:
    store = AuditStore(tmp_path / "Could not set lock on file" / "no space")
    add_run(store, run(1))
    data = bytearray(store.path.read_bytes())
    for place in range(4096, len(data), 4096):
        data[place + 100] ^= 0xFF
    store.path.write_bytes(data)
    begun = time.monotonic()
    with pytest.raises(StoreError, match=r"(?s)cannot be used.*koda history --rebuild"):
        store.query("SELECT * FROM runs")
    assert time.monotonic() - begun < 3
    assert "history --rebuild" in " ".join(add_run(store, run(2)))  # and the audit goes on


def test_a_staged_folder_that_cannot_be_merged_is_set_aside_and_the_others_are_merged(tmp_path: Path) -> None:
    store = AuditStore(tmp_path)
    store.stage_run(run(1))
    (staged,) = (tmp_path / "staging").iterdir()
    (staged / "runs.parquet").write_bytes(b"PAR1 and then nothing")
    store.stage_run({"run_id": "r2", "of_a_newer_koda": 1})
    store.stage_run(run(0))
    latest = max((tmp_path / "staging").iterdir()) / "runs.parquet"
    latest.write_bytes(latest.read_bytes().replace(b"pass", b"fail"))
    notes = add_run(store, run(3))
    assert [row["run_id"] for row in store.query("SELECT run_id FROM runs")] == ["r3"]
    assert len(notes) == 3
    assert str(staged) in notes[0]
    assert "holds other bytes than when it was written" in notes[2]
    assert len(list((tmp_path / "staging-aside").iterdir())) == 3
    assert add_run(store, run(4)) == []


def test_leftovers_of_a_process_that_was_killed_while_staging_are_removed(tmp_path: Path) -> None:
    store = AuditStore(tmp_path)
    (tmp_path / "staging" / ".new-half").mkdir(parents=True)
    add_run(store, run(1))
    assert not list((tmp_path / "staging").iterdir())


def test_a_merge_that_is_killed_while_it_removes_what_it_has_stored_leaves_nothing_that_looks_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = AuditStore(tmp_path)
    store.stage_run(run(1))

    def killed(folder: Path, ignore_errors: bool = False) -> None:
        next(folder.glob("*.parquet")).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("koda.storage.staging.shutil.rmtree", killed)
        store.merge()
    assert add_run(store, run(2)) == []
    assert not list((tmp_path / "staging").iterdir())
    assert sorted(row["run_id"] for row in store.query("SELECT run_id FROM runs")) == ["r1", "r2"]


def test_a_database_that_is_set_aside_takes_nothing_with_it(tmp_path: Path) -> None:
    store = AuditStore(tmp_path)
    assert store.set_aside() is None
    add_run(store, run(1))
    kept = store.set_aside()
    assert kept is not None
    assert add_run(store, run(2)) == []
    with duckdb.connect(str(kept), read_only=True) as connection:
        assert connection.execute("SELECT run_id FROM runs").fetchall() == [("r1",)]
    assert [row["run_id"] for row in store.query("SELECT run_id FROM runs")] == ["r2"]
