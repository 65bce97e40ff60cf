"""Signals end an audit and its server soon, with their exit code, and the same command takes up what was finished."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

from koda.storage.database import AuditStore
from tests import prefect_server
from tests.flows.test_signals import as_in_a_terminal
from tests.flows.workplace import Workplace, make_workplace

pytestmark = pytest.mark.xdist_group("signals")  # they share what is costly to make

_COMMAND = [sys.executable, "-c", "from flows.cli import main; main()"]
_SECONDS_TO_END = 10


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    place = make_workplace(tmp_path_factory.mktemp("place"))
    prefect_server.furnish(place.home)
    return place


@pytest.fixture(scope="module")
def environment(place: Workplace) -> dict[str, str]:
    return {**prefect_server.without(), "KODA_HOME": str(place.home), "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    ("number", "code", "step", "state"),
    [
        (signal.SIGINT, 130, "embed baseline", "cancelled"),
        (signal.SIGTERM, 143, "embed candidate", "cancelled"),
        (signal.SIGKILL, -9, "evaluate", "crashed"),
    ],
)
def test_an_audit_that_is_stopped_leaves_no_process_and_a_whole_store(
    place: Workplace, environment: dict[str, str], number: signal.Signals, code: int, step: str, state: str
) -> None:
    process = subprocess.Popen(
        [*_COMMAND, "audit", str(place.config)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=as_in_a_terminal,
    )
    assert process.stderr is not None
    while step not in (line := process.stderr.readline()):
        assert line, "the audit ended before the step"
    time.sleep(random.Random(code).uniform(0, 0.3))
    family = psutil.Process(process.pid).children(recursive=True)
    assert any("server_process" in " ".join(child.cmdline()) for child in family)
    os.killpg(process.pid, number)  # as a terminal does
    process.communicate(timeout=_SECONDS_TO_END)
    assert process.returncode == code
    _, alive = psutil.wait_procs(family, timeout=_SECONDS_TO_END)
    for left in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            assert left.status() == psutil.STATUS_ZOMBIE
    subprocess.run([*_COMMAND, "history"], env=environment, capture_output=True)  # it tells of runs without a last word
    store = AuditStore(place.home)
    store.merge()
    assert store.query("SELECT state FROM runs ORDER BY started")[-1]["state"] == state
    content = subprocess.run([*_COMMAND, "doctor", "--store"], env=environment, capture_output=True, text=True)
    assert content.returncode == 0, content.stdout


def test_the_same_command_finishes_what_was_stopped(place: Workplace, environment: dict[str, str]) -> None:
    again = subprocess.run(
        [*_COMMAND, "audit", str(place.config), "--json"], env=environment, capture_output=True, text=True, timeout=300
    )
    assert again.returncode in (0, 1), again.stderr
    result = json.loads(again.stdout)
    assert [step["executed"] for step in result["steps"][:4]] == [False] * 4
    assert result["steps"][-1]["executed"]
    check = subprocess.run([*_COMMAND, "verify", result["paths"]["folder"]], env=environment, capture_output=True)
    assert check.returncode == 0
