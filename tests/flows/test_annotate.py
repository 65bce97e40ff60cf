"""`koda report` and `koda annotate` through the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from tests.audit.published import put, small_record

RECORD = small_record()
CHECKOUT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    return put(tmp_path / "koda-runs", RECORD)


def test_a_waiver_stated_afterwards_says_what_the_next_audit_needs(audit: Path) -> None:
    said = ("--waive", "lost.max_share", "--by", "Eve \u202e", "--reason", "known: later", "--until", "2999-01-31")
    code, out, err = run("annotate", RECORD.id, *said)
    assert (code, f"{RECORD.id}, entry 1: waiver of lost.max_share by Eve" in out) == (0, True)
    assert "The verdict stays as it is." in err and "- figure: lost.max_share" in err and "expires: 2999-01-31" in err
    assert "\u202e" not in out + err
    code, out, _ = run("annotate", RECORD.id, "--note", "see there", "--by", "Bob", "--finding", "Lost 1", "--json")
    told = json.loads(out)
    assert (code, [entry["what"] for entry in told["annotations"]]) == (0, ["waiver", "note"])
    assert told["annotations"][1]["previous"] == told["annotations"][0]["digest"]
    assert told["paths"] == {"folder": str(audit), "html": str(audit / "report.html"), "pdf": None}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "What is to be added?"),
        (["--approved", "A", "--reviewed", "B"], "more than one thing"),
        (["--note", "x"], "--note lacks --by"),
        (["--waive", "lost.max_share", "--by", "A"], "--waive lacks --reason and --until"),
        (["--approved", "A", "--reason", "x"], "--reason does not go with --approved"),
        (["--dissent", "x", "--by", "A", "--finding", "lost 1"], "--finding does not go with --dissent"),
        (["--waive", "lost.max_share", "--by", "A", "--reason", "x", "--until", "soon"], "'soon' is no date"),
        (["--waive", "lost.found", "--by", "A", "--reason", "x", "--until", "2999-01-01"], "No rule of this audit"),
        (["--note", "x", "--by", "A", "--finding", "lost"], "no finding 'lost'"),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_is_added(audit: Path, arguments: list[str], words: str) -> None:
    code, _, err = run("annotate", RECORD.id, *arguments)
    assert (code, words in err) == (2, True), err
    assert not (audit / "annotations.json").exists()


def test_what_is_no_audit_is_said(audit: Path, tmp_path: Path) -> None:
    for arguments in (
        ("report", "audit-none"),
        ("annotate", "audit-none", "--approved", "A"),
        ("report", str(tmp_path)),
    ):
        code, _, err = run(*arguments)
        assert code == 2 and "audit" in err and "Traceback" not in err
    shutil.rmtree(audit / ".." / ".." / "artifacts")
    assert run("report", str(audit / "audit.json"), "--no-pdf")[0] == 0


def test_a_report_is_drawn_again_without_torch_or_prefect(audit: Path) -> None:
    code = "import sys; from flows.cli import app; app(['report', sys.argv[1], '--no-pdf'], standalone_mode=False); "
    code += "print({'torch', 'prefect', 'weasyprint'} & set(sys.modules))"
    made = subprocess.run(
        [sys.executable, "-c", code, str(audit)], capture_output=True, text=True, check=False, cwd=CHECKOUT
    )
    assert made.stdout.splitlines()[-1] == "set()", made.stderr
