"""`KODA_LOG=json`: everything on stderr is a JSON object a line, and stdout is what it is without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from tests.flows.workplace import Workplace, make_workplace

LEVELS = {"info", "warning", "error"}


def lines(stderr: str) -> list[dict[str, Any]]:
    """Read a log, every line of which is an object with what all have."""
    read = [json.loads(line) for line in stderr.splitlines()]
    for line in read:
        assert datetime.fromisoformat(line["time"]).tzinfo == UTC and line["time"].endswith("Z")
        assert line["level"] in LEVELS and line["event"] and isinstance(line["message"], str)
    return read


def told(*arguments: str, **environment: str) -> Any:
    return CliRunner(env={"KODA_LOG": "json", **environment}).invoke(app, list(arguments))


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, Any]:
    workplace = make_workplace(tmp_path_factory.mktemp("logged"))
    result = told("audit", str(workplace.config), KODA_HOME=str(workplace.home))
    assert result.exit_code in (0, 1), result.stderr
    return workplace, result


def test_an_audit_logs_its_steps_and_its_end(audited: tuple[Workplace, Any]) -> None:
    workplace, result = audited
    log = lines(result.stderr)
    begun = [line["step"] for line in log if line["event"] == "step started"]
    ended = [line for line in log if line["event"] == "step finished"]
    assert begun == [line["step"] for line in ended] and len(begun) == 8
    assert all(line["seconds"] >= 0 and line["cached"] is False and line["device"] == "cpu" for line in ended)
    (end,) = [line for line in log if line["event"] == "audit finished"]
    assert (workplace.home / "audits" / end["audit"]).is_dir()
    assert end["verdict"] in ("pass", "warn", "fail", "inconclusive") and end["run"]
    assert {line["audit"] for line in log if "audit" in line} == {end["audit"]}
    assert "PASS" in result.stdout or "FAIL" in result.stdout or "WARN" in result.stdout or "INCONCL" in result.stdout
    assert "{" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "audit-nowhere"], "There is no audit"),
        (["audt"], "No such command"),
        (["history", "--nonsense"], "No such option"),
        (["audit", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_errors_are_lines_too(arguments: list[str], words: str) -> None:
    result = told(*arguments)
    (line,) = lines(result.stderr)
    assert (result.exit_code, line["level"], line["event"]) == (2, "error", "error")
    assert words in line["message"]


def test_stdout_is_the_same_with_and_without(tmp_path: Path) -> None:
    plain = CliRunner(env={"KODA_HOME": str(tmp_path)}).invoke(app, ["figures"])
    logged = told("figures", KODA_HOME=str(tmp_path))
    assert (logged.stdout, logged.stderr, logged.exit_code) == (plain.stdout, "", 0)


def test_notes_and_hostile_names_are_one_object_each() -> None:
    result = told("history")
    (line,) = lines(result.stderr)
    assert (line["event"], "There is no audit yet" in line["message"]) == ("note", True)
    result = told("show", "a\n{}\x1b[2J\u202e")
    assert len(lines(result.stderr)) == 1 and "\x1b" not in result.stderr and "\u202e" not in result.stderr


def test_another_way_to_log_is_refused() -> None:
    result = CliRunner(env={"KODA_LOG": "xml"}).invoke(app, ["history", "--json"])
    assert result.exit_code == 2
    assert "KODA_LOG" in result.stderr and "KODA_LOG" in json.loads(result.stdout)["error"]


_NOISE = """
import os, sys, threading, warnings
from flows.logs import all_lines_only, log
with all_lines_only():
    log("one", "first", step="x")
    os.write(2, b"native\\nnoise")
    warnings.warn("a warning")
    print("\\rhalf\\rdone\\n\\x1b[31mred\\x1b[0m", file=sys.stderr)
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
print("late", file=sys.stderr)
print("result")
"""


def test_what_libraries_native_code_and_threads_say_is_wrapped() -> None:
    environment = {**os.environ, "KODA_LOG": "json"}
    done = subprocess.run([sys.executable, "-c", _NOISE], capture_output=True, text=True, env=environment, check=True)
    log = lines(done.stderr)
    said = [line["message"] for line in log]
    assert {"first", "native", "noise", "done", "red", "late"} <= set(said)
    assert any("ZeroDivisionError" in message for message in said) and any("a warning" in message for message in said)
    assert {line["event"] for line in log} == {"one", "output"}
    assert done.stdout == "result\n"
