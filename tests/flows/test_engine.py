"""The Prefect server that a flow is given, and what becomes of a run whose server does not answer."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.engine import koda_flow
from flows.server import _say_set_aside
from koda.errors import MachineError
from tests import prefect_server
from tests.flows.workplace import make_workplace

_FLOW = """
import sys, time
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
    return f"the result, {own.gave_up}"

print(body("home"))
"""


def run_alone(home: Path, kills: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _FLOW, str(kills)],
        env={**prefect_server.without(), "KODA_HOME": str(home)},
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
    assert done.stdout == "the result, False\n"
    assert "is damaged" in done.stderr and "could not be told" not in done.stderr
    names = {path.name.partition("-")[0] for path in (home / "prefect").iterdir()}
    assert names >= {"prefect.db", "prefect.db.unusable"}
    assert [path.name for path in tmp_path.iterdir()] == ["feature%2Flogin?x#y lr=0.1"]


def test_the_result_is_told_where_the_server_is_killed_again_and_again(tmp_path: Path) -> None:
    done = run_alone(tmp_path / "runs", kills=4)
    assert done.stdout == "the result, True\n"
    assert "could not be told" in done.stderr


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/api", "http://nobody:p@secret@127.0.0.1:9/api"])
def test_a_server_that_is_set_and_does_not_answer_is_named_at_once(url: str) -> None:
    @koda_flow("never")
    def never(home: str) -> None:
        raise AssertionError("it ran")

    begun = time.monotonic()
    with temporary_settings({PREFECT_API_URL: url}), pytest.raises(MachineError, match="PREFECT_API_URL") as told:
        never("home")
    assert "secret" not in str(told.value) and "127.0.0.1:9/api" in str(told.value)
    assert time.monotonic() - begun < 8


def test_a_database_is_set_aside_in_one_line_whatever_its_folder_is_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a\n[b]PASS").mkdir()
    database = tmp_path / "a\n[b]PASS" / "prefect.db"
    database.write_bytes(b"no database")
    _say_set_aside(database, "it is damaged")
    (line,) = capsys.readouterr().err.splitlines()
    assert r"a\n[b]PASS/prefect.db cannot be used: it is damaged" in line


def test_the_command_and_the_doctor_name_a_server_that_does_not_answer(tmp_path: Path) -> None:
    place = make_workplace(tmp_path)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        code, result, _ = place.run()
    assert code == 3
    assert "no Prefect server answers there" in result["error"] and "fault" not in result["error"]
    assert not (place.home / "logs").exists()
