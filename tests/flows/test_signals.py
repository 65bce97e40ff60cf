"""Signals end the command soon, with their exit code and their words; tests/e2e/test_signals.py does it to audits."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from koda.storage.database import AuditStore

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


def break_off(body: str) -> None:
    """Send SIGTERM when the body has said `now`; its exit code is to be that of the signal."""
    process = started(body)
    assert process.stdout is not None and process.stdout.readline() == "now\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 143


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
    break_off(
        "import signal\n    def fail(*_): raise ValueError\n    signal.signal(signal.SIGTERM, fail)\n"
        "    print('now', flush=True)\n    try: time.sleep(60)\n    except ValueError: raise SystemExit(3)"
    )


def test_a_run_that_a_signal_broke_off_with_an_error_was_cancelled(tmp_path: Path) -> None:
    break_off(
        "import pathlib; from flows.signals import told_as_signal; from koda.audit.runs import running\n"
        f"    with running(pathlib.Path({str(tmp_path)!r}), 'audit-1', []), told_as_signal():\n"
        "        print('now', flush=True)\n        try: time.sleep(60)\n"
        "        except BaseException: raise ValueError('half a file') from None"
    )
    store = AuditStore(tmp_path)
    assert store.merge() == []
    assert [row["state"] for row in store.query("SELECT state FROM runs")] == ["cancelled"]


def test_a_signal_that_is_ignored_stays_so() -> None:
    process = started("time.sleep(0.5)", lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=10)
    assert process.returncode == 0
