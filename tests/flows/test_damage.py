"""What is damaged, lost or held open in a home: it is said, made again or refused, and never used as it is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import flows.audit
from flows.cli.app import app
from koda.audit.plan import prepare
from koda.config import load_config
from koda.errors import StoreError
from koda.records import AuditRecord
from koda.storage.database import AuditStore
from tests.flows.workplace import Workplace, make_workplace
from tests.holder import hold


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workplace, dict[str, Any]]]:
    place = make_workplace(tmp_path_factory.mktemp("work"))
    result = place.run(*FEATURES)[1]
    shutil.copytree(place.home, place.folder / "as-it-was")
    yield place, result


@pytest.fixture
def own(first: tuple[Workplace, dict[str, Any]]) -> tuple[Workplace, dict[str, Any]]:
    """Return the home as it was after the first audit, to damage."""
    place, _ = first
    shutil.rmtree(place.home)
    shutil.copytree(place.folder / "as-it-was", place.home)
    return first


FEATURES = ["--set", "discrepancy.features=orf", "--set", "discrepancy.n_features=6"]


def flip(path: Path, word: bytes | None = None) -> None:
    """Change one letter of a file, and neither its size nor its time."""
    times = path.stat()
    data = bytearray(path.read_bytes())
    at = len(data) - 3 if word is None else data.index(word) + len(word) - 1
    data[at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def command(place: Workplace, *arguments: str) -> tuple[int, str, str]:
    os.environ["KODA_HOME"] = str(place.home)
    answer = CliRunner().invoke(app, list(arguments))
    assert answer.exception is None or isinstance(answer.exception, SystemExit), answer.exception
    return answer.exit_code, answer.stdout, answer.stderr


# of one kind all of it, and of the record, whose report is drawn again; tests/e2e/test_damage.py has the others
ARTIFACTS = [
    ("embeddings/*/shard-00000.safetensors", ["embed baseline", "embed candidate"]),
    ("records/*/audit.json", ["record", "render"]),
]


@pytest.mark.parametrize(("pattern", "steps"), ARTIFACTS, ids=[pattern for pattern, _ in ARTIFACTS])
def test_a_damaged_artifact_is_said_and_made_again(
    own: tuple[Workplace, dict[str, Any]], pattern: str, steps: list[str]
) -> None:
    place, result = own
    damaged = sorted((place.home / "artifacts").glob(pattern))
    whole = {path: path.read_bytes() for path in damaged}
    for path in damaged:
        flip(path)
    _, again, told = place.run(*FEATURES)
    assert place.executed(again) == steps
    assert (again["id"], again["verdict"]) == (result["id"], result["verdict"])
    for path in damaged:
        assert any(str(path) in note for note in again["notes"])
        assert str(path) in told
        if "records" not in pattern and "reports" not in pattern:  # those say when they were made
            assert path.read_bytes() == whole[path]
    assert command(place, "verify", result["id"])[0] == 0
    assert not [note for note in place.run(*FEATURES)[1]["notes"] if "damaged" in note]


def test_a_damaged_covariance_is_said_and_summed_again(own: tuple[Workplace, dict[str, Any]]) -> None:
    place, _ = own
    sums = sorted((place.home / "artifacts").glob("covariances/*/sums.safetensors"))
    whole = [path.read_bytes() for path in sums]
    for path in sums:
        flip(path)
    _, again, _ = place.run(*FEATURES, "--set", "discrepancy.max_reference_share=0.01")
    assert sum("sums.safetensors" in note for note in again["notes"]) == 2
    assert [path.read_bytes() for path in sums] == whole


@pytest.mark.parametrize("name", ["audit.json", "slices.csv"])
def test_a_damaged_file_of_an_audit_is_refused_with_its_name_and_put_back(
    own: tuple[Workplace, dict[str, Any]], name: str
) -> None:
    place, result = own
    folder = place.home / "audits" / result["id"]
    other = place.run(*FEATURES, "--set", "significance.alpha=0.01")[1]["id"]
    whole = (folder / name).read_bytes()
    flip(folder / name)
    for arguments in (("show", result["id"]), ("diff", result["id"], other), ("diff", other, str(folder))):
        code, _, told = command(place, *arguments)
        if (arguments[0], name) == ("show", "slices.csv"):
            assert code == 0  # it shows nothing of them
            continue
        assert code == 3
        assert str(folder / name) in told.replace("\n", "")
        assert "koda verify" in told
    assert command(place, "verify", str(folder))[0] == 1
    if name == "audit.json":
        assert f"the folder of {result['id']} is damaged" in command(place, "history")[1]
    _, again, _ = place.run(*FEATURES)
    assert (again["id"], again["steps_executed"]) == (result["id"], 0)
    assert any(str(folder / name) in note and "put back" in note for note in again["notes"])
    assert (folder / name).read_bytes() == whole
    assert not (folder / "runs").exists()  # it is the same run
    assert command(place, "verify", str(folder))[0] == 0


def test_runs_of_one_id_keep_their_files(own: tuple[Workplace, dict[str, Any]]) -> None:
    place, result = own
    folder = place.home / "audits" / result["id"]
    sent = {path.name: path.read_bytes() for path in folder.iterdir()}
    for _ in range(2):
        _, again, _ = place.run(*FEATURES, "--fresh")
        assert again["id"] == result["id"]
    assert sorted(path.name for path in (folder / "runs").iterdir()) == ["1", "2"]
    assert {path.name: path.read_bytes() for path in (folder / "runs" / "1").iterdir()} == sent
    assert (folder / "audit.json").read_bytes() != sent["audit.json"]
    for run in (folder, folder / "runs" / "1", folder / "runs" / "2"):
        assert command(place, "verify", str(run))[0] == 0
    assert [audit["runs"] for audit in json.loads(command(place, "history", "--json")[1])] == [3]


def test_what_a_killed_run_made_and_did_not_publish_is_published_by_the_next(
    own: tuple[Workplace, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, result = own
    folder = place.home / "audits" / result["id"]
    before = AuditRecord.from_json((folder / "audit.json").read_bytes())
    with monkeypatch.context() as patched:
        patched.setattr(flows.audit, "publish", None)  # it dies after its last step
        os.environ["KODA_HOME"] = str(place.home)
        CliRunner().invoke(app, ["audit", str(place.config), "--fresh", *FEATURES])
    _, again, _ = place.run(*FEATURES)
    assert again["steps_executed"] == 0
    now = AuditRecord.from_json((folder / "audit.json").read_bytes())
    assert now.ended > before.ended
    (row,) = AuditStore(place.home).query("SELECT ended FROM audits")
    assert row["ended"] == now.ended
    assert f"{now.ended:%Y-%m-%d}" in (folder / "report.html").read_text(encoding="utf-8")
    assert command(place, "verify", str(folder))[0] == 0


def test_searches_have_the_same_digest_each_time(own: tuple[Workplace, dict[str, Any]]) -> None:
    place, result = own
    before = AuditRecord.from_json(Path(result["paths"]["record"]).read_bytes()).provenance.artifacts
    _, again, _ = place.run(*FEATURES, "--fresh")
    record = AuditRecord.from_json(Path(again["paths"]["record"]).read_bytes())
    assert record.provenance.artifacts == before
    assert record.method.lost.stats["seconds"] > 0


def test_an_audit_ends_with_its_report_while_someone_looks_into_the_database(
    own: tuple[Workplace, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("koda.storage.connection.PATIENCE_SECONDS", 0.2)
    place, _ = own
    holder = hold(place.home / "koda.duckdb")
    try:
        code, result, _ = place.run(*FEATURES, "--set", "significance.alpha=0.01")
    finally:
        holder.kill()
        holder.wait()
    assert code in (0, 1)
    assert f"process {holder.pid}" in " ".join(result["notes"])
    assert Path(result["paths"]["html"]).is_file()
    assert AuditRecord.from_json(Path(result["paths"]["record"]).read_bytes()).changes is not None  # from the folders
    (listed,) = [audit for audit in json.loads(command(place, "history", "--json")[1]) if audit["id"] == result["id"]]
    assert (listed["files"], listed["stored"]) == ("there", False)
    assert not [note for note in place.run(*FEATURES)[1]["notes"] if "database" in note]
    assert AuditStore(place.home).record_digest(result["id"]) is not None


@pytest.mark.parametrize("damage", ["lost", "damaged", "neither"])
def test_the_database_is_made_again_from_the_folders(own: tuple[Workplace, dict[str, Any]], damage: str) -> None:
    place, result = own
    place.run(*FEATURES, "--set", "significance.alpha=0.01")
    shutil.rmtree(place.home / "artifacts" / "evaluations")  # then the slices come from the folder
    store = AuditStore(place.home)
    tables = ("audits", "directions", "slices", "metrics", "rules", "artifacts", "models")
    ordered = {table: f"SELECT * FROM {table} ORDER BY ALL" for table in tables}
    before = {table: store.query(sql) for table, sql in ordered.items()}
    if damage == "lost":
        store.path.unlink()
    elif damage == "damaged":
        store.path.write_bytes(b"x" * store.path.stat().st_size)
        code, _, told = command(place, "history")
        assert code == 3
        assert "koda history --rebuild" in told
    bad = place.home / "audits" / "audit-0"
    shutil.copytree(place.home / "audits" / result["id"], bad)
    (bad / "manifest.json").unlink()
    (bad / "slices.csv").write_text((bad / "slices.csv").read_text().replace(",1,", ",one,"))
    code, _, told = command(place, "history", "--rebuild")
    assert code == 0 and f"{bad / 'audit.json'} is left out" in told
    assert f"the database holds 2 audits, 0 alignments, {2 if damage == 'neither' else 0} runs" in told
    assert {table: store.query(sql) for table, sql in ordered.items()} == before
    assert len(list(place.home.glob("koda.duckdb.2*"))) == (damage != "lost")
    assert place.run(*FEATURES)[1]["id"] == result["id"]


def test_a_damaged_list_of_the_audit_before_stops_no_audit(own: tuple[Workplace, dict[str, Any]]) -> None:
    place, result = own
    slices = place.home / "audits" / result["id"] / "slices.csv"
    slices.write_bytes(slices.read_bytes().replace(b"\r\n", b"\n"))  # as a spreadsheet saves it
    code, new, _ = place.run(*FEATURES, "--set", "significance.alpha=0.02")
    assert code in (0, 1)
    changes = AuditRecord.from_json(Path(new["paths"]["record"]).read_bytes()).changes
    assert changes is not None and changes.before == result["id"]


def test_an_audit_without_its_record_is_verified_by_its_id(own: tuple[Workplace, dict[str, Any]]) -> None:
    place, result = own
    (place.home / "audits" / result["id"] / "audit.json").unlink()
    code, told, _ = command(place, "verify", result["id"])
    assert (code, "audit.json: against manifest.json: FAILED: missing" in told) == (1, True)


def test_a_folder_that_was_removed_is_gone_in_the_history_and_comes_back_with_the_audit(
    own: tuple[Workplace, dict[str, Any]],
) -> None:
    place, result = own
    shutil.rmtree(place.home / "audits" / result["id"])
    code, printed, told = command(place, "history")
    assert (code, f"the folder of {result['id']} is gone" in told + printed) == (0, True)
    place.run(*FEATURES)
    assert [audit["files"] for audit in json.loads(command(place, "history", "--json")[1])] == ["there"]


def test_leftovers_among_the_audits_are_swept_and_a_folder_between_two_is_put_back(
    own: tuple[Workplace, dict[str, Any]],
) -> None:
    place, result = own
    audits = place.home / "audits"
    for name in (f".{result['id']}.0123", ".audit-ffffffffffff.abcd", ".audit-left"):
        (audits / name).mkdir()
    (audits / result["id"]).rename(audits / f".{result['id']}.old")
    again = place.run(*FEATURES)[1]
    assert (again["id"], again["steps_executed"]) == (result["id"], 0)
    assert [path.name for path in audits.iterdir()] == [result["id"]]


def test_what_people_said_stays_when_the_audit_is_asked_for_again(own: tuple[Workplace, dict[str, Any]]) -> None:
    place, result = own
    folder = Path(result["paths"]["folder"])
    assert command(place, "annotate", result["id"], "--approved", "Ada")[0] == 0
    again = place.run(*FEATURES)[1]
    assert (again["notes"], again["steps_executed"]) == (result["notes"], 0)
    assert "<bdi>Ada</bdi>" in (folder / "report.html").read_text(encoding="utf-8")
    flip(folder / "report.html")
    again = place.run(*FEATURES)[1]
    assert f"{folder / 'report.html'} was not as the audit wrote it, and is put back." in again["notes"]
    assert "<bdi>Ada</bdi>" in (folder / "report.html").read_text(encoding="utf-8")
    assert command(place, "verify", result["id"])[0] == 0
    changed = (folder / "annotations.json").read_bytes().replace(b"Ada", b"Eve")
    (folder / "annotations.json").write_bytes(changed)
    again = place.run(*FEATURES)[1]
    assert any(f"{folder / 'annotations.json'} is not as it was written; koda cannot" in it for it in again["notes"])
    assert (folder / "annotations.json").read_bytes() == changed
    assert command(place, "verify", result["id"])[0] == 1


def test_embeddings_are_exported_from_a_home_that_cannot_be_written(
    own: tuple[Workplace, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, result = own
    before = {path: path.stat().st_mtime_ns for path in place.home.rglob("*")}
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    code, _, told = command(place, "export", result["id"], "--out", str(place.folder / "out"))
    assert code == 0, told
    assert {path: path.stat().st_mtime_ns for path in place.home.rglob("*")} == before


def test_no_step_is_planned_in_a_home_that_cannot_be_written(
    own: tuple[Workplace, dict[str, Any]], tmp_path: Path
) -> None:
    place, _ = own
    (tmp_path / "file").touch()
    for home in (tmp_path / "file" / "koda-runs", Path("/proc/koda-runs")):  # where not even root may write
        with pytest.raises(StoreError, match="cannot be written"):
            prepare(load_config(place.config), home)
        assert prepare(load_config(place.config), home, reads_only=True).dataset.n_source
