"""One Prefect server for all processes of a test run; left to themselves, each would start one with every service.

Where it will listen is settled before the workers start, so that they inherit it; the first test that runs a flow
starts it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from filelock import FileLock

from flows.environment import settle

_FOLDER = "KODA_TEST_PREFECT"  # variable that tells the workers where the server's files lie
_EMPTY = "empty.db"  # a database with all tables, of a server that ran nothing
_SECONDS_TO_START = 120


def choose() -> None:
    """Choose a folder and a port, and have Prefect use them in this process and in those that it starts."""
    if _FOLDER in os.environ or "PREFECT_API_URL" in os.environ:
        return
    folder = tempfile.mkdtemp(prefix="koda-prefect-")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {_FOLDER: folder, "PREFECT_HOME": folder, "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    settle()


def start() -> None:
    """Start the server, unless another process of this run has."""
    if _FOLDER not in os.environ:
        return
    _without_heartbeats()
    folder, url = Path(os.environ[_FOLDER]), os.environ["PREFECT_API_URL"]
    with FileLock(folder / "server.lock"):
        if (folder / "server.pid").exists():
            return
        port = url.rpartition(":")[2].partition("/")[0]
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
        with (folder / "server.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "--no-services"], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        (folder / "server.pid").write_text(str(process.pid), encoding="utf-8")
        give_up = time.monotonic() + _SECONDS_TO_START
        while not _answers(f"{url}/health"):
            if process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"Prefect's server did not start:\n{(folder / 'server.log').read_text()}")
            time.sleep(0.2)
        with sqlite3.connect(folder / "prefect.db") as database, sqlite3.connect(folder / _EMPTY) as copy:
            database.backup(copy)
        database.close()
        copy.close()
        _let_all_work(url)


def _without_heartbeats() -> None:
    """Run the flows of this process as with a server of koda's own: Prefect waits for heartbeats when a flow ends."""
    from prefect.flow_engine import BaseFlowRunEngine

    assert hasattr(BaseFlowRunEngine, "heartbeat_seconds")
    BaseFlowRunEngine.heartbeat_seconds = property(lambda _: None)  # type: ignore[assignment]


def _let_all_work(url: str) -> None:
    """Make the limit `koda-home` a wide one: the server serves all tests at once, and frees no place of the killed."""
    limit = json.dumps({"name": "koda-home", "limit": 1000}).encode()
    request = urllib.request.Request(f"{url}/v2/concurrency_limits/", limit, {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=30).close()


def stop() -> None:
    """Stop the server and remove its files; for the process that chose them."""
    folder = Path(os.environ.pop(_FOLDER, "/nowhere"))
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        os.killpg(int((folder / "server.pid").read_text(encoding="utf-8")), signal.SIGTERM)
    shutil.rmtree(folder, ignore_errors=True)


def furnish(home: Path) -> None:
    """Give a KODA_HOME a database for Prefect, which its first server would make in eight seconds."""
    start()
    (home / "prefect").mkdir(parents=True)
    shutil.copy(Path(os.environ[_FOLDER]) / _EMPTY, home / "prefect" / "prefect.db")


def without() -> dict[str, str]:
    """Return the environment of a command that starts a server of its own, as at a user's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_") and name != _FOLDER}


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
