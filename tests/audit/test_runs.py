"""Runs leave a mark while they go on; how one ended is stored, also when nobody was left to say so."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from koda.audit.runs import (
    RUNNING,
    Run,
    crashed,
    end_without_word,
    needs_also,
    note_crashed,
    running,
    running_now,
    take_untold,
)
from koda.storage import ArtifactStore
from koda.storage.database import AuditStore

NEEDS = [("embeddings", "abc")]
_KILLED = """
import sys, time
from pathlib import Path
from koda.audit.runs import running
with running(Path(sys.argv[1]), "audit-1", [("embeddings", "abc")], flow_run="f", server="s"):
    print("ready", flush=True)
    time.sleep(60)
"""


def stored(home: Path) -> list[dict[str, Any]]:
    store = AuditStore(home)
    store.merge()
    return store.query("SELECT audit_id, state, error FROM runs ORDER BY started")


def kill_one(home: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", _KILLED, str(home)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    assert [run.process for run in running_now(home)] == [process.pid] and not crashed(home)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)


def test_a_run_is_marked_while_it_goes_on(tmp_path: Path) -> None:
    with running(tmp_path, "audit-1", NEEDS) as run:
        assert [found.id for found in running_now(tmp_path)] == [run.id] and not crashed(tmp_path)
        needs_also(tmp_path, run, [("solutions", "def"), *NEEDS])
        assert running_now(tmp_path)[0].artifacts == (("embeddings", "abc"), ("solutions", "def"))
    assert not running_now(tmp_path) and not list((tmp_path / RUNNING).iterdir())
    assert not list((tmp_path / "artifacts" / "locks").glob("run-*"))


class _TimedOut(BaseException):
    run_state = "timed out"


@pytest.mark.parametrize(
    ("error", "state"),
    [(ValueError("a\nb"), "failed"), (KeyboardInterrupt(), "cancelled"), (_TimedOut("late"), "timed out")],
)
def test_how_a_run_ended_is_stored(tmp_path: Path, error: BaseException, state: str) -> None:
    with pytest.raises(type(error)), running(tmp_path, "audit-1", NEEDS):
        raise error
    said = (str(error).splitlines() or [type(error).__name__])[0]
    assert stored(tmp_path) == [{"audit_id": "audit-1", "state": state, "error": said}]


def test_an_error_that_came_of_a_time_limit_is_stored_as_that(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), running(tmp_path, "audit-1", NEEDS):
        try:
            raise _TimedOut("late")
        except _TimedOut:
            raise RuntimeError("what it broke off") from None
    assert stored(tmp_path)[0]["state"] == "timed out"


def test_a_killed_run_is_stored_as_crashed_once(tmp_path: Path) -> None:
    kill_one(tmp_path)
    (lost,) = note_crashed(tmp_path)
    assert (lost.audit, lost.flow_run, lost.server) == ("audit-1", "f", "s")
    assert not note_crashed(tmp_path) and not crashed(tmp_path)
    assert [run.id for run in take_untold(tmp_path)] == [lost.id] and not take_untold(tmp_path)
    assert [(row["audit_id"], row["state"]) for row in stored(tmp_path)] == [("audit-1", "crashed")]
    assert not list((tmp_path / "artifacts" / "locks").glob("run-*"))


def test_a_run_that_ends_while_it_is_looked_at_has_not_crashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as going_on:
        going_on.enter_context(running(tmp_path, "audit-1", NEEDS))
        is_held = ArtifactStore.is_held

        def end_it_first(store: ArtifactStore, kind: str, key: str) -> bool:
            going_on.close()
            return is_held(store, kind, key)

        monkeypatch.setattr(ArtifactStore, "is_held", end_it_first)
        assert crashed(tmp_path) == [] == note_crashed(tmp_path)


def test_reading_a_home_shows_crashed_runs_and_writes_nothing(tmp_path: Path) -> None:
    kill_one(tmp_path)
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    assert [run.audit for run in crashed(tmp_path)] == ["audit-1"]
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before


def test_a_process_that_is_ended_by_force_says_so_of_its_runs(tmp_path: Path) -> None:
    with running(tmp_path, "audit-1", NEEDS):
        end_without_word("cancelled", "Ended by SIGTERM.")
        assert not crashed(tmp_path)
        assert stored(tmp_path) == [{"audit_id": "audit-1", "state": "cancelled", "error": "Ended by SIGTERM."}]


def test_a_mark_comes_back_as_it_was_written(tmp_path: Path) -> None:
    with running(tmp_path, "audit-1", NEEDS, trigger="schedule") as run:
        assert Run.from_json(run.to_json()) == run and run.process == os.getpid()
    with pytest.raises(ValueError):
        Run.from_json(b'{"id": 3}')
