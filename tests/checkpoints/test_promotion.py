"""A promotion gets the paths and the verdict, runs without a shell, and says what went wrong."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from koda.checkpoints import check_program, promote, promotion
from koda.config import PromoteConfig
from koda.errors import ConfigError
from koda.records.checkpoint import CheckpointEntry

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TELL = "import json, os, sys; print(json.dumps([sys.argv[1:], json.load(sys.stdin), os.getcwd()]))"
ENTRY = CheckpointEntry(
    id="i", digest="d", line="l", paths=("/runs/old.pt", "/runs/a $(touch hacked) {audit}.pt"), label="a.pt",
    first_seen=NOW, changed=NOW, state="audited", audit_id="audit-1", verdict="pass", weights="w",
)  # fmt: skip


def run(home: Path, *command: str, **more: Any) -> tuple[str | None, str]:
    problem = promote(PromoteConfig(run=command, **more), home, ENTRY)
    return problem, "".join(path.read_text(encoding="utf-8") for path in (home / "logs").glob("promotion-*"))


def test_the_program_gets_what_is_known_as_arguments_and_as_json(tmp_path: Path) -> None:
    problem, printed = run(tmp_path, sys.executable, "-c", TELL, "{checkpoint}", "v={verdict}", "{report}", "{audit}")
    arguments, told, _ = json.loads(printed)
    folder = tmp_path / "audits" / "audit-1"
    assert problem is None
    assert arguments == [ENTRY.paths[-1], "v=pass", str(folder / "report.html"), "audit-1"]
    assert told["record"] == str(folder / "audit.json") and told["checkpoint"] == ENTRY.paths[-1]
    assert told["digest"] == "d" and told["verdict"] == "pass"


def test_it_runs_in_the_folder_of_the_program_or_of_the_file_or_at_home(tmp_path: Path) -> None:
    script = tmp_path / "tools" / "deploy.sh"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\npwd\n", encoding="utf-8")
    script.chmod(0o755)
    assert run(tmp_path / "a", str(script), write=str(tmp_path / "x.json")) == (None, f"{script.parent}\n")
    assert run(tmp_path / "b", "pwd", write=str(tmp_path / "x.json")) == (None, f"{tmp_path}\n")
    assert run(tmp_path / "c", "pwd") == (None, f"{tmp_path / 'c'}\n")


def test_the_file_names_the_checkpoint_and_its_audit(tmp_path: Path) -> None:
    assert promote(PromoteConfig(write=str(tmp_path / "out" / "promoted.json")), tmp_path, ENTRY) is None
    told = json.loads((tmp_path / "out" / "promoted.json").read_text(encoding="utf-8"))
    assert told["checkpoint"] == ENTRY.paths[-1] and told["audit"] == "audit-1" and told["verdict"] == "pass"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("sh", "-c", "echo no room >&2; exit 4"), "ended with code 4"),
        (("/nowhere/deploy",), "could not be run"),
        ((sys.executable, "-c", "import time; time.sleep(600)"), "was ended"),
    ],
)
def test_what_went_wrong_is_said(
    tmp_path: Path, command: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promotion, "SECONDS", 1.0)
    problem, printed = run(tmp_path, *command)
    assert problem is not None and said in problem
    assert printed == ("no room\n" if "exit 4" in command[-1] else "")


def test_the_file_names_only_what_the_program_promoted(tmp_path: Path) -> None:
    target = tmp_path / "promoted.json"
    assert "ended with code 3" in str(run(tmp_path, "sh", "-c", "exit 3", write=str(target))[0]) and not target.exists()
    assert run(tmp_path, "sh", "-c", f"test ! -e {target}", write=str(target))[0] is None and target.exists()


def test_the_program_does_not_have_the_variables_of_notifications(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRET", "s3cr3t")
    monkeypatch.setenv("HOOK_OTHER", "known")
    promotion_ = PromoteConfig(run=("sh", "-c", 'echo "${HOOK_SECRET-unset} $HOOK_OTHER"'))
    assert promote(promotion_, tmp_path, ENTRY, ["HOOK_SECRET"]) is None
    (log,) = (tmp_path / "logs").glob("promotion-*")
    assert log.read_text(encoding="utf-8") == "unset known\n"


def test_a_program_that_cannot_be_run_is_refused_before(tmp_path: Path) -> None:
    script = tmp_path / "deploy.sh"
    for program, said in ((str(script), "is not there"), ("koda-no-such-program", "no program on the PATH")):
        with pytest.raises(ConfigError, match=said):
            check_program(PromoteConfig(run=(program,)))
    script.write_text("#!/bin/sh\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="not executable"):
        check_program(PromoteConfig(run=(str(script),)))
    script.chmod(0o755)
    for promotion_ in (PromoteConfig(run=(str(script),)), PromoteConfig(run=("sh",)), PromoteConfig(write="x"), None):
        check_program(promotion_)


def test_a_file_that_cannot_be_written_stops_the_program(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    problem, printed = run(tmp_path, "echo", "ran", write=str(tmp_path / "file" / "promoted.json"))
    assert problem is not None and "could not be written" in problem and not printed


def test_a_program_that_reads_nothing_may_end_at_once(tmp_path: Path) -> None:
    assert run(tmp_path, "true") == (None, "")
