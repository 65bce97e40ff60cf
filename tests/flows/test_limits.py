"""The time limit of a run ends it, and the limits gpu and koda-home bound how many go on."""

from __future__ import annotations

import contextvars
import hashlib
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner

import flows.limits
from flows.cli.app import app
from flows.engine import koda_flow
from flows.limits import TimeLimitError, time_limit
from flows.observation import of_prefect
from flows.runs import marked
from koda.audit.runs import crashed, running, take_untold
from koda.errors import MachineError
from koda.storage.database import AuditStore
from tasks import slots
from tasks.waiting import not_counted

SOON = 0.2 / 60
_STUCK = """
import hashlib, sys
from pathlib import Path
import flows.limits
from flows.limits import time_limit
from flows.signals import stoppable
from koda.audit.runs import running
flows.limits._SECONDS_TO_END = 0.3
with stoppable(), time_limit(0.2 / 60), running(Path(sys.argv[1]), "audit-1", []):
    hashlib.pbkdf2_hmac("md5", b"", b"", 10**9)
"""
_HOLDER = """
import sys, time
from pathlib import Path
import flows
from tasks.slots import _locked
with _locked(sys.argv[2], Path(sys.argv[1]), 1):
    print("held", flush=True)
    time.sleep(60)
"""


def states(home: Path) -> list[str]:
    store = AuditStore(home)
    store.merge()
    return [row["state"] for row in store.query("SELECT state FROM runs")]


def test_what_waits_in_the_main_thread_is_ended_and_its_run_stored(tmp_path: Path) -> None:
    with (
        pytest.raises(TimeLimitError, match=r"limit of 0\.00333333 minutes was reached") as told,
        time_limit(SOON),
        running(tmp_path, "audit-1", []),
    ):
        time.sleep(60)
    assert told.value.exit_code == 3 and "same command again" in str(told.value)
    assert states(tmp_path) == ["timed out"]


def test_an_ordinary_error_that_it_was_turned_into_is_told_as_the_limit() -> None:
    with pytest.raises(TimeLimitError), time_limit(SOON):
        try:
            time.sleep(60)
        except BaseException as error:
            raise RuntimeError("broken off") from error


def test_of_two_limits_the_one_that_is_reached_is_told() -> None:
    with pytest.raises(TimeLimitError, match=r"0\.00333"), time_limit(SOON), time_limit(5):
        time.sleep(60)
    with pytest.raises(TimeLimitError, match=r"0\.00333"), time_limit(5), time_limit(SOON):
        time.sleep(60)


def in_a_thread(work: Any) -> list[BaseException | None]:
    ended: list[BaseException | None] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            ended.append(error)
        else:
            ended.append(None)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    return ended


def test_another_thread_is_ended_too_and_its_process_never(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows.limits, "_SECONDS_TO_END", 0.05)

    def work() -> None:
        with time_limit(SOON):
            for _ in range(10**6):  # each is in native code for a while
                hashlib.pbkdf2_hmac("md5", b"", b"", 10**6)

    (error,) = in_a_thread(work)
    assert isinstance(error, TimeLimitError)


def test_a_limit_that_is_not_reached_says_nothing() -> None:
    with time_limit(5), time_limit(None):
        pass
    with time_limit(SOON), not_counted():
        time.sleep(0.4)


def test_a_native_function_that_does_not_return_ends_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _STUCK, str(tmp_path)], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 3
    assert "limit of 0.00333333 minutes was reached" in done.stderr and "Traceback" not in done.stderr
    assert states(tmp_path) == ["timed out"]


def test_prefect_is_told_that_a_run_timed_out(tmp_path: Path) -> None:
    known: list[Any] = []

    @koda_flow("slow")
    def slow(home: str) -> None:
        context = FlowRunContext.get()
        assert context is not None and context.flow_run is not None
        known.append(context.flow_run.id)
        with marked(Path(home), "audit-1", []):
            time.sleep(60)

    with pytest.raises(TimeLimitError), time_limit(2 / 60):
        slow(str(tmp_path))
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(known[0]).state
    assert state is not None and (state.type.value, state.name) == ("FAILED", "TimedOut")
    assert states(tmp_path) == ["timed out"]


_CRASHES = """
import os, signal, sys
from pathlib import Path
from flows.engine import koda_flow
from flows.runs import marked
@koda_flow("crashes")
def crashes(home):
    with marked(Path(home), "audit-1", []):
        os.kill(os.getpid(), signal.SIGKILL)
crashes(sys.argv[1])
"""


def test_prefect_is_told_by_the_next_run_of_one_that_was_killed(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _CRASHES, str(tmp_path)], check=False, timeout=200)
    (lost,) = crashed(tmp_path)
    assert lost.flow_run is not None and lost.server == PREFECT_API_URL.value()

    @koda_flow("next")
    def following(home: str) -> str:
        with marked(Path(home), "audit-2", []), get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(lost.flow_run)).state
        assert state is not None
        return str(state.type.value)

    assert following(str(tmp_path)) == "CRASHED"
    assert states(tmp_path) == ["crashed"]


def test_a_mark_names_the_server_without_its_credentials() -> None:
    @koda_flow("known")
    def known(home: str) -> dict[str, Any]:
        with temporary_settings({PREFECT_API_URL: "http://me:hidden@host:4200/api"}):
            return of_prefect()

    assert known("home")["server"] == "http://host:4200/api"


def test_history_tells_of_a_killed_run_and_leaves_it_to_the_next_run_to_tell_prefect(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _CRASHES, str(tmp_path)], check=False, timeout=200)
    runner = CliRunner(env={"KODA_HOME": str(tmp_path)})
    assert "crashed audit-1" in runner.invoke(app, ["history"]).stderr
    assert "crashed" not in runner.invoke(app, ["history"]).stderr
    assert states(tmp_path) == ["crashed"] and len(take_untold(tmp_path)) == 1


_SERVED = """
import sys, time
from pathlib import Path
from flows.engine import koda_flow
from flows.runs import marked
from prefect.flow_engine import run_flow
@koda_flow("served")
def served(home):
    with marked(Path(home), "audit-1", []):
        print("ready", flush=True)
        time.sleep(60)
run_flow(served, parameters={"home": sys.argv[1]})
"""


def test_a_served_run_that_prefect_cancels_is_stored_as_cancelled(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", _SERVED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert states(tmp_path) == ["cancelled"] and not crashed(tmp_path)


def test_a_limit_of_prefect_is_made_once_and_one_that_is_there_is_left(tmp_path: Path) -> None:
    mine, theirs = f"a-{uuid.uuid4().hex}", f"b-{uuid.uuid4().hex}"
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=theirs, limit=7))
    assert [slots.limit_of(mine, 2), slots.limit_of(mine, 3), slots.limit_of(theirs, 2)] == [2, 2, 7]
    with slots.place(mine, tmp_path, 2, lambda: None), get_client(sync_client=True) as client:
        assert client.read_global_concurrency_limit_by_name(mine).active_slots == 1
    with get_client(sync_client=True) as client:
        assert client.read_global_concurrency_limit_by_name(mine).active_slots == 0


def test_without_a_server_a_place_is_free_again_when_its_holder_is_killed(tmp_path: Path) -> None:
    name = f"c-{uuid.uuid4().hex}"
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, str(tmp_path), name], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    got: list[str] = []

    def wait() -> None:
        with slots._locked(name, tmp_path, 1):
            got.append("a place")

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.5)
    assert not got
    holder.kill()
    holder.communicate()
    waiting.join(60)
    assert got


def test_a_place_on_a_server_is_not_one_that_a_command_without_it_holds_and_waiting_is_not_timed(
    tmp_path: Path,
) -> None:
    name = f"d-{uuid.uuid4().hex}"
    told, got = threading.Event(), []

    def wait() -> None:
        with time_limit(SOON), slots.place(name, tmp_path, 1, told.set):
            got.append("a place")

    with slots._locked(name, tmp_path, 1):
        waiting = threading.Thread(target=contextvars.copy_context().run, args=(wait,))
        waiting.start()
        assert told.wait(60) and not got
    waiting.join(60)
    assert got


def test_a_run_within_a_run_takes_no_second_place(tmp_path: Path) -> None:
    with marked(tmp_path, "align-1", []), marked(tmp_path, "audit-1", []):
        pass


def test_a_server_that_never_answers_is_said_so() -> None:
    @koda_flow("never")
    def never(home: str) -> None:
        raise AssertionError("it ran")

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        with temporary_settings({PREFECT_API_URL: url}), pytest.raises(MachineError, match="no Prefect server answers"):
            never("home")
