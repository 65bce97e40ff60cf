"""Where a command is told to write and cannot: what, where and why, with the option's name, before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.cli.destinations import destination
from flows.failures import in_words
from koda.errors import ConfigError, StoreError, WriteError
from koda.storage.places import check_place
from koda.storage.writing import explain_os_errors, write_atomically

CONFIG = "baseline: {name: 'local-dir:old'}\ncandidate: {name: 'local-dir:new'}\ndata: {path: pairs.tsv}\n"
COMMANDS = {
    "report": ["report", "audit-1", "--out", "{place}"],
    "site": ["site", "--out", "{place}"],
    "export": ["export", "audit-1", "--out", "{place}"],
    "export of figures": ["export", "--figures", "{place}.csv"],
    "init": ["init", "{place}"],
    "compare": ["compare", "target", "reference", "--out", "{place}"],
    "align": ["align", "audit.yaml", "--out", "{place}"],
    "calibrate": ["calibrate", "audit.yaml", "--equals", "baseline", "candidate", "--out", "{place}.yaml"],
    "audit": ["audit", "audit.yaml", "--junit", "{place}.xml"],
    "sweep": ["sweep", "sweep.yaml", "--junit", "{place}.xml"],
    "demo": ["demo", "--junit", "{place}.xml"],
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("/proc", "nothing can be made in /proc"),
        ("{here}/file", "{here}/file is no folder"),
        ("{here}/link", "{here}/link is a link to nowhere, which is not there"),
        ("{here}/" + 300 * "n", "a name in it is longer than the disk allows"),
    ],
)
def test_a_command_says_where_nothing_can_be_written_and_why(
    name: str, folder: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "audit.yaml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "file").write_text("precious", encoding="utf-8")
    (tmp_path / "link").symlink_to("nowhere")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KODA_HOME", str(tmp_path / "home"))
    place = folder.format(here=tmp_path) + "/x"
    command = [argument.format(place=place) for argument in COMMANDS[name]]
    result = CliRunner().invoke(app, command)
    option = command[-2] if command[-2].startswith("--") else "FOLDER"
    assert result.exit_code == 2, result.stderr
    assert f"koda: {option} {command[-1]} cannot be written: {why.format(here=tmp_path)}." in result.stderr
    assert "where you may write" in result.stderr
    assert "KODA_HOME" not in result.stderr
    assert not (tmp_path / "home" / "logs").exists(), "it is nothing unforeseen"
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_nothing_stays_of_the_trial(kind: str, tmp_path: Path) -> None:
    check_place(tmp_path / "a" / "b" / "c", kind)  # type: ignore[arg-type]
    (tmp_path / "there").mkdir()
    check_place(tmp_path / "there" / "c", kind)  # type: ignore[arg-type]
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "there"]


def test_what_is_there_has_to_be_of_the_kind(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    check_place(tmp_path / "file", "file")
    check_place(tmp_path / "folder", "folder")
    with pytest.raises(WriteError, match="file cannot be written: it is a file, not a folder"):
        check_place(tmp_path / "file", "folder")
    with pytest.raises(WriteError, match="folder cannot be written: it is a folder"):
        check_place(tmp_path / "folder", "file")
    with pytest.raises(WriteError, match="it is a device or a pipe"):
        check_place(Path("/dev/null"), "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_one_may_not_write_in_is_named(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(WriteError, match=f"you may not write in {tmp_path / 'locked'}"):
        check_place(tmp_path / "locked" / "x")


def test_a_failure_in_the_middle_is_told_as_the_option_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KODA_HOME", str(tmp_path / "home"))
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"--out .*/out/sub/file/x cannot be written"), destination("--out", out):
        (out / "sub" / "file").write_text("x", encoding="utf-8")
        write_atomically(out / "sub" / "file" / "x" / "y", b"")


def test_a_renaming_that_fails_is_told_by_what_it_was_to_become(tmp_path: Path) -> None:
    (tmp_path / "old" / "sub").mkdir(parents=True)
    (tmp_path / "new").mkdir()
    with pytest.raises(WriteError, match=r"/old cannot be written: Directory not empty"), explain_os_errors(tmp_path):
        (tmp_path / "new").rename(tmp_path / "old")


def test_of_the_results_it_is_said_that_koda_home_is_to_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KODA_HOME", str(tmp_path / "home"))
    (tmp_path / "home").write_text("", encoding="utf-8")
    (tmp_path / "elsewhere").write_text("", encoding="utf-8")
    with pytest.raises(StoreError) as of_home, destination("--out", tmp_path / "out"):
        write_atomically(tmp_path / "home" / "x", b"")
    with pytest.raises(StoreError) as elsewhere:
        write_atomically(tmp_path / "elsewhere" / "x", b"")
    assert "KODA_HOME" in str(in_words(of_home.value))
    assert "KODA_HOME" not in str(in_words(elsewhere.value))
    assert "permissions" in str(in_words(elsewhere.value))
