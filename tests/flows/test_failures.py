"""What the command exits with for each kind of error, and what it says."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.failures import in_words
from koda.errors import (
    ConfigError,
    DataError,
    KodaError,
    ModelError,
    PrerequisiteError,
    SolverError,
    StoreError,
    TrainingError,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x", "y"), 2),
        (DataError("x", "y"), 2),
        (ModelError("x", "y"), 2),
        (PrerequisiteError("x", "y"), 2),
        (SolverError("x", "y"), 3),
        (TrainingError("x", "y"), 3),
        (StoreError("x", "y"), 3),
        (OSError(errno.ENOSPC, "No space left on device"), 3),
        (RuntimeError("not foreseen"), 3),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_error_has_its_exit_code(error: Exception, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("koda.storage.database.AuditStore.list_audits", fail)
    answer = CliRunner().invoke(app, ["history", "--json"])
    printed = json.loads(answer.stdout)
    assert (answer.exit_code, printed["exit_code"]) == (code, code)
    assert printed["error"] in answer.stderr
    if isinstance(error, KodaError):
        assert printed["error"] == "x\n  y"


def test_a_home_that_cannot_be_used_exits_with_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("KODA_HOME", str(tmp_path / "file" / "home"))
    answer = CliRunner().invoke(app, ["demo"])
    assert answer.exit_code == 3
    assert "Set KODA_HOME to a folder of your own." in answer.stderr


def test_a_file_that_may_not_be_read_is_not_told_as_one_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "model.pt"
    told = in_words(PermissionError(errno.EACCES, "Permission denied", str(path)))
    assert told is not None and told.exit_code == 2
    assert f"{path} cannot be opened: you may not read it" in str(told) and "KODA_HOME" not in str(told)
    mine = in_words(PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "koda-runs" / "x")))
    assert mine is not None and "KODA_HOME" in str(mine)
