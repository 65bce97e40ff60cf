"""Comparing two embedding folders: the modality, the settings, the files, and their refusal to be overwritten."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import koda
from koda.compare import Comparison, Question, compare_folders, slices_csv, summarise
from koda.discrepancy.saving import load_solution
from koda.embeddings import EmbeddingTable
from koda.errors import ConfigError, DataError, StoreError
from tests.discrepancy.problems import tables

N = 150
QUICK: dict[str, Any] = {"n_directions": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A target that ties the purple fifth of the samples together, and a reference that does not."""
    place = tmp_path_factory.mktemp("models")
    target, reference = tables(N, seed=3, share=0.2)
    purple = (target.image != reference.image).any(axis=1)  # type: ignore[union-attr,operator]
    columns = {
        "caption": [f"a purple ball {i % 7}" if found else f"a red cube {i % 7}" for i, found in enumerate(purple)],
        "colour": ["purple" if found else "red" for found in purple],
        "score": list(range(N)),  # the name of a column of slices.csv
    }
    EmbeddingTable(target.keys, target.image, target.text, columns).save(place / "target")
    EmbeddingTable(reference.keys, reference.image, reference.text, {"shot": ["close"] * N}).save(place / "reference")
    return place / "target", place / "reference"


@pytest.fixture(scope="module")
def comparison(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return compare_folders(*folders, QUICK, both=True, out=tmp_path_factory.mktemp("out") / "result")


def ask(folders: tuple[Path, Path], **settings: Any) -> Question:
    return compare_folders(*folders, {**QUICK, **settings}).questions[0]


def test_it_is_the_search_of_the_library_both_ways(folders: tuple[Path, Path], comparison: Comparison) -> None:
    loaded = [EmbeddingTable.load(folder) for folder in folders]
    config = koda.DiscrepancyConfig(**QUICK)
    assert [question.side for question in comparison.questions] == ["target", "reference"]
    for question, pair in zip(comparison.questions, (loaded, loaded[::-1]), strict=True):
        expected = koda.find_discrepancies(*pair, config)
        assert question.solution.keys == expected.keys
        assert question.solution.eps == expected.eps
        for found, right in zip(question.solution.directions, expected.directions, strict=True):
            np.testing.assert_array_equal(found.x, right.x)
        for piece, right_piece in zip(question.slices, koda.slices(expected, *pair), strict=True):
            assert piece.positive.keys == right_piece.positive.keys
            assert piece.negative.words == right_piece.negative.words


def test_the_planted_group_has_its_words(folders: tuple[Path, Path]) -> None:
    piece = ask(folders, modality="image").slices[0]
    assert "purple" in {word.text for lobe in (piece.positive, piece.negative) for word in lobe.words}


def test_the_summary_is_json_without_nan(comparison: Comparison) -> None:
    result = json.loads(json.dumps(summarise(comparison), allow_nan=False))
    assert result["n"] == N
    assert result["rejected"] == {"count": 0, "reasons": {}, "first": {}}
    assert result["modality"] == "joint"
    assert set(result["kernels"]["sigmas"]["target"]) == {"image", "text"}
    assert [found["direction"] for found in result["directions"]] == [1, 2]
    first, solution = result["directions"][0], comparison.questions[0].solution
    for name in ("target_energy", "reference_energy", "target_share", "reference_share", "quotient", "multiplier"):
        assert first[name] == pytest.approx(getattr(solution.directions[0], name), rel=1e-12)
    lobe = comparison.questions[0].slices[0].positive
    assert first["positive"]["keys"] == list(lobe.keys[:10])
    assert first["positive"]["size"] == lobe.size
    assert result["reverse"]["target"] == result["reference"]
    assert result["reverse"]["directions"] != result["directions"]
    assert "not of held-out ones" in result["notes"][-1]


def test_what_is_not_finite_is_null_in_the_summary(comparison: Comparison) -> None:
    first = comparison.questions[0]
    stats = {"a": math.nan, "b": np.float32(0.5), "c": np.array([1, 2]), "d": Path("x"), "e": (math.inf, None, True)}
    solution = type(first.solution)(**{**vars(first.solution), "stats": stats})
    changed = type(comparison)(**{**vars(comparison), "questions": (Question("target", solution, first.slices),)})
    found = json.loads(json.dumps(summarise(changed), allow_nan=False))["stats"]
    assert found == {"a": None, "b": 0.5, "c": [1, 2], "d": "x", "e": [None, None, True]}


def test_the_files(comparison: Comparison) -> None:
    paths = comparison.paths
    assert {"folder", "slices", "solution", "directions", "reverse"} == paths.keys()
    assert {path.name for path in paths["folder"].iterdir()} == {
        "compare.json",
        "slices.csv",
        "solution.json",
        "timings.json",
        "directions.safetensors",
        "reverse",
    }
    for question, folder in zip(comparison.questions, (paths["folder"], paths["reverse"]), strict=True):
        back = load_solution(folder)
        assert back.keys == question.solution.keys
        np.testing.assert_array_equal(back.directions[1].x, question.solution.directions[1].x)
    with paths["slices"].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("side", "direction", "lobe", "rank", "key", "score", "caption"),
        *("shot", "colour", "data.score", "in_slice"),
    ]
    metadata = EmbeddingTable.load(comparison.target.source.folder)
    row_of = {key: row for row, key in enumerate(metadata.keys)}
    for question in comparison.questions:
        for piece in question.slices:
            for lobe in (piece.positive, piece.negative):
                mine = [
                    row
                    for row in rows
                    if (row["side"], row["direction"], row["lobe"]) == (question.side, str(piece.direction), lobe.sign)
                ]
                assert [row["key"] for row in mine] == list(lobe.keys)
                assert [int(row["rank"]) for row in mine] == list(range(1, len(lobe.keys) + 1))
                assert [float(row["score"]) for row in mine] == lobe.scores.tolist()
                assert sum(row["in_slice"] == "True" for row in mine) == lobe.size
                for row in mine:
                    assert row["caption"] == metadata.metadata["caption"][row_of[row["key"]]]
                    assert row["colour"] in row["caption"]
                    assert int(row["data.score"]) == metadata.metadata["score"][row_of[row["key"]]]


def test_slices_without_metadata_or_directions(folders: tuple[Path, Path], tmp_path: Path) -> None:
    table = EmbeddingTable.load(folders[0])
    bare = EmbeddingTable(table.keys, table.image, table.text)
    question = ask(folders)
    rows = list(csv.reader(io.StringIO(slices_csv([question], bare, bare).decode())))
    assert rows[0] == ["side", "direction", "lobe", "rank", "key", "score", "caption", "in_slice"]
    assert rows[1][6] == ""
    result = compare_folders(folders[0], folders[0], QUICK, out=tmp_path / "same")
    assert result.questions[0].solution.status.startswith("no discrepancy")
    assert (tmp_path / "same" / "slices.csv").read_text().splitlines() == [",".join(rows[0])]
    assert load_solution(tmp_path / "same").directions == ()
    assert summarise(result)["directions"] == []


# --- settings


def test_settings_go_with_and_without_their_section(folders: tuple[Path, Path]) -> None:
    plain = ask(folders, modality="text", seed=4).solution.config
    assert plain == ask(folders, **{"discrepancy.modality": "text", "discrepancy.seed": 4}).solution.config
    assert (plain.modality, plain.seed) == ("text", 4)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_direction": 3}, "no setting 'n_direction'.\n.*'n_directions'"),
        ({"significance.alpha": 0.1}, "no setting 'significance.alpha'"),
        ({"zzz": 1}, "has the settings modality, kernel"),
        ({"n_directions": 0}, r"n_directions: input should be greater.*it is 0"),
        ({"n_directions": "many"}, r"n_directions: .*it is 'many'"),
        ({"sigma": "wide"}, "sigma: .*'wide'"),
        ({"eps": 0.1, "eps_quantile": 0.5}, "do not fit together: eps_quantile and eps each set eps"),
        ({"modality": "sound"}, "modality: .*'sound'"),
        ({"device": "abacus"}, "abacus"),
    ],
)
def test_settings_that_are_refused(folders: tuple[Path, Path], settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        compare_folders(*folders, {**QUICK, **settings} if "eps" not in settings else settings)


def save_parts(folder: Path, table: EmbeddingTable, *names: str) -> Path:
    table.only(names).save(folder)
    return folder


def test_the_modality_that_both_have_is_the_default(folders: tuple[Path, Path], tmp_path: Path) -> None:
    target, reference = (EmbeddingTable.load(folder) for folder in folders)
    image = save_parts(tmp_path / "image", target, "image")
    text = save_parts(tmp_path / "text", reference, "text")
    for pair, absent in (((image, folders[1]), "the target"), ((image, image), "the target and the reference")):
        found = compare_folders(*pair, QUICK)
        assert found.questions[0].solution.config.modality == "image"
        assert found.notes[0] == (f"Compared by the image embeddings alone: there are no text embeddings in {absent}.")
    assert len(compare_folders(*folders, {**QUICK, "modality": "image"}).notes) == 1  # as asked: nothing to say
    with pytest.raises(DataError, match="image embeddings only, the reference text embeddings only"):
        compare_folders(image, text, QUICK)
    with pytest.raises(ConfigError, match="needs text embeddings, which the target"):
        compare_folders(image, folders[1], {**QUICK, "modality": "joint"})


# --- where the results go


def test_the_same_result_again_is_fine_and_another_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "deep" / "result"
    for _ in range(2):
        compare_folders(*folders, {**QUICK, "n_directions": 1}, out=out)
    before = {path: path.read_bytes() for path in out.iterdir()}
    for arguments in (
        {"settings": QUICK},
        {"settings": {**QUICK, "n_directions": 1}, "both": True},
    ):
        with pytest.raises(ConfigError, match="holds the result of another comparison"):
            compare_folders(*folders, **arguments, out=out)
    with pytest.raises(ConfigError, match=r"another comparison \(different: target, reference\)"):
        compare_folders(*folders[::-1], {**QUICK, "n_directions": 1}, out=out)
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    (out / "slices.csv").unlink()  # a run that was cut short
    compare_folders(*folders, {**QUICK, "n_directions": 1}, out=out)
    assert (out / "slices.csv").read_bytes() == before[out / "slices.csv"]


def test_folders_of_something_else_are_left_alone(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ConfigError, match="is a file"):
        compare_folders(*folders, QUICK, out=tmp_path / "file")
    for damaged in (b"precious", b"[]", b"{}"):
        (tmp_path / "compare.json").write_bytes(damaged)
        with pytest.raises(ConfigError, match="holds no result of koda compare"):
            compare_folders(*folders, QUICK, out=tmp_path)
        assert (tmp_path / "compare.json").read_bytes() == damaged
    with pytest.raises(ConfigError, match="holds no result"):
        compare_folders(*folders, QUICK, out=folders[0])
    with pytest.raises(StoreError, match="is no folder"):
        compare_folders(*folders, QUICK, out=tmp_path / "file" / "inside")
    empty = tmp_path / "empty"
    empty.mkdir()
    compare_folders(*folders, QUICK, out=empty)
    assert (empty / "slices.csv").is_file()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_someone_else_is_found_before_the_search(folders: tuple[Path, Path], tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="is no folder"):
        compare_folders(*folders, QUICK, out=tmp_path / "out")


def test_a_kernel_without_bandwidth_reports_none(folders: tuple[Path, Path]) -> None:
    found = summarise(compare_folders(*folders, {**QUICK, "kernel": "cosine"}))
    assert found["kernels"]["kind"] == "cosine"
    assert found["kernels"]["sigmas"] == {"target": {}, "reference": {}}
