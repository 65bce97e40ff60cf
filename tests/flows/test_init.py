"""`koda init`: files to begin with, that never overwrite and that an audit of the demo's data runs from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from koda.audit.crosswalk import read_crosswalk, shipped_crosswalk
from koda.audit.plan import prepare
from koda.config import AuditConfig, load_config
from tests.audit.published import put, small_record
from tests.flows.workplace import make_workplace
from tests.tiny import write_tiny_model

PAST = """
policy:
  - {figure: lost.max_share, warn: 0.003, fail: 0.01, owner: "Ann: of \\"vision\\"", reason: "é # no comment"}
  - {figure: rejections.count, fail: 5}
waivers:
  - {figure: rejections.count, person: Bob, reason: known, expires: 2031-01-02}
zero_shot: {column: colour, templates: ["a photo of a {}", "{}: on a table"]}
"""


def run(*arguments: str) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(app, ["init", *arguments, "--json"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, json.loads(result.stdout)


def config_of(folder: Path) -> AuditConfig:
    return load_config(folder / "audit.yaml")


def test_both_files_are_written_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, written = run("new/audit")
    folder = tmp_path / "new" / "audit"
    assert (code, sorted(path.name for path in folder.iterdir())) == (0, ["audit.yaml", "crosswalk.yaml"])
    assert written["paths"] == {name: str(folder / f"{name}.yaml") for name in ("audit", "crosswalk")}
    config = config_of(folder)
    assert config.report.crosswalk == str(folder / "crosswalk.yaml")
    assert read_crosswalk(config.report.crosswalk) == read_crosswalk()
    assert (config.baseline.name, config.data.path) == ("ViT-B-32", str(folder / "pairs.tsv"))


def test_what_is_there_is_never_replaced_unless_it_is_said_to(tmp_path: Path) -> None:
    for name in ("audit.yaml", "crosswalk.yaml"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text("mine", encoding="utf-8")
        code, said = run(str(folder))
        assert code == 2 and str(folder / name) in said["error"] and "--force" in said["error"]
        assert [path.read_text(encoding="utf-8") for path in folder.iterdir()] == ["mine"]
        assert run(str(folder), "--force")[0] == 0 and config_of(folder).candidate.kind == "local-dir"
    link = tmp_path / "link"
    link.mkdir()
    (link / "audit.yaml").symlink_to(tmp_path / "nowhere")
    assert run(str(link))[0] == 2 and not (tmp_path / "nowhere").exists()


def test_models_and_data_are_named_as_seen_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiny_model(tmp_path / "mine" / "old", 0)
    checkpoint = tmp_path / "mine" / "epoch_9.pt"
    checkpoint.write_bytes(b"weights")
    assert run("mine", "--baseline", "mine/old", "--candidate", "mine/epoch_9.pt", "--data", "elsewhere/p.tsv")[0] == 0
    config = config_of(tmp_path / "mine")
    assert config.baseline.name == config.candidate.name == f"local-dir:{tmp_path / 'mine' / 'old'}"
    assert config.candidate.pretrained == str(checkpoint)
    assert config.data.path == str(tmp_path / "elsewhere" / "p.tsv")
    text = (tmp_path / "mine" / "audit.yaml").read_text(encoding="utf-8")
    assert 'name: "local-dir:old"' in text and 'pretrained: "epoch_9.pt"' in text  # so that the folder may move
    (tmp_path / "mine").rename(tmp_path / "moved")
    assert config_of(tmp_path / "moved").candidate.pretrained == str(tmp_path / "moved" / "epoch_9.pt")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--baseline", " "], "--baseline is given an empty text"),
        (["--candidate", ""], "empty text"),
        (["--data", ""], "--data is given an empty text"),
        (["--candidate", "gone/epoch_1.pt"], "There is no file"),
        (["--baseline", "here.pt"], "--baseline ViT-B-32@here.pt"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.pt").write_bytes(b"weights")
    code, said = run("new", *arguments)
    assert code == 2 and words in said["error"] and not (tmp_path / "new").exists()


def test_a_file_in_place_of_the_folder_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    code, said = run(str(tmp_path / "file"))
    assert code in (2, 3) and "file" in said["error"] and "Traceback" not in said["error"]


def test_people_are_told_what_to_do_next(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["init", str(tmp_path)])
    assert shown.exit_code == 0 and "intended use" in shown.stdout
    assert f"koda audit {tmp_path / 'audit.yaml'}" in shown.stdout.replace(os.linesep, "\n")


@pytest.fixture
def past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AuditConfig:
    """The settings of an audit whose record lies in the home."""
    place = make_workplace(tmp_path / "place")
    monkeypatch.setenv("KODA_HOME", str(place.home))
    place.config.write_text(place.config.read_text(encoding="utf-8") + PAST, encoding="utf-8")
    config = load_config(place.config, {"candidate.label": 'new model: "9"'})
    put(place.home, small_record(id="audit-77b0aa", config=config.settings(alignment=False)))
    return config


def test_a_past_audit_gives_the_file_that_it_could_have_been_run_from(past: AuditConfig, tmp_path: Path) -> None:
    code, written = run(str(tmp_path / "again"), "--from", "audit-77b0")
    assert code == 0
    text = Path(written["paths"]["audit"]).read_text(encoding="utf-8")
    assert "audit-77b0aa" in text.splitlines()[0] and "licence:\n" in text and "# ${" not in text
    config = config_of(tmp_path / "again")
    assert config.settings() == past.settings()
    here = prepare(past, tmp_path / "place" / "koda-runs")
    assert prepare(config, here.home).audit_id == here.audit_id
    for question in ("purpose:", "out_of_scope:", "owner:", "contact:", "licence:", "source:", "datasheet:"):
        assert f"  {question}" in text
    assert "  #max_reference_share: 0.003\n" in text  # as the heading has it, what is at its default is an example
    assert "#schedule:" in text and 'label: "new model: \\"9\\""' in text


def test_a_past_audit_in_the_folder_itself_is_named_relative_to_it(past: AuditConfig, tmp_path: Path) -> None:
    assert run(str(tmp_path / "place"), "--from", "audit-77b0aa", "--force")[0] == 0
    text = (tmp_path / "place" / "audit.yaml").read_text(encoding="utf-8")
    assert 'name: "local-dir:old"' in text and str(tmp_path) not in text
    assert config_of(tmp_path / "place").settings() == past.settings()


def test_a_crosswalk_of_the_past_audit_goes_along(past: AuditConfig, tmp_path: Path) -> None:
    own = tmp_path / "place" / "own.yaml"
    text = shipped_crosswalk().read_text(encoding="utf-8")
    own.write_text(text.replace("title: ", "title: Ours, ", 1), encoding="utf-8")
    config = past.model_copy(update={"report": past.report.model_copy(update={"crosswalk": str(own)})})
    put(tmp_path / "place" / "koda-runs", small_record(id="audit-99", config=config.settings(alignment=False)))
    assert run(str(tmp_path / "a place"), "--from", "audit-99")[0] == 0
    assert (tmp_path / "a place" / "crosswalk.yaml").read_bytes() == own.read_bytes()
    assert config_of(tmp_path / "a place").report.crosswalk == str(tmp_path / "a place" / "crosswalk.yaml")
    shown = CliRunner().invoke(app, ["init", str(tmp_path / "a place"), "--from", "audit-99", "--force"]).stdout
    assert f"koda audit '{tmp_path / 'a place' / 'audit.yaml'}'" in shown


def test_from_goes_with_no_other_models_and_needs_an_audit(past: AuditConfig, tmp_path: Path) -> None:
    code, said = run(str(tmp_path / "x"), "--from", "audit-77b0aa", "--data", "p.tsv")
    assert code == 2 and "edit the file" in said["error"]
    code, said = run(str(tmp_path / "x"), "--from", "audit-nowhere")
    assert code == 2 and "koda history" in said["error"] and not (tmp_path / "x").exists()
