"""Signals end the command soon, with their exit code, and leave neither a process nor half a result."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import prefect_server
from tests.flows.workplace import make_workplace

_WAITS = "import time; from flows.signals import stoppable\nwith stoppable():\n    print('ready', flush=True)\n    {}"
# some minutes in native code, where Python hears of no signal
_BUSY = (
    "import hashlib, flows.signals; flows.signals._SECONDS_TO_END = 0.5; hashlib.pbkdf2_hmac('md5', b'', b'', 10**9)"
)


def as_in_a_terminal() -> None:
    """Take back what the tests may have inherited: nohup ignores SIGHUP, and a job in the background SIGINT."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def started(body: str, before: Callable[[], object] = as_in_a_terminal) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _WAITS.format(body)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=before,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_each_signal_has_its_exit_code_and_its_words(number: signal.Signals, code: int) -> None:
    process = started("time.sleep(60)")
    process.send_signal(number)
    _, told = process.communicate(timeout=10)
    assert process.returncode == code
    assert "Run the same command again" in told and "Traceback" not in told


def test_native_code_that_does_not_end_is_ended() -> None:
    process = started(_BUSY)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=10)
    assert process.returncode == 143
    assert "Ended by SIGTERM" in told


def test_a_signal_that_another_handler_makes_an_error_of_has_its_exit_code_all_the_same() -> None:
    """As Prefect's does while a flow runs, and what it broke off."""
    process = started(
        "import signal\n    def fail(*_): raise ValueError\n    signal.signal(signal.SIGTERM, fail)\n"
        "    print('now', flush=True)\n    try: time.sleep(60)\n    except ValueError: raise SystemExit(3)"
    )
    assert process.stdout is not None and process.stdout.readline() == "now\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 143


def test_a_signal_that_is_ignored_stays_so() -> None:
    process = started("time.sleep(0.5)", lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=10)
    assert process.returncode == 0


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked for in /proc")
def test_an_audit_that_is_stopped_leaves_no_server_and_is_finished_by_the_next(tmp_path: Path) -> None:
    place = make_workplace(tmp_path)
    environment = {**prefect_server.without(), "KODA_HOME": str(place.home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from flows.cli import main; main()", "audit", str(place.config)]
    for number, code, step in ((signal.SIGINT, 130, "embed baseline"), (signal.SIGKILL, -9, "embed candidate")):
        process = subprocess.Popen(
            command,
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
        server = [pid for pid in children(process.pid) if "server_process" in command_of(pid)]
        assert len(server) == 1
        os.killpg(process.pid, number)  # as a terminal does
        process.communicate(timeout=10)
        assert process.returncode == code
        give_up = time.monotonic() + 10
        while "server_process" in command_of(server[0]):
            assert time.monotonic() < give_up, "the server outlived its parent"
            time.sleep(0.1)
    again = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, timeout=300)
    assert again.returncode in (0, 1), again.stderr
    result = json.loads(again.stdout)
    assert [step["executed"] for step in result["steps"][:3]] == [False, False, True]
    check = subprocess.run([*command[:3], "verify", result["paths"]["folder"]], env=environment, capture_output=True)
    assert check.returncode == 0


def children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if path.read_text().rpartition(")")[2].split()[1] == str(pid):
                found.append(int(path.parent.name))
    return found


def command_of(pid: int) -> str:
    """Return the command line of a process; nothing where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
