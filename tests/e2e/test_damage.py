"""Any single file deleted, truncated or with one bit flipped: it is noticed, and only what it held is made again.

tests/flows/test_damage.py says what people are told of it; here it is every file of every kind.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from koda.audit.references import REFERENCES, noted_references
from koda.audit.runs import running
from koda.storage.database import AuditStore
from koda.storage.marks import MARK, TIMINGS, Mark
from koda.storage.staging import stage, staged
from tests import prefect_server
from tests.e2e.scale import SHORT
from tests.flows.workplace import Workplace, make_workplace

FEATURES = ["--set", "discrepancy.features=orf", "--set", "discrepancy.n_features=6"]


def deleted(path: Path) -> None:
    path.unlink()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    """Change one bit in the middle, and neither size nor time."""
    times, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


DAMAGES = [deleted, truncated, flipped]
Damage = Callable[[Path], None]
#: a file of each name in each kind, and the step that makes it
FILES = {
    "embeddings": (["shard-00000.safetensors"], ["embed baseline", "embed candidate"]),
    "solutions": (["directions.safetensors", "solution.json", TIMINGS], ["discover lost", "discover gained"]),
    "controls": (["controls.json"], ["control"]),
    "evaluations": (["evaluation.json", "slices.parquet"], ["evaluate"]),
    # a report is drawn again of a record that was made again
    "records": (["audit.json", "verdict.json", "slices.csv", "thumbnails.parquet"], ["record"]),
    "reports": (["report.html"], ["render"]),
}
CASES = [(kind, name) for kind, (names, _) in FILES.items() for name in [*names, MARK]]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workplace, dict[str, Any]]]:
    prefect_server.start()
    place = make_workplace(tmp_path_factory.mktemp("work"))
    result = place.run(*FEATURES)[1]
    shutil.copytree(place.home, place.folder / "as-it-was", copy_function=shutil.copy2)
    yield place, result


@pytest.fixture
def own(first: tuple[Workplace, dict[str, Any]]) -> tuple[Workplace, dict[str, Any]]:
    """Return the home as it was after the first audit, to damage."""
    place, _ = first
    shutil.rmtree(place.home)
    shutil.copytree(place.folder / "as-it-was", place.home)
    return first


def test_no_kind_of_file_is_forgotten_here(first: tuple[Workplace, dict[str, Any]]) -> None:
    root = first[0].home / "artifacts"
    known = {f"{kind}/{name}" for kind, name in CASES} | {
        "covariances/sums.safetensors", "covariances/covariance.json", f"covariances/{MARK}",
    }  # fmt: skip
    there = {f"{path.parent.parent.name}/{path.name}" for path in root.glob("[!l]*/*/*")}
    assert there == known


# a truncated file is noticed as a flipped one is, by its digest: the first of each kind, and its mark
@pytest.mark.parametrize(
    ("kind", "name", "damage"),
    [
        pytest.param(kind, name, damage, id=f"{kind}-{name}-{damage.__name__}")
        for kind, name in CASES
        for damage in DAMAGES
        if damage is flipped or name in (FILES[kind][0][0], MARK) or (damage is deleted and not SHORT)
    ],
)
def test_a_file_of_an_artifact(own: tuple[Workplace, dict[str, Any]], kind: str, name: str, damage: Damage) -> None:
    place, result = own
    path = sorted((place.home / "artifacts" / kind).glob(f"*/{name}"))[0]
    digest, whole = Mark.read(path.parent).digest, path.read_bytes()
    damage(path)
    code, again, _ = place.run(*FEATURES)
    assert code in (0, 1)
    assert (again["id"], again["verdict"]) == (result["id"], result["verdict"])
    executed, steps = place.executed(again), FILES[kind][1]
    assert executed and executed[0] in steps
    assert executed[1:] == (["render"] if kind == "records" else [])
    mark = Mark.read(path.parent)
    assert mark.fault(path.parent) is None
    if kind not in ("records", "reports"):  # those say when they were made
        assert mark.digest == digest
        if name not in (MARK, TIMINGS):
            assert path.read_bytes() == whole
    if damage is not deleted or name != MARK:  # without a mark it is work that was not finished
        assert any(str(path) in note for note in again["notes"])
    if damage is flipped:  # and what was made again is whole, whatever was wrong with it
        assert place.run(*FEATURES)[1]["steps_executed"] == 0


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_covariance_is_summed_again_when_it_is_needed(own: tuple[Workplace, dict[str, Any]], damage: Damage) -> None:
    place, _ = own
    covariances = place.home / "artifacts" / "covariances"
    whole = {path: path.read_bytes() for path in covariances.glob("*/*")}
    damage(sorted(covariances.glob("*/sums.safetensors"))[0])
    _, again, _ = place.run(*FEATURES, "--set", "discrepancy.max_reference_share=0.01")
    assert sum("sums.safetensors" in note for note in again["notes"]) == 1
    assert {path: path.read_bytes() for path in covariances.glob("*/*")} == whole


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_result_of_prefect_changes_nothing(own: tuple[Workplace, dict[str, Any]], damage: Damage) -> None:
    place, result = own
    storage = Path(os.environ["PREFECT_HOME"]) / "storage"
    keys = {path.name for path in (place.home / "artifacts").glob("[!l]*/*")}
    results = [path for path in storage.glob("koda-made-*") if path.name.rpartition("-")[2] in keys]
    assert results
    for path in results:
        damage(path)
    code, again, _ = place.run(*FEATURES)
    assert code in (0, 1)
    assert (again["id"], again["verdict"], again["steps_executed"]) == (result["id"], result["verdict"], 0)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["runs.parquet", MARK])
def test_a_staged_file(own: tuple[Workplace, dict[str, Any]], name: str, damage: Damage) -> None:
    place, _ = own
    store = AuditStore(place.home)
    stage(place.home, {"runs": [{"run_id": "damaged", "audit_id": "audit-0"}]})
    stage(place.home, {"runs": [{"run_id": "whole", "audit_id": "audit-0"}]})
    folder = staged(place.home)[0]
    damage(folder / name)
    _, again, _ = place.run(*FEATURES)
    runs = {row["run_id"] for row in store.query("SELECT run_id FROM runs")}
    assert "whole" in runs
    if (damage, name) == (deleted, MARK):  # as an older koda staged its rows
        assert "damaged" in runs
        return
    assert "damaged" not in runs
    assert any(folder.name in note and "set aside" in note for note in again["notes"])
    assert not staged(place.home)


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_mark_of_a_run_and_the_note_of_what_an_audit_refers_to(
    own: tuple[Workplace, dict[str, Any]], damage: Damage
) -> None:
    place, result = own
    with running(place.home, "audit-0", [("embeddings", "x")]) as run:
        mark = place.home / "running" / f"{run.id}.json"
        left = mark.read_bytes()
    mark.write_bytes(left)
    damage(mark)
    note = place.home / REFERENCES / f"{result['id']}.json"
    damage(note)
    os.environ["KODA_HOME"] = str(place.home)
    answer = CliRunner().invoke(app, ["prune", "--keep", "1h", "--json"])
    assert answer.exit_code == 0
    pruned = json.loads(answer.stdout)
    assert pruned["removed"] == []  # the record tells what is the audit's
    assert any(str(note) in told for told in pruned["notes"]) == (damage is not deleted)
    again = place.run(*FEATURES)[1]
    assert again["steps_executed"] == 0
    assert [each.name for each in noted_references(place.home)[0]] == [result["id"]]
