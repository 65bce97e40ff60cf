"""Audits of embeddings that another program made, looks at data and models, and export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from flows.cli.app import app
from koda import EmbeddingTable
from tests.tiny import write_tiny_model

N = 160


def run(*arguments: str) -> tuple[int, dict[str, Any], str]:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, json.loads(result.stdout), result.stderr


def write_clip_retrieval(folder: Path, seed: int, keys: list[str], lost: bool = False) -> Path:
    """Write embeddings by hand as clip-retrieval's documentation lays them out: two parts, float16, rows aligned."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(4, 12))
    label = np.arange(len(keys)) % 4
    for start, stop, number in ((0, 100, 0), (100, len(keys), 1)):
        rows = np.arange(start, stop)
        for name in ("img_emb", "text_emb"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            x = centres[label[rows]] + 0.4 * rng.normal(size=(len(rows), 12))
            if lost:
                x[label[rows] == 1] = rng.normal(size=((label[rows] == 1).sum(), 12)) * 1.5
            np.save(folder / name / f"{name}_{number}.npy", (x / np.linalg.norm(x, axis=1)[:, None]).astype(np.float16))
        (folder / "metadata").mkdir(exist_ok=True)
        columns = {
            "image_path": [keys[row] for row in rows],
            "caption": [f"a {('red', 'purple', 'green', 'blue')[label[row]]} thing" for row in rows],
            "colour": [("red", "purple", "green", "blue")[label[row]] for row in rows],
        }
        pq.write_table(pa.table(columns), folder / "metadata" / f"metadata_{number}.parquet")
    return folder


def write_config(folder: Path, **changes: Any) -> Path:
    settings: dict[str, Any] = {
        "baseline": {"name": "embeddings:old"},
        "candidate": {"name": "embeddings:new"},
        "data": {"path": "old"},
        "discrepancy": {"n_directions": 2, "device": "cpu"},
        "report": {"pdf": False},
        **changes,
    }
    (folder / "audit.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return folder / "audit.yaml"


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    keys = [f"images/{i:03d}.jpg" for i in range(N)]
    write_clip_retrieval(tmp_path / "old", 1, keys)
    write_clip_retrieval(tmp_path / "new", 2, keys, lost=True)
    return tmp_path


def test_embeddings_of_another_program_are_audited_without_a_model(folders: Path) -> None:
    code, result, told = run("audit", str(write_config(folders)))
    assert code in (0, 1), told
    record = json.loads(Path(result["paths"]["record"]).read_text(encoding="utf-8"))
    assert record["data"]["format"] == "embeddings"
    assert record["data"]["n_compared"] == N
    assert record["baseline"]["architecture"] == "embeddings made by another program"
    lost = next(f for f in record["findings"] if f["side"] == "lost" and f["direction"] == 1)
    assert lost["confirmed"]
    assert "purple" in lost["words"]
    assert "embeddings made by another program" in Path(result["paths"]["html"]).read_text(encoding="utf-8")


def test_stored_embeddings_have_no_zero_shot_and_the_record_says_why(folders: Path) -> None:
    code, result, told = run("audit", str(write_config(folders, zero_shot={"column": "colour"})))
    assert code in (0, 1), told
    found = json.loads(Path(result["paths"]["record"]).read_text(encoding="utf-8"))["metrics"]["zero_shot"]
    assert (found["n_labelled"], found["accuracies"], found["differences"]) == (N, [], [])
    assert set(found["unavailable"]) == {"old", "new"}
    assert "names of the classes cannot be encoded" in found["unavailable"]["old"]
    assert "Not available for" in Path(result["paths"]["html"]).read_text(encoding="utf-8")


def test_samples_that_one_folder_lacks_are_left_out_with_the_reason(folders: Path) -> None:
    keys = [f"images/{i:03d}.jpg" for i in range(10, N + 10)]
    write_clip_retrieval(folders / "new", 2, keys)
    code, result, told = run("audit", str(write_config(folders)))
    assert code in (0, 1), told
    record = json.loads(Path(result["paths"]["record"]).read_text(encoding="utf-8"))
    assert (record["data"]["n_compared"], record["data"]["n_rejected"]) == (N - 10, 10)
    assert record["data"]["rejection_reasons"] == {"new has no embedding of it": 10}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"baseline": {"name": "embeddings:nowhere"}}, "There is no embedding folder"),
        ({"baseline": {"name": "embeddings:old", "pretrained": "x"}}, "pretrained has no meaning"),
        ({"data": {"path": "nowhere", "format": "embeddings"}}, "There is no embedding folder"),
        ({"candidate": {"name": "local-dir:tiny"}}, "has no images"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_runs(folders: Path, changes: dict[str, Any], words: str) -> None:
    write_tiny_model(folders / "tiny", 0)
    code, result, _ = run("audit", str(write_config(folders, **changes)))
    assert code == 2
    assert words in result["error"]
    assert not list((folders / "koda-runs").glob("audits/*"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    rows = ["filepath\ttitle\tcolour"]
    for i in range(40):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(tmp_path / "data" / f"{i:02d}.png")
        rows.append(f"{i:02d}.png\t{'' if i == 3 else f'thing {i}'}\t{('red', 'blue')[i % 2]}")
    rows += ["gone.png\tx\tred", "00.png\tagain\tred"]
    (tmp_path / "data" / "pairs.tsv").write_text("\n".join(rows), encoding="utf-8")
    for seed, name in enumerate(("one", "two")):
        write_tiny_model(tmp_path / name, seed)
    return write_config(
        tmp_path,
        baseline={"name": "local-dir:one", "precision": "fp32"},
        candidate={"name": "local-dir:two", "precision": "fp32"},
        data={"path": "data/pairs.tsv"},
    )


def test_data_shows_what_a_configuration_names_without_running_it(pictures: Path) -> None:
    code, found, _ = run("data", str(pictures), "--set", "data.max_rejected=0")
    assert code == 0
    assert (found["n_source"], found["n_pairs"], found["n_rejected"]) == (42, 40, 1)
    assert found["ledger"]["merged"] == {"another caption of the same image": 1}
    assert not found["within_max_rejected"]
    assert found["n_empty_captions"] == 1
    assert set(found["rejection_reasons"]) == {"the image cannot be read"}
    assert found["ledger"]["rejected"][0]["reason"].endswith("data/gone.png")
    assert [sample["key"] for sample in found["samples"][:2]] == ["00.png", "01.png"]
    assert (found["page"], found["pages"], len(found["samples"])) == (1, 2, 20)
    assert run("data", str(pictures), "--page", "2")[1]["samples"][0]["key"] == "20.png"
    code, told, _ = run("data", str(pictures), "--page", "9")
    assert (code, "pages 1 to 2" in told["error"]) == (2, True)
    human = CliRunner().invoke(app, ["data", str(pictures)])
    assert human.stderr == ""
    assert "42 rows in the source" in human.stdout
    assert "1 left out, since they cannot be used" in human.stdout
    assert "no such file or directory" in human.stdout


def test_models_shows_fingerprints_without_running_anything(pictures: Path) -> None:
    code, found, _ = run("models", str(pictures))
    assert code == 0
    assert not found["same"]
    assert found["baseline"]["fingerprint"] != found["candidate"]["fingerprint"]
    assert found["baseline"]["config_digest"] == found["candidate"]["config_digest"]
    assert found["baseline"]["precision"] == "fp32"
    human = CliRunner().invoke(app, ["models", str(pictures)])
    assert "fingerprint" in human.stdout
    assert run("models", str(pictures), "--set", "candidate.name=local-dir:one")[1]["same"]


@pytest.mark.parametrize("layout", ["koda", "clip-retrieval"])
def test_an_export_reads_back_equal_and_audits_without_the_models(pictures: Path, layout: str) -> None:
    folder = pictures.parent
    code, result, told = run("audit", str(pictures))
    assert code in (0, 1), told
    code, written, _ = run("export", result["id"], "--out", str(folder / "out"), "--layout", layout)
    assert code == 0
    assert written["baseline"]["n"] == 40
    table = EmbeddingTable.load(folder / "out" / "baseline")
    stored = next(
        EmbeddingTable.load(path.parent)
        for path in (folder / "koda-runs" / "artifacts" / "embeddings").glob("*/complete.json")
        if json.loads(path.read_bytes())["info"]["model"]["fingerprint"] == table.fingerprint or layout != "koda"
    )
    if layout == "koda":
        assert np.array_equal(table.image, stored.image)  # type: ignore[arg-type]
        assert table.keys == stored.keys
    assert list(table.metadata["caption"])[:1] == ["thing 0"]
    config = write_config(
        folder,
        baseline={"name": "embeddings:out/baseline"},
        candidate={"name": "embeddings:out/candidate"},
        data={"path": "out/baseline"},
    )
    code, again, told = run("audit", str(config))
    assert code in (0, 1), told
    assert [f["target_share"] for f in again["findings"]] == [f["target_share"] for f in result["findings"]]
    code, told_again, _ = run("export", result["id"], "--out", str(folder / "out"))
    assert (code, "is not empty" in told_again["error"]) == (2, True)


def test_doctor_looks_at_everything_and_names_the_remedy() -> None:
    code, found, _ = run("doctor")
    assert code == 0
    assert found["healthy"]
    states = {check["name"]: check["state"] for check in found["checks"]}
    assert {"Python", "packages", "CPU", "GPU", "Prefect", "KODA_HOME", "database", "PDF"} <= states.keys()
    assert all(check["remedy"] for check in found["checks"] if check["state"] == "fault")
    human = CliRunner().invoke(app, ["doctor"])
    assert "PDF" in human.stdout


def test_a_damaged_database_is_no_reason_why_no_audit_could_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KODA_HOME", str(tmp_path))
    (tmp_path / "koda.duckdb").write_bytes(b"no database" * 999)
    code, found, _ = run("doctor")
    database = next(check for check in found["checks"] if check["name"] == "database")
    assert (code, database["state"]) == (0, "note")


def test_doctor_says_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("KODA_HOME", str(tmp_path / "file" / "home"))
    code, found, _ = run("doctor")
    home = next(check for check in found["checks"] if check["name"] == "KODA_HOME")
    assert (code, home["state"]) == (3, "fault")
    assert home["remedy"]
