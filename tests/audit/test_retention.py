"""What `koda prune` removes and what stays: by age, by size, beside runs that go on, and after it was killed."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from koda.audit.pruning import Pruned, prune, sweep_pruned, when_pruned
from koda.audit.references import REFERENCES, Key, note_references
from koda.audit.retention import Retention
from koda.audit.runs import running
from koda.errors import StoreError
from koda.storage import ArtifactStore, digest_json, write_atomically
from koda.storage.database import AuditStore
from koda.storage.staging import staged

NOW = datetime.now(UTC)
OLD, RECENT = NOW - timedelta(days=100), NOW - timedelta(days=10)
KEEP = Retention(keep=timedelta(days=90))


class Home:
    """A KODA_HOME whose artifacts are a thousand bytes each, and as old as is said."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.artifacts = ArtifactStore(path / "artifacts")

    def make(self, kind: str, key: str, made: datetime = OLD, size: int = 1000) -> Key:
        folder = self.artifacts.folder(kind, key)
        write_atomically(folder / "content.bin", key[:1].encode() * size)
        self.artifacts.complete(kind, key)
        self.age(folder, made)
        return kind, key

    def age(self, folder: Path, made: datetime) -> None:
        for path in [*folder.rglob("*"), folder]:
            os.utime(path, (made.timestamp(), made.timestamp()))

    def ask(self, audit: str, when: datetime, *artifacts: Key) -> None:
        """Note that an audit was asked for at a time, and what it refers to."""
        note_references(self.path, audit, artifacts)
        path = self.path / REFERENCES / f"{audit}.json"
        content = {**json.loads(path.read_bytes()), "asked": when.isoformat()}
        del content["seal"]
        path.write_text(json.dumps({**content, "seal": digest_json(content)}), encoding="utf-8")

    def record(self, audit: str, ended: datetime, *artifacts: Key) -> None:
        """Leave the record of an audit of an older koda, which names artifacts by digest."""
        digests = {kind: self.artifacts.digest(kind, key) for kind, key in artifacts}
        record = {"id": audit, "ended": ended.isoformat(), "provenance": {"artifacts": digests}}
        write_atomically(self.path / "audits" / audit / "audit.json", json.dumps(record).encode())

    def there(self) -> set[str]:
        return {f"{path.parent.parent.name}/{path.parent.name}" for path in self.artifacts.root.glob("*/*/content.bin")}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def gone(pruned: Pruned) -> set[str]:
    return {f"{each.item.kind}/{each.item.key}" for each in pruned.removals}


def all_files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_what_only_old_audits_refer_to_goes_and_records_and_reports_stay(home: Home) -> None:
    shared, own = home.make("embeddings", "shared"), home.make("embeddings", "own")
    orphan, young = home.make("solutions", "orphan"), home.make("solutions", "young", RECENT)
    stay = [home.make("records", "record"), home.make("reports", "report")]
    home.ask("audit-old", OLD, shared, own, *stay)
    home.ask("audit-recent", RECENT, shared)
    before = all_files(home.path)
    planned = prune(home.path, KEEP, dry_run=True)
    assert all_files(home.path) == before
    pruned = prune(home.path, KEEP)
    assert gone(planned) == gone(pruned) == {"embeddings/own", "solutions/orphan"}
    assert home.there() == {"embeddings/shared", "solutions/young", "records/record", "reports/report"}
    assert planned.freed == pruned.freed == pruned.before - pruned.after > 2000
    assert {each.audits for each in pruned.removals} == {("audit-old",), ()}
    assert pruned.log is not None
    listed = json.loads(pruned.log.read_bytes())
    assert listed["removed"] == planned.to_json()["removed"]
    assert when_pruned(home.path, *own) is not None
    assert when_pruned(home.path, *young) is None
    assert not prune(home.path, KEEP).removals
    assert [path.name for path in home.artifacts.root.iterdir() if path.name.startswith("pruned")] == []
    assert orphan[1] not in str(list(home.artifacts.root.rglob("*")))  # neither its lock


def test_the_audits_asked_for_the_longest_ago_go_first_until_it_fits(home: Home) -> None:
    first, second = home.make("embeddings", "first"), home.make("embeddings", "second")
    cheap = home.make("controls", "cheap")
    home.make("evaluations", "orphan")
    fresh = home.make("evaluations", "fresh orphan", NOW)
    home.ask("audit-first", OLD, first, cheap)
    home.ask("audit-second", RECENT, second)
    each = (prune(home.path, Retention(max_bytes=0), dry_run=True).before) // 5

    def left(most: int) -> set[str]:
        return home.there() - gone(prune(home.path, Retention(max_bytes=most), dry_run=True))

    assert left(5 * each + 99) == home.there()
    assert home.there() - left(4 * each + 99) == {"evaluations/orphan"}
    assert home.there() - left(3 * each + 99) == {"evaluations/orphan", "controls/cheap"}
    assert left(2 * each + 99) == {"embeddings/second", "/".join(fresh)}
    home.make("reports", "large", size=5000)
    pruned = prune(home.path, Retention(max_bytes=3000))
    assert home.there() == {"reports/large"}
    assert any("still take" in note for note in pruned.notes)


def test_both_options_remove_what_is_old_and_then_what_it_takes(home: Home) -> None:
    old, first, second = (home.make("embeddings", name) for name in ("old", "first", "second"))
    home.ask("audit-old", OLD, old)
    home.ask("audit-first", RECENT, first)
    home.ask("audit-second", RECENT + timedelta(days=1), second)
    prune(home.path, Retention(KEEP.keep, 2000))
    assert home.there() == {"embeddings/second"}


def test_what_a_run_needs_stays_whatever_is_asked(home: Home) -> None:
    needed, other = home.make("embeddings", "needed"), home.make("embeddings", "other")
    home.ask("audit-old", OLD, needed, other)
    with running(home.path, "audit-old", [needed]):
        prune(home.path, Retention(KEEP.keep, 0))
        assert home.there() == {"embeddings/needed"}
    prune(home.path, KEEP)
    assert home.there() == set()


def test_models_in_the_store_that_an_audit_names_stay_as_long_as_it_does(home: Home) -> None:
    embedded, aligned = home.make("embeddings", "e1"), home.make("alignments", "a1")
    folder = home.artifacts.root
    config = {
        "baseline": {"name": f"embeddings:{folder}/embeddings/e1"},
        "candidate": {"name": "ViT-B-32", "pretrained": f"{folder}/alignments/a1/model/weights.safetensors"},
        "data": {"path": "/elsewhere/artifacts/embeddings/e2"},
    }
    assert home.artifacts.named_in(config) == [embedded, aligned]
    record = {"id": "audit-1", "ended": RECENT.isoformat(), "config": config, "provenance": {"artifacts": {}}}
    write_atomically(home.path / "audits" / "audit-1" / "audit.json", json.dumps(record).encode())
    assert gone(prune(home.path, KEEP)) == set()
    home.ask("audit-1", RECENT, *home.artifacts.named_in(config))
    assert gone(prune(home.path, KEEP)) == set()


def test_nothing_goes_while_the_mark_of_a_run_that_goes_on_is_damaged(home: Home) -> None:
    key = home.make("embeddings", "needed")
    with running(home.path, "audit-0", [key]) as run:
        mark = home.path / "running" / f"{run.id}.json"
        whole = mark.read_bytes()
        for damaged in (whole.replace(b"needed", b"neeeed"), whole[:20], b""):
            mark.write_bytes(damaged)
            with pytest.raises(StoreError, match="Wait until the run has ended"):
                prune(home.path, KEEP)
    assert home.there() == {"embeddings/needed"}
    mark.write_bytes(whole[:20])  # of a run that is over
    prune(home.path, KEEP)
    assert home.there() == set()


def test_what_another_process_is_at_stays(home: Home) -> None:
    key = home.make("embeddings", "at work")
    with home.artifacts.lock(*key):
        pruned = prune(home.path, KEEP)
    assert not pruned.removals
    assert "another process is at it" in pruned.notes[0]
    assert home.there() == {"embeddings/at work"}


def test_an_audit_without_a_note_is_known_by_its_digests_and_the_database(home: Home) -> None:
    kept, old = home.make("embeddings", "kept"), home.make("embeddings", "old", size=1001)
    covariance, noted = home.make("covariances", "of either"), home.make("covariances", "noted")
    home.record("audit-kept", OLD, kept)
    home.record("audit-old", OLD, old)
    home.ask("audit-noted", OLD, noted)
    store = AuditStore(home.path)
    store.stage_run({"run_id": "last", "audit_id": "audit-kept", "ended": RECENT})
    store.merge()
    pruned = prune(home.path, KEEP)
    assert gone(pruned) == {"/".join(old), "/".join(noted)}
    assert home.there() == {"/".join(kept), "/".join(covariance)}


def test_a_damaged_note_is_said_and_the_record_tells_instead(home: Home) -> None:
    kept, other = home.make("embeddings", "kept"), home.make("embeddings", "other", size=1001)
    home.record("audit-kept", RECENT, kept)
    home.ask("audit-kept", RECENT, kept, other)
    note = home.path / REFERENCES / "audit-kept.json"
    note.write_bytes(note.read_bytes().replace(b"other", b"othes"))
    pruned = prune(home.path, KEEP)
    assert any(str(note) in told for told in pruned.notes)
    assert home.there() == {"embeddings/kept"}


def test_leftovers_go_when_they_are_old_and_nobody_is_at_them(home: Home) -> None:
    for name, made in (("old", OLD), ("new", NOW)):
        folder = home.artifacts.folder("embeddings", name)
        write_atomically(folder / "content.bin", b"unfinished")
        home.age(folder, made)
    replaced = home.artifacts.root / "replaced" / "solutions-again"
    home.make("solutions", "again", NOW)
    write_atomically(replaced / "content.bin", b"former")
    home.age(replaced, OLD)
    pruned = prune(home.path, Retention(max_bytes=10**9))
    assert gone(pruned) == {"embeddings/old", "solutions/again"}
    assert home.there() == {"embeddings/new", "solutions/again"}
    assert not replaced.exists()


def test_what_killed_runs_exchanged_goes_and_what_is_being_exchanged_stays(home: Home) -> None:
    home.make("embeddings", "kept", NOW)
    for name in ("run-dead", "run-alive"):
        write_atomically(home.path / "exchange" / name / "sums", b"x" * 500)
    with home.artifacts.lock("exchange", "run-gone"), home.artifacts.lock("exchange", "run-dead"):
        pass
    with home.artifacts.lock("exchange", "run-alive"):
        before = all_files(home.path)
        told = prune(home.path, KEEP, dry_run=True)
        assert all_files(home.path) == before
        pruned = prune(home.path, KEEP)
        assert [path.name for path in (home.artifacts.root / "locks").glob("exchange-*")] == ["exchange-run-alive.lock"]
    for each in (told, pruned):
        assert (gone(each), each.freed) == ({"exchange/run-dead"}, 500)
        assert "workers of a run that was killed" in each.removals[0].why
    assert [path.name for path in (home.path / "exchange").iterdir()] == ["run-alive"]


def test_what_a_killed_prune_left_is_swept_and_nothing_else(home: Home) -> None:
    home.make("embeddings", "kept", NOW)
    for sweep in (sweep_pruned, lambda path: prune(path, KEEP)):
        left = home.artifacts.root / "pruned-0123"
        write_atomically(left / "embeddings-gone" / "content.bin", b"x")
        sweep(home.path)
        assert not left.exists()
    assert home.there() == {"embeddings/kept"}


def test_files_of_locks_go_with_what_they_guard_unless_someone_holds_them(home: Home) -> None:
    home.make("embeddings", "there", NOW)
    for key in ("there", "gone", "held"):
        with home.artifacts.lock("embeddings", key):
            pass
    with home.artifacts.lock("embeddings", "held"):
        prune(home.path, KEEP)
        locks = {path.name for path in (home.artifacts.root / "locks").glob("embeddings-*")}
    assert locks == {"embeddings-there.lock", "embeddings-held.lock"}


def run(home: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    os.environ["KODA_HOME"] = str(home)
    answer = CliRunner().invoke(app, ["prune", *arguments, "--json"])
    assert answer.exception is None or isinstance(answer.exception, SystemExit), answer.exception
    return answer.exit_code, json.loads(answer.stdout)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "--keep 90d"),
        (("--keep", "90"), "no span of time"),
        (("--keep", "0d"), "no span of time"),
        (("--keep", "-3d"), "no span of time"),
        (("--keep", "999999999w"), "no span of time"),
        (("--max-size", "50"), "no size"),
        (("--max-size", "lots"), "no size"),
    ],
)
def test_a_wrong_option_is_refused_in_words(home: Home, arguments: tuple[str, ...], told: str) -> None:
    home.make("embeddings", "there")
    code, answer = run(home.path, *arguments)
    assert code == 2
    assert told in answer["error"]
    assert home.there() == {"embeddings/there"}


def test_the_command_says_what_went(home: Home) -> None:
    assert run(home.path, "--keep", "90d")[1]["removed"] == []  # there is nothing yet
    home.make("embeddings", "gone", size=2000)
    code, answer = run(home.path, "--keep", "12w", "--max-size", "1.5 GiB", "--dry-run")
    assert (code, answer["dry_run"], len(answer["removed"])) == (0, True, 1)
    answer = run(home.path, "--keep", "36h")[1]
    (removed,) = answer["removed"]
    assert (removed["kind"], removed["key"], removed["audits"]) == ("embeddings", "gone", [])
    assert "no audit refers to it" in removed["why"]
    assert json.loads(Path(answer["log"]).read_bytes())["removed"] == answer["removed"]
    shown = CliRunner().invoke(app, ["prune", "--keep", "90d"])
    assert "0 artifacts removed" in shown.stdout


def test_rows_that_wait_are_stored(home: Home) -> None:
    AuditStore(home.path).stage_run({"run_id": "last", "audit_id": "audit-kept", "ended": RECENT})
    prune(home.path, KEEP, dry_run=True)
    assert staged(home.path)
    prune(home.path, KEEP)
    assert not staged(home.path) and AuditStore(home.path).query("SELECT run_id FROM runs") == [{"run_id": "last"}]


def test_a_database_that_is_held_open_is_no_reason_to_guess(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess
    import sys

    monkeypatch.setattr("koda.storage.connection.PATIENCE_SECONDS", 0.1)
    key = home.make("embeddings", "kept")
    AuditStore(home.path).stage_run({"run_id": "last", "audit_id": "audit-kept", "ended": RECENT})
    AuditStore(home.path).merge()
    opened = f"c = duckdb.connect({str(home.path / 'koda.duckdb')!r})"
    program = f"import duckdb, time; {opened}; print('open', flush=True); time.sleep(300)"
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        home.ask("audit-noted", RECENT, key)
        assert run(home.path, "--keep", "90d")[0] == 0  # notes alone say it all
        home.record("audit-kept", OLD, key)
        code, answer = run(home.path, "--keep", "90d")
    finally:
        holder.kill()
        holder.wait()
    assert code == 3
    assert f"process {holder.pid}" in answer["error"]
    assert home.there() == {"embeddings/kept"}
