"""The Prefect server that a run starts for itself: wherever its home is, and whatever becomes of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import prefect_server

_FLOW = """
import sys, time
from prefect.settings import get_current_settings
from flows.engine import koda_flow
from flows.server import own_server

@koda_flow("killed")
def body(home):
    own = own_server()
    for _ in range(int(sys.argv[1])):
        killed = own.server_process
        killed.kill()
        while not own.gave_up and own.server_process is killed:
            time.sleep(0.02)
    return f"the result, {own.gave_up}, {get_current_settings().flows.heartbeat_frequency}"

print(body("home"))
"""


def run_alone(home: Path, kills: int, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _FLOW, str(kills)],
        env={**prefect_server.without(), "KODA_HOME": str(home), **more},
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )


def test_a_server_that_is_killed_is_started_again_and_at_any_path_without_what_it_cannot_read(tmp_path: Path) -> None:
    home = tmp_path / "feature%2Flogin?x#y lr=0.1" / "runs"
    (home / "prefect").mkdir(parents=True)
    (home / "prefect" / "prefect.db").write_bytes(b"no database" * 1000)
    done = run_alone(home, kills=1)
    assert done.stdout == "the result, False, None\n"
    assert "is damaged" in done.stderr and "could not be told" not in done.stderr
    names = {path.name.partition("-")[0] for path in (home / "prefect").iterdir()}
    assert names >= {"prefect.db", "prefect.db.unusable"}
    assert [path.name for path in tmp_path.iterdir()] == ["feature%2Flogin?x#y lr=0.1"]


def test_the_result_is_told_where_the_server_is_killed_again_and_again(tmp_path: Path) -> None:
    done = run_alone(tmp_path / "runs", kills=4)
    assert done.stdout == "the result, True, None\n"
    assert "could not be told" in done.stderr


def test_a_home_for_prefect_that_is_not_there_is_made(tmp_path: Path) -> None:
    """Its server would not start in one whose parent is missing, and the run would wait for it in vain."""
    missing = tmp_path / "not" / "there" / "prefect"
    done = run_alone(tmp_path / "runs", kills=0, PREFECT_HOME=str(missing))
    assert done.stdout == "the result, False, None\n"
    assert (missing / "prefect.db").is_file()


_BEGUN = """
from flows.server import the_own_server
the_own_server().begin()
begun = the_own_server().server_process
while begun is None:
    begun = the_own_server().server_process
from flows.engine import koda_flow

@koda_flow("begun")
def body(home):
    return the_own_server().server_process is begun, begun.poll() is None

print(body("home"))
"""


@pytest.mark.parametrize(
    ("toml", "kept"), [("", (True, True)), ("[client]\nmax_retries = 1\n", (False, False))], ids=["the same", "others"]
)
def test_a_server_that_was_begun_is_used_where_prefect_reads_no_other_settings(
    tmp_path: Path, toml: str, kept: tuple[bool, bool]
) -> None:
    prefect_server.furnish(tmp_path / "runs")
    (tmp_path / "prefect.toml").write_text(toml)
    environment = {**prefect_server.without(), "KODA_HOME": str(tmp_path / "runs"), "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [sys.executable, "-c", _BEGUN], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert done.stdout == f"{kept}\n", done.stderr
    assert _processes_in(tmp_path / "runs" / "prefect") == []


def test_a_command_that_fails_before_its_flow_leaves_no_server(tmp_path: Path) -> None:
    prefect_server.furnish(tmp_path / "runs")
    done = subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", "audit", "missing.yaml"],
        env={**prefect_server.without(), "KODA_HOME": str(tmp_path / "runs")},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 2 and "missing.yaml" in done.stderr
    assert _processes_in(tmp_path / "runs" / "prefect") == []


def _processes_in(folder: Path) -> list[str]:
    """Return the processes that work in a folder, as a server does in Prefect's own."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == folder:
                found.append((process / "cmdline").read_text())
        except OSError:  # it is another user's, or has ended
            continue
    return found
