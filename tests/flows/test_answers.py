"""Where each command answers, what it takes for an audit, and what it says of input that cannot be used."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from typer.testing import CliRunner, Result

from flows.cli.app import app
from flows.cli.show_audit import show_result
from koda.audit.rerun import load_config_or_record
from koda.config import AuditConfig
from koda.records import AuditRecord
from koda.storage import digest_file
from koda.storage.database import AuditStore
from tests.report import factory

SETTINGS = {
    "baseline": {"name": "embeddings:/nowhere/old"},
    "candidate": {"name": "embeddings:/nowhere/new"},
    "data": {"path": "/nowhere/old"},
}


def put(home: Path, record: AuditRecord) -> Path:
    store = AuditStore(home)
    store.stage_audit(record, [])
    store.merge()
    folder = home / "audits" / record.id
    folder.mkdir(parents=True)
    path = folder / "audit.json"
    path.write_text(record.to_json(), encoding="utf-8")
    manifest = {"audit": record.id, "files": {path.name: {"sha256": digest_file(path), "size": path.stat().st_size}}}
    text = json.dumps(manifest, indent=2, sort_keys=True)
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a KODA_HOME with two audits."""
    home = tmp_path / "home"
    plain = factory.record(2, map_points=0)
    config = AuditConfig.model_validate(SETTINGS).model_dump(mode="json")
    put(home, plain.model_copy(update={"id": "audit-2c0aa1234567", "config": config}))
    put(home, plain.model_copy(update={"id": "audit-2c1bb1234567", "config": config}))
    monkeypatch.setenv("KODA_HOME", str(home))
    return home


def run(*arguments: str | Path, **environment: str) -> Result:
    result = CliRunner(env=environment).invoke(app, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.mark.parametrize(
    "arguments",
    [
        ["history"], ["show", "audit-2c0"], ["figures"], ["config"], ["verify", "audit-2c0"],
        ["diff", "audit-2c0", "audit-2c1"],
    ],
    ids=lambda arguments: arguments[0],
)  # fmt: skip
def test_what_was_asked_for_is_on_stdout_and_nothing_else_anywhere(home: Path, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 0 and result.stdout.strip() and result.stderr == ""
    as_json = run(*arguments, "--json")
    assert as_json.exit_code == 0 and json.loads(as_json.stdout) and as_json.stderr == ""


@pytest.mark.parametrize("command", ["show", "verify", "diff"])
def test_an_audit_is_named_by_id_beginning_folder_or_file(home: Path, command: str) -> None:
    folder = home / "audits" / "audit-2c0aa1234567"
    for name in (
        "audit-2c0aa1234567", "2c0aa1234567", "audit-2c0", "2c0", folder, folder / "audit.json",
        folder / "manifest.json",
    ):  # fmt: skip
        result = run(command, name, *(["audit-2c1"] if command == "diff" else []), "--json")
        assert result.exit_code == 0, result.stderr
        told = json.loads(result.stdout)
        assert told["before" if command == "diff" else "id"] == "audit-2c0aa1234567"


@pytest.mark.parametrize("command", ["show", "verify", "diff", "export"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("2c", "2 audits begin with '2c': audit-2c0aa1234567, audit-2c1bb1234567"),
        ("audit-9", "There is no audit 'audit-9'"),
        (".", "is not the folder of an audit"),
        ("", "There is no audit ''"),
    ],
)
def test_a_name_of_no_audit_or_of_several_is_refused(home: Path, command: str, name: str, words: str) -> None:
    more = {"diff": ["audit-2c1"], "export": ["--out", str(home / "out")]}.get(command, [])
    name = str(home) if name == "." else name
    result = run(command, name, *more)
    assert result.exit_code == 2 and result.stdout == "" and words in result.stderr


def test_history_breaks_neither_ids_nor_dates_in_a_narrow_terminal(home: Path) -> None:
    for columns in ("40", "80", "200"):
        lines = run("history", COLUMNS=columns).stdout.splitlines()
        for name in ("audit-2c0aa1234567", "audit-2c1bb1234567"):
            line = next(line for line in lines if name in line)
            assert "2026-11-23 " in line and line.index(name) < line.index("2026-11-23 ")


def test_each_line_of_history_is_whole_where_it_is_no_terminal(home: Path) -> None:
    lines = [line for line in run("history").stdout.splitlines() if "audit-2c" in line]
    assert len(lines) == 2 and all(factory.record(1, map_points=0).data.name in line for line in lines)


def test_the_record_of_an_audit_is_a_configuration_too(home: Path, tmp_path: Path) -> None:
    folder = home / "audits" / "audit-2c0aa1234567"
    again = load_config_or_record(folder / "audit.json", {})
    assert again == AuditConfig.model_validate(SETTINGS) == load_config_or_record(folder, {})
    assert load_config_or_record(folder / "audit.json", {"discrepancy.seed": 3}).discrepancy.seed == 3
    result = run("audit", folder / "audit.json")  # goes on to look for the data of that audit
    assert result.exit_code == 2 and "/nowhere/old" in result.stderr
    plain = tmp_path / "audit.json"
    plain.write_text(json.dumps(SETTINGS), encoding="utf-8")
    assert load_config_or_record(plain, {}).baseline.name == "embeddings:/nowhere/old"


def test_a_run_that_fails_leaves_a_junit_file_with_an_error(tmp_path: Path) -> None:
    config, junit = tmp_path / "audit.yaml", tmp_path / "koda.xml"
    config.write_text(yaml.safe_dump(SETTINGS), encoding="utf-8")
    junit.write_text("<testsuites/>", encoding="utf-8")
    for arguments in (
        ["audit", config], ["audit", tmp_path / "no\x1b[31m.yaml"], ["sweep", tmp_path / "no.yaml"],
        ["demo", "--pair", "none\x00\x1b"],
    ):  # fmt: skip
        result = run(*arguments, "--junit", junit)
        assert result.exit_code == 2
        root = ET.fromstring(junit.read_bytes())
        assert (root.get("errors"), root.get("failures"), root.get("tests")) == ("1", "0", "1")
        error = root.find("./testsuite/testcase/error")
        assert error is not None and error.get("message", "")[:20] in result.stderr
        junit.unlink()


def test_a_junit_file_is_never_put_in_place_of_a_folder_or_a_device(tmp_path: Path) -> None:
    for place, words in ((tmp_path, "is a folder"), (Path("/dev/null"), "is a device or a pipe")):
        result = run("audit", tmp_path / "no.yaml", "--junit", place)
        assert result.exit_code == 2 and words in result.stderr
    assert not Path("/dev/null").is_file()


@pytest.mark.parametrize("command", ["history", "show", "export", "verify", "diff", "demo"])
def test_a_file_in_the_place_of_koda_home_is_told(tmp_path: Path, command: str) -> None:
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    more = {"show": ["a"], "verify": ["a"], "diff": ["a", "b"], "export": ["a", "--out", "o"]}.get(command, [])
    for place, words in (
        (file, f"{file} is a file, not a folder"),
        (file / "below", f"{file} is a file, not a folder"),
        (tmp_path / "link", f"is a link to {tmp_path / 'gone'}, which is not there"),
    ):
        result = run(command, *more, KODA_HOME=str(place))
        assert result.exit_code == 3 and words in result.stderr and "Set KODA_HOME" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["audit"], ["audit", "{list}"], ["audit", "{folder}"], ["models", "{list}"], ["data", "{list}"],
        ["data", "{config}", "--page", "0"], ["data", "{config}", "--page", "x"], ["align", "{list}"], ["align"],
        ["align", "{config}", "--demo"], ["align", "--audit", "none"], ["calibrate", "{config}", "--equals", "a"],
        ["calibrate", "{list}"], ["sweep", "{list}"], ["compare", "{folder}", "{folder}"], ["compare", "a"],
        ["compare", "{folder}", "{folder}", "--set", "kernel"], ["diff", "a"], ["demo", "--set", "nonsense=1"],
        ["export", "none", "--out", "x"], ["show"], ["verify"],
        ["history", "more"], ["figures", "--no"], ["config", "x"], ["doctor", "x"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_every_command_refuses_bad_input_with_2_and_words(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "list.yaml").write_text("- a\n", encoding="utf-8")
    (tmp_path / "audit.yaml").write_text(yaml.safe_dump(SETTINGS), encoding="utf-8")
    (tmp_path / "empty").mkdir()
    places = {"list": tmp_path / "list.yaml", "config": tmp_path / "audit.yaml", "folder": tmp_path / "empty"}
    result = run(*(part.format(**places) for part in arguments))
    assert result.exit_code == 2 and result.stdout == "" and len(result.stderr) > 20
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_reads_no_more_does_not_change_the_exit_code(options: list[str]) -> None:
    code = "import sys; from flows.cli import app; app(sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "config", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(60) == 0


def test_a_passing_audit_says_that_no_finding_is_confirmed(capsys: pytest.CaptureFixture[str]) -> None:
    quiet: dict[str, Any] = {
        "verdict": "pass", "id": "audit-1", "reasons": [], "findings": [], "themes": [], "could_have_seen": "",
        "not_judged": [],
        "paths": {"folder": "/x"}, "notes": ["no PDF"], "steps_executed": 1, "steps_cached": 0, "seconds": 1.0,
    }  # fmt: skip
    show_result(quiet)
    out, err = capsys.readouterr()
    assert "✓ PASS" in out and "no finding is confirmed" in out
    assert err == "  note no PDF\n  1 step executed, 0 of 1 cached, 1.0 s in all\n"


def test_an_audit_with_a_confirmed_finding_does_not_say_so(home: Path) -> None:
    shown = run("show", "audit-2c0").stdout
    assert "yes" in shown and "no finding is confirmed" not in shown


def test_figures_of_other_data_are_not_shown_as_changes(home: Path) -> None:
    plain = factory.record(2, map_points=0)
    other = plain.model_copy(
        update={
            "id": "audit-3d", "ended": datetime(2026, 11, 25, tzinfo=UTC),
            "data": plain.data.model_copy(update={"digest": "0" * 64}),
            "verdict": plain.verdict.model_copy(update={"status": "pass", "rules": []}),
            "metrics": plain.metrics.model_copy(update={"retrieval": []}),
        }
    )  # fmt: skip
    put(home, other)
    shown = run("diff", "audit-2c0", "audit-3d").stdout
    assert "findings, results of the rules and figures: not compared" in shown
    assert not any(line.strip().startswith(("figures", "results of the rules")) for line in shown.splitlines())
    same_data = plain.model_copy(
        update={"id": "audit-4e", "baseline": plain.candidate, "metrics": other.metrics, "verdict": other.verdict}
    )
    put(home, same_data)
    shown = run("diff", "audit-2c0", "audit-4e").stdout
    assert "figures (not comparable)" in shown and "results of the rules (not comparable)" in shown


def test_names_that_can_be_no_path_are_refused_in_words(home: Path) -> None:
    for name in ("a" * 5000, "~nobody-at-all", "a\n\x1bb"):
        for arguments in (["show", name], ["verify", name], ["audit", name], ["diff", name, "2c0"]):
            result = run(*arguments)
            assert (result.exit_code == 2 and "There is no" in result.stderr) or "cannot be read" in result.stderr


def test_a_wrong_command_line_leaves_no_stale_junit_file(tmp_path: Path) -> None:
    junit = tmp_path / "koda.xml"
    for arguments in (
        ["audit", "--junit", str(junit), "a.yaml", "b\x1b[31m"], ["demo", f"--junit={junit}", "--no-such\x1b"],
        ["sweep", "--junit", str(junit)],
    ):  # fmt: skip
        junit.write_text("<testsuites/>", encoding="utf-8")
        result = run(*arguments)
        assert result.exit_code == 2 and "\x1b" not in result.output
        assert ET.fromstring(junit.read_bytes()).get("errors") == "1"
    assert run("audit", "--junit", junit, "--help").exit_code == 0
    assert ET.fromstring(junit.read_bytes()).get("errors") == "1"  # help is no run
