"""The Prefect server that a flow is given; tests/e2e/test_own_server.py kills the one that a run starts for itself."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, get_current_settings, temporary_settings

from flows.engine import koda_flow
from flows.server import _say_set_aside
from koda.errors import MachineError
from tasks.prefect_settings import ASK_ONCE, changed_settings
from tests.flows.workplace import make_workplace


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


def test_settings_of_prefect_change_for_a_while_and_the_others_stay() -> None:
    before = get_current_settings()
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), changed_settings(ASK_ONCE):
        assert (PREFECT_CLIENT_MAX_RETRIES.value(), PREFECT_API_URL.value()) == (0, "http://127.0.0.1:9/api")
    assert get_current_settings() is before and PREFECT_CLIENT_MAX_RETRIES.value() > 0
    with pytest.raises(KeyError, match="max_retry"), changed_settings({"client.max_retry": 0}):
        raise AssertionError("no such setting")
