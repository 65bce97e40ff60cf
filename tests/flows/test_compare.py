"""`koda compare` through the command line, on folders of both layouts and on folders that cannot be compared."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from koda.embeddings import EmbeddingTable
from koda.errors import SolverError
from tests.discrepancy.problems import tables

N = 150


@pytest.fixture
def pair() -> tuple[EmbeddingTable, EmbeddingTable]:
    target, reference = tables(N, seed=3, share=0.2)
    captions = [f"a [bold]ball[/] number {i % 5}" for i in range(N)]
    return EmbeddingTable(target.keys, target.image, target.text, {"caption": captions}), reference


@pytest.fixture
def folders(pair: tuple[EmbeddingTable, EmbeddingTable], tmp_path: Path) -> tuple[str, str]:
    for name, table in zip(("new", "old"), pair, strict=True):
        table.save(tmp_path / name)
    return str(tmp_path / "new"), str(tmp_path / "old")


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["compare", *map(str, arguments), "--set", "device=cpu"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def run_json(*arguments: object) -> dict[str, Any]:
    code, out, err = run(*arguments, "--json", "--set", "n_directions=2")
    assert code == 0, err
    result: dict[str, Any] = json.loads(out)
    return result


def damaged(table: EmbeddingTable, rows: dict[int, float]) -> EmbeddingTable:
    image = np.array(table.image)
    for row, value in rows.items():
        image[row] = value
    return EmbeddingTable(table.keys, image, table.text)


def test_people_see_a_table(folders: tuple[str, str]) -> None:
    code, out, err = run(*folders, "--set", "discrepancy.n_directions=2")
    assert code == 0
    for words in ("150 samples compared, 0 left out", "quotient", "target share", "2 directions", "gap"):
        assert words in " ".join(out.split())
    assert " ".join(out.split()).count("ties together") == 1
    assert "evidence that a finding is real is what koda audit gives" in " ".join(err.split())


def test_json_alone_is_on_stdout(folders: tuple[str, str], tmp_path: Path) -> None:
    result = run_json(*folders, "--both", "--out", tmp_path / "out")
    assert {
        *(
            "target",
            "reference",
            "n",
            "rejected",
            "eps",
            "status",
            "kernels",
            "stats",
            "directions",
            "paths",
            "seconds",
        ),
        *("modality", "notes", "reverse"),
    } == result.keys()
    assert [result["target"], result["reference"]] == list(folders)
    assert result["n"] == N
    for found in result["directions"]:
        assert found["target_share"] > found["reference_share"]
        assert {"direction", "status", "quotient", "multiplier", "gap", "positive", "negative"} <= found.keys()
        assert found["positive"]["size"] >= 1
        assert len(found["positive"]["keys"]) == 10
    for path in result["paths"].values():
        assert Path(path).exists()
    sides = {line.split(",")[0] for line in (tmp_path / "out" / "slices.csv").read_text().splitlines()[1:]}
    assert sides == {"target", "reference"}


def test_both_questions_are_shown(folders: tuple[str, str], tmp_path: Path) -> None:
    code, out, _ = run(*folders, "--both", "--set", "n_directions=1", "--out", tmp_path / "out")
    assert code == 0
    assert " ".join(out.split()).count("ties together") == 2
    assert "slices.csv" in out


def test_clip_retrievals_layout_is_read(pair: tuple[EmbeddingTable, EmbeddingTable], tmp_path: Path) -> None:
    for name, table in zip(("new", "old"), pair, strict=True):
        for part, rows in enumerate((slice(0, 70), slice(70, N))):
            for folder, values in (("img_emb", table.image), ("text_emb", table.text)):
                (tmp_path / name / folder).mkdir(parents=True, exist_ok=True)
                np.save(tmp_path / name / folder / f"{folder}_{part}.npy", values[rows])  # type: ignore[index]
            (tmp_path / name / "metadata").mkdir(exist_ok=True)
            columns = {"image_path": list(table.keys[rows]), "caption": ["x"] * len(table.keys[rows])}
            pq.write_table(pa.table(columns), tmp_path / name / "metadata" / f"metadata_{part}.parquet")
        table.save(tmp_path / f"koda-{name}")
    found = run_json(tmp_path / "new", tmp_path / "old")
    same = run_json(tmp_path / "koda-new", tmp_path / "koda-old")
    assert found["directions"][0]["positive"]["keys"] == same["directions"][0]["positive"]["keys"]
    assert found["eps"] == same["eps"]


def test_rows_of_no_use_are_recorded(pair: tuple[EmbeddingTable, EmbeddingTable], tmp_path: Path) -> None:
    target, reference = pair
    damaged(target, {3: np.nan, 5: 0.0}).take(np.arange(N - 1)).save(tmp_path / "new")
    damaged(reference, {7: np.inf}).save(tmp_path / "old")
    result = run_json(tmp_path / "new", tmp_path / "old")
    assert result["n"] == N - 4
    assert result["rejected"]["count"] == 4
    assert set(result["rejected"]["first"]) == {target.keys[row] for row in (3, 5, 7, N - 1)}
    assert sum(result["rejected"]["reasons"].values()) == 4
    code, out, _ = run(tmp_path / "new", tmp_path / "old", "--set", "n_directions=1")
    assert code == 0
    assert "4 left out" in out
    assert f"zero vector (target model) ('{target.keys[5]}')" in " ".join(out.split())


def test_images_only_on_one_side_is_said(pair: tuple[EmbeddingTable, EmbeddingTable], tmp_path: Path) -> None:
    pair[0].only(["image"]).save(tmp_path / "new")
    pair[1].save(tmp_path / "old")
    result = run_json(tmp_path / "new", tmp_path / "old")
    assert result["modality"] == "image"
    assert "no text embeddings in the target" in result["notes"][0]
    assert set(result["kernels"]["sigmas"]["target"]) == {"image"}
    code, _, err = run(tmp_path / "new", tmp_path / "old", "--set", "n_directions=1")
    assert code == 0
    assert "image embeddings alone" in err


def test_other_kernels_can_be_set(folders: tuple[str, str]) -> None:
    result = run_json(*folders, "--set", "kernel=cosine", "--set", "modality=image")
    assert result["kernels"]["kind"] == "cosine"
    assert result["modality"] == "image"


def test_more_directions_than_there_are(pair: tuple[EmbeddingTable, EmbeddingTable], tmp_path: Path) -> None:
    for name, table in zip(("new", "old"), pair, strict=True):
        table.take(np.arange(8)).save(tmp_path / name)
    code, out, _ = run(tmp_path / "new", tmp_path / "old", "--json", "--set", "n_directions=50")
    result = json.loads(out)
    assert code == 0
    assert len(result["directions"]) < 50
    assert "directions" in result["status"]


def test_the_same_folder_twice_has_nothing_to_find(folders: tuple[str, str]) -> None:
    result = run_json(folders[0], folders[0])
    assert result["directions"] == []
    assert result["status"].startswith("no discrepancy")
    code, out, _ = run(folders[0], folders[0])
    assert code == 0
    assert "no discrepancy" in out


def check_refused(words: str, *arguments: object) -> None:
    """Check that a command exits with 2 and says why, for people and as JSON."""
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert words in " ".join(err.split())
    assert "Traceback" not in err
    code, out, _ = run(*arguments, "--json")
    assert code == 2
    assert words in " ".join(json.loads(out)["error"].split())


def test_what_cannot_be_compared_is_said(
    folders: tuple[str, str], pair: tuple[EmbeddingTable, EmbeddingTable], tmp_path: Path
) -> None:
    new, old = folders
    check_refused("There is no embedding folder", new, tmp_path / "nowhere")
    check_refused("holds no embeddings", new, tmp_path)
    target, reference = pair
    EmbeddingTable([f"img/{key}" for key in target.keys], target.image, target.text).save(tmp_path / "other")
    check_refused("no key in common", tmp_path / "other", old)
    EmbeddingTable(target.keys, np.full((N, 12), np.nan), target.text).save(tmp_path / "nan")
    check_refused("0 usable samples are left of 150", tmp_path / "nan", old)
    target.take([4, 9]).save(tmp_path / "two")
    check_refused("2 usable samples are left", tmp_path / "two", old)
    reference.only(["text"]).save(tmp_path / "text")
    target.only(["image"]).save(tmp_path / "image")
    check_refused("nothing can be compared", tmp_path / "image", tmp_path / "text")
    check_refused("Did you mean 'n_directions'?", new, old, "--set", "discrepancy.n_direction=3")
    check_refused("is not KEY=VALUE", new, old, "--set", "n_directions")
    check_refused("holds no result of koda compare", new, old, "--out", old)
    (Path(old) / "shard-00000.safetensors").write_bytes(b"nothing")
    check_refused("shard-00000.safetensors is not a whole embedding shard", new, old)


def test_another_result_is_not_overwritten(folders: tuple[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_json(*folders, "--out", out)
    run_json(*folders, "--out", out)
    check_refused("another comparison", *folders, "--out", out, "--set", "n_directions=1")


def test_a_solution_that_fails_its_checks_exits_with_3(
    folders: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise SolverError("The solution fails its checks.", "Please report this.")

    monkeypatch.setattr("koda.discrepancy.find_discrepancies", fail)
    code, _, err = run(*folders)
    assert code == 3
    assert "fails its checks" in err


def test_wrong_usage_exits_with_2(folders: tuple[str, str]) -> None:
    assert run(folders[0])[0] == 2
    assert run(*folders, "--no-such-option")[0] == 2


def test_help_names_the_command_and_it_needs_no_prefect(folders: tuple[str, str]) -> None:
    assert "compare" in CliRunner().invoke(app, ["--help"]).output
    code = f"""
import sys
from flows.cli import app
try:
    app(["compare", *{folders!r}, "--set", "n_directions=1", "--json"])
except SystemExit as end:
    print(end.code, sorted({{"prefect", "duckdb", "weasyprint", "open_clip"}} & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "0 []"
