"""The Prefect server that a run starts for itself: wherever its home is, and whatever becomes of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
