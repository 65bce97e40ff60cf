"""What reaches the terminal where names, keys, captions and files are hostile: nothing but text, lines and colours."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyte
import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.cli.show_alignment import show_alignment
from flows.cli.show_audit import show_result
from flows.cli.show_calibration import show_calibration
from flows.cli.show_changes import show_sweep
from flows.terminal import console, escape, follow
from koda.embeddings import EmbeddingTable
from koda.records import AuditRecord, CalibratedRule, Spread, SweepCell, SweepRecord, Theme
from koda.records.checkpoint import CheckpointEntry
from koda.storage import digest_file
from koda.storage.checkpoints import CheckpointLedger, entry_id
from koda.storage.database import AuditStore
from tasks.progress import report
from tests import prefect_server
from tests.discrepancy.problems import tables
from tests.report import factory
from tests.tiny import write_tiny_model

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\x08\x7f\u202e\u2066\u206a\ufffb[red]:skull:[/nonsense]\\"
_SENT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufff9-\ufffb]")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def harmless(text: str) -> bool:
    """Tell whether a terminal that gets this text does nothing but print it, in colours that rich may choose."""
    return _SENT.search(_COLOURS.sub("", text)) is None


def on_screen(text: str) -> str:
    """Return what a terminal shows of a text that is to leave all else of it alone, without its spaces."""
    plain = _COLOURS.sub("", text)
    lines = plain.splitlines() or [""]
    screen = pyte.Screen(columns=2 * max(len(line) for line in lines) + 2, lines=len(lines) + 2)
    pyte.Stream(screen).feed(text.replace("\n", "\r\n"))
    shown = "".join("".join(screen.display).split())
    assert (screen.title, screen.icon_name) == ("", "")
    assert shown == "".join(plain.split()), "something moved, was erased or is hidden"
    return shown


def told(*arguments: str, code: int | None = None, **environment: str) -> str:
    """Run a command and return what it printed, all of which is harmless."""
    result = CliRunner(env=environment).invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert harmless(result.stdout), repr(result.stdout)
    assert harmless(result.stderr), repr(result.stderr)
    assert len(on_screen(result.stdout)) + len(on_screen(result.stderr)) > 0
    assert code is None or result.exit_code == code, result.output
    return result.stdout


def poisoned(record: AuditRecord, **changes: Any) -> AuditRecord:
    """Put hostile text in all that a record says in words."""
    first = record.findings[0]
    lobe = first.positive
    samples = [
        sample.model_copy(update={"key": f"{EVIL}{place}", "caption": f"{EVIL}\nforged"})
        for place, sample in enumerate(lobe.samples)
    ]
    finding = first.model_copy(
        update={"name": EVIL, "status": EVIL, "positive": lobe.model_copy(update={"name": EVIL, "samples": samples})}
    )
    verdict = record.verdict.model_copy(update={"reasons": [f"{EVIL}\nforged"]})
    theme = Theme(side="lost", number=1, findings=[first.subset], name=EVIL, size=1, confirmed=True)
    models = {
        role: getattr(record, role).model_copy(update={"label": f"{role}{EVIL}", "name": EVIL})
        for role in ("baseline", "candidate")
    }
    data = record.data.model_copy(update={"name": EVIL, "path": EVIL})
    return record.model_copy(
        update={
            "title": EVIL, "findings": [finding, *record.findings[1:]], "verdict": verdict, "themes": [theme], **models,
            "data": data, "config": {**record.config, f"report{EVIL}": EVIL}, **changes,
        }
    )  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a KODA_HOME with two audits of hostile data."""
    store = AuditStore(tmp_path)
    plain = factory.record(2, map_points=0)
    for name, changes in (("audit-1f", {}), ("audit-2c", {"config": {EVIL: {EVIL: EVIL}}})):
        record = poisoned(plain, id=name, **changes)
        store.stage_audit(record, [])
        store.merge()
        path = tmp_path / "audits" / name / "audit.json"
        path.parent.mkdir(parents=True)
        path.write_text(record.to_json(), encoding="utf-8")
        files = {"audit.json": digest_file(path), f"gone{EVIL}": "0"}
        manifest = {"audit": name, "files": {file: {"sha256": digest} for file, digest in files.items()}}
        (path.parent / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return tmp_path


def test_a_terminal_would_notice() -> None:
    """The screen that the tests look at does obey what is sent to it."""
    for text in ("\x1b]0;owned\x07", "seen\x1b[2J", "ab\x08\x08\x1b[K"):
        with pytest.raises(AssertionError):
            on_screen(text)
    assert on_screen("\x1b[31ma b\x1b[0m\nc") == "abc"


@pytest.mark.parametrize("columns", ["40", "80", "300"])
def test_what_stored_audits_say_is_shown_and_not_obeyed(home: Path, columns: str) -> None:
    where = {"KODA_HOME": str(home), "COLUMNS": columns, "TTY_COMPATIBLE": "1"}
    assert "owned" in told("history", code=0, **where)
    assert "FAIL" in told("show", "audit-1f", code=0, **where)
    assert "audit-2c" in told("diff", "audit-1f", "audit-2c", code=0, **where)
    assert "unchanged" in told("verify", "audit-1f", code=1, **where)
    for arguments in (["show", "audit-1f"], ["diff", "audit-1f", "audit-2c"], ["history"], ["verify", "2c"]):
        json.loads(told(*arguments, "--json", **where))


@pytest.mark.parametrize("columns", ["40", "300"])
def test_trends_costs_and_checkpoints_of_hostile_names_are_shown_and_not_obeyed(home: Path, columns: str) -> None:
    where = {"KODA_HOME": str(home), "COLUMNS": columns, "TTY_COMPATIBLE": "1"}
    seen = datetime(2026, 1, 1, tzinfo=UTC)
    refused = CheckpointEntry(
        id=entry_id("1", "line"), digest="1", line="line", paths=(f"/runs/{EVIL}.pt",), label=f"epoch{EVIL}",
        first_seen=seen, changed=seen, state="refused", reason=f"it is {EVIL}\nforged",
    )  # fmt: skip
    CheckpointLedger(home).change(refused.id, lambda _: refused)
    assert r"\u202e" in told("history", "--figure", "lost.max_share", code=0, **where)
    assert r"\u202e" in told("history", "--checkpoints", code=0, **where)
    told("history", "--costs", **where)
    told("history", "--baseline", EVIL, "--data", EVIL, code=0, **where)
    for option in ("--checkpoints", "--figure=lost.max_share", "--costs"):
        json.loads(told("history", option, "--json", **where))


def test_json_says_the_same_with_control_characters_escaped(home: Path) -> None:
    shown = json.loads(told("show", "audit-1f", "--json", code=0, KODA_HOME=str(home)))
    assert shown["title"] == EVIL and shown["data"]["name"] == EVIL


def test_a_line_of_text_cannot_pass_for_another(home: Path) -> None:
    shown = told("show", "audit-1f", code=0, KODA_HOME=str(home))
    assert r"\nforged" in shown and not any(line.strip() == "forged" for line in shown.splitlines())
    assert "[red]:skull:" in shown  # neither markup nor an emoji


def test_hostile_keys_captions_and_names_of_two_folders(tmp_path: Path) -> None:
    folders = []
    for name, table in zip(("new", "old"), tables(150, seed=3, share=0.2), strict=True):
        keys = [f"{key}{EVIL}" for key in table.keys]
        metadata = {"caption": [f"a {EVIL} ball\n{i % 5}" for i in range(150)], f"of {EVIL}": [EVIL] * 150}
        folders.append(str(tmp_path / f"{name}\x1b[31m\u202e"))
        EmbeddingTable(keys, table.image, table.text, metadata).save(folders[-1])
    settings = ["--set", "device=cpu", "--set", "n_directions=2"]
    assert "150 samples" in told("compare", *folders, *settings, "--out", str(tmp_path / "o\x1b[1m"), code=0)
    assert harmless((tmp_path / "o\x1b[1m" / "slices.csv").read_text(encoding="utf-8").replace("\r\n", "\n"))
    told("compare", folders[0], str(tmp_path / f"no{EVIL}".replace("/", "")), code=2)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Return a configuration with hostile labels, of a table with hostile keys, captions, columns and file names."""
    from PIL import Image

    folder = tmp_path / "data\x1b[31m"
    folder.mkdir()
    rows = [f"filepath\ttitle\tkey\tcol{EVIL}"]
    for i in range(12):
        Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(folder / f"{i}\x1b[2J.png")
        rows.append(f"{i}\x1b[2J.png\tcaption {EVIL}\tk{i}{EVIL}\tv{EVIL}")
    rows += [f"gone\x1b[2J{i}.png\tx\tg{i}{EVIL}\ty" for i in range(2)]
    (folder / "pairs.tsv").write_text("\n".join(rows), encoding="utf-8")
    for seed, name in enumerate(("one", "two")):
        write_tiny_model(tmp_path / name, seed)
    settings = {
        "baseline": {"name": "local-dir:one", "label": f"one{EVIL}", "precision": "fp32"},
        "candidate": {"name": "local-dir:two", "label": f"two{EVIL}", "precision": "fp32"},
        "data": {"path": "data\x1b[31m/pairs.tsv", "name": f"data{EVIL}"},
    }
    path = tmp_path / "audit.yaml"
    path.write_text(json.dumps(settings), encoding="utf-8")
    return path


def test_hostile_data_and_models_are_looked_at(hostile: Path) -> None:
    assert "owned" in told("data", str(hostile), code=0)
    assert told("models", str(hostile), code=0)
    told("data", str(hostile), "--json", code=0)
    told("models", str(hostile), "--json", code=0)
    told("doctor", KODA_HOME=str(hostile.parent / "h\x1b[31m\u202e"))
    for name in ("figures", "config"):
        told(name, code=0)


@pytest.mark.parametrize(
    "arguments",
    [
        ["audit", f"no{EVIL}.yaml"],
        ["audit", "{config}", "--set", f"{EVIL}=1"],
        ["audit", "{config}", "--set", f"report.{EVIL}=1"],
        ["audit", "{config}", "--set", f"data.path=no{EVIL}.tsv"],
        ["audit", "{config}", "--set", f"data.where=\x1b[31m{EVIL}"],
        ["show", EVIL],
        ["verify", f"x{EVIL}"],
        ["data", "{config}", "--set", "data.image_column=\x1b[31m\u202e"],
        ["demo", "--pair", EVIL],
    ],
    ids=lambda arguments: "-".join(arguments[:1]),
)
def test_messages_spell_out_what_they_quote(hostile: Path, arguments: list[str]) -> None:
    told(*(str(hostile) if part == "{config}" else part for part in arguments), code=2)
    told(*(str(hostile) if part == "{config}" else part for part in arguments), "--json", code=2)


def test_a_real_terminal_gets_colours_and_nothing_else(hostile: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {**prefect_server.without(), "KODA_HOME": str(hostile.parent / "home"), "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [sys.executable, "-c", "from flows.cli import main; main()", "data", str(hostile)],
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment,
    )  # fmt: skip
    os.close(theirs)
    sent = b""
    try:
        while chunk := os.read(ours, 65536):
            sent += chunk
    except OSError:  # which is how a terminal ends
        pass
    assert process.wait(60) == 0, sent
    text = sent.decode().replace("\r\n", "\n")
    assert "\x1b[1m" in text and r"\x1b]0;owned" in text
    assert harmless(text), repr(text)


def test_steps_say_how_long_each_took_and_no_step_is_markup(capsys: pytest.CaptureFixture[str]) -> None:
    with follow():
        report("embed [red]\x1b[2Jx", 0, 1)
        report("embed [red]\x1b[2Jx", 1, 1)
    out, err = capsys.readouterr()
    assert out == "" and harmless(err)
    assert re.fullmatch(r"  embed \[red\]\\x1b\[2Jx: \d+\.\d s\n", err)


def test_what_is_no_terminal_gets_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    console.print(escape("word " * 100))
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_terminal_without_utf_8_gets_spelled_characters(hostile: Path) -> None:
    environment = {**prefect_server.without(), "KODA_HOME": str(hostile.parent / "home"), "PYTHONIOENCODING": "ascii"}
    command = [
        sys.executable,
        "-c",
        "from flows.cli import main; main()",
        "data",
        str(hostile),
        "--set",
        "data.name=✓ü",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0 and rb"\u2713\xfc" in done.stdout and done.stderr == b""


def test_results_of_every_flow_are_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    steps = {"steps_executed": 1, "steps_cached": 0, "seconds": 1.0, "paths": {"html": f"/x/{EVIL}"}}
    finding = {
        "side": "lost", "direction": 1, "name": EVIL, "target_share": 0.1, "reference_share": 0.0, "confirmed": True,
    }  # fmt: skip
    theme = {"side": "lost", "name": EVIL, "findings": ["lost 1", "lost 2"], "size": 1}
    show_result(
        {
            **steps, "verdict": "fail", "id": "audit-1", "reasons": [f"{EVIL}\nforged"], "notes": [f"{EVIL}\nforged"],
            "findings": [finding, {**finding, "direction": 2}], "themes": [theme], "could_have_seen": EVIL,
            "not_judged": [EVIL],
        }
    )  # fmt: skip
    show_alignment(
        {
            **steps, "verdict_before": "fail", "verdict_after": "pass", "outcome": EVIL, "student": EVIL,
            "teacher": EVIL, "id": "alignment-1", "stopped": EVIL, "kept_step": 1, "scores": [], "recoveries": {},
            "reasons": [EVIL], "audit_before": "audit-1", "audit_after": "audit-2", "notes": [EVIL],
            "retests": [{"finding": "lost 1", "before": {"value": 0.1}, "after": {"value": 0.0}, "p_after": 0.5}],
        }
    )  # fmt: skip
    rule = CalibratedRule(
        figure=f"by.{EVIL}.retrieval_drop", direction="above", n=1, values=Spread(least=0, median=0, most=0, bound=0),
        warn_before=0.1, fail_before=None, warn=0.2, fail=None, note=EVIL,
    )  # fmt: skip
    show_calibration({**steps, "rules": [rule.model_dump()], "audits": [1], "level": 0.95})
    cell = SweepCell(data=EVIL, baseline=f"b{EVIL}", candidate=f"c{EVIL}", exit_code=2, error=f"{EVIL}\n  remedy")
    now = datetime(2026, 11, 26, tzinfo=UTC)
    names = {"data": [EVIL], "baselines": [f"b{EVIL}"], "candidates": [f"c{EVIL}"]}
    record = SweepRecord(id="sweep-1", title=EVIL, started=now, ended=now, cells=[cell], **names)
    show_sweep({**record.model_dump(mode="json"), "paths": steps["paths"], "exit_code": 2})
    out, err = capsys.readouterr()
    assert harmless(out) and harmless(err) and out.count("owned") >= 10 and "1 audit of equals" in out
    assert not any(line.startswith("forged") for line in out.splitlines())


def test_an_audit_of_hostile_embeddings_and_its_export(tmp_path: Path) -> None:
    for name, table in zip(("new", "old"), tables(160, seed=3, share=0.2), strict=True):
        keys = [f"{key}{EVIL}" for key in table.keys]
        metadata = {"caption": [f"a {EVIL} ball {i % 5}" for i in range(160)], f"of {EVIL}": ["=1+1", EVIL] * 80}
        EmbeddingTable(keys, table.image, table.text, metadata).save(tmp_path / name)
    settings = {
        "baseline": {"name": "embeddings:old", "label": f"old{EVIL}"},
        "candidate": {"name": "embeddings:new", "label": f"new{EVIL}"},
        "data": {"path": "new", "name": f"data{EVIL}"},
        "discrepancy": {"n_directions": 2, "max_directions": 2, "device": "cpu"},
        "significance": {"spike_ins": 0, "stability": 0},
        "report": {"pdf": False, "title": EVIL},
    }
    (tmp_path / "audit.yaml").write_text(json.dumps(settings), encoding="utf-8")
    home, junit = str(tmp_path / "home"), tmp_path / "koda.xml"
    shown = told("audit", str(tmp_path / "audit.yaml"), "--junit", str(junit), KODA_HOME=home)
    [audit] = json.loads(told("history", "--json", KODA_HOME=home))
    assert audit["id"] in shown and audit["candidate"] == f"new{EVIL}"
    assert "160 samples" in told("export", audit["id"], "--out", str(tmp_path / "out"), code=0, KODA_HOME=home)
    folder = Path(home) / "audits" / audit["id"]
    for file in (junit, folder / "slices.csv", folder / "report.html"):
        assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", file.read_text(encoding="utf-8")), file
    ElementTree.fromstring(junit.read_bytes())
