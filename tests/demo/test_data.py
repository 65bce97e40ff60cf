"""The data set on disk: whole or absent, the same for the same seed, never somebody else's folder."""

from __future__ import annotations

import csv
import subprocess
import sys

import pytest
from PIL import Image

from koda.demo import write_data
from koda.demo.scenes import ATTRIBUTES, N_TEMPLATES, caption, draw, sample_scenes
from koda.errors import DataError


def rows_of(folder):
    with (folder / "pairs.tsv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_table_pictures_and_labels_agree(tmp_path):
    folder = write_data(tmp_path / "data", n=40, seed=7)
    rows = rows_of(folder)
    assert tuple(rows[0]) == ("filepath", "title", "key", *ATTRIBUTES)
    assert len({row["key"] for row in rows}) == len(rows) == 40
    for row, scene in zip(rows, sample_scenes(40, seed=7), strict=True):
        assert {name: row[name] for name in ATTRIBUTES} == scene.labels()
        assert row["title"] in {caption(scene, k) for k in range(N_TEMPLATES)}
        with Image.open(folder / row["filepath"]) as picture:
            assert picture.format == "PNG"
            assert picture.tobytes() == draw(scene).tobytes()


def test_bytes_are_the_same_for_the_same_seed_only(tmp_path):
    one = contents(write_data(tmp_path / "one", n=20, seed=0))
    assert one == contents(write_data(tmp_path / "two", n=20, seed=0))
    other = contents(write_data(tmp_path / "three", n=20, seed=1))
    assert one["pairs.tsv"] != other["pairs.tsv"]


def test_a_whole_folder_is_used_again(tmp_path):
    folder = write_data(tmp_path / "data", n=5)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    assert write_data(folder, n=5) == folder
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


@pytest.mark.parametrize("damage", ["missing picture", "cut picture", "changed table", "missing table"])
def test_a_damaged_folder_is_made_again(tmp_path, damage):
    folder = write_data(tmp_path / "data", n=5)
    whole = contents(folder)
    picture, table = folder / "images" / "000003.png", folder / "pairs.tsv"
    if damage == "missing picture":
        picture.unlink()
    elif damage == "cut picture":
        picture.write_bytes(picture.read_bytes()[:100])
    elif damage == "changed table":
        table.write_text(table.read_text().replace("left", "right") + "x")
    else:
        table.unlink()
    write_data(folder, n=5)
    assert contents(folder) == whole
    assert [p.name for p in tmp_path.iterdir()] == ["data"]  # nothing left lying about


def test_an_empty_folder_is_filled_and_a_foreign_one_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    assert len(rows_of(write_data(tmp_path / "empty", n=3))) == 3
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        write_data(foreign, n=3)
    assert contents(foreign) == {"thesis.txt": b"mine"}
    with pytest.raises(DataError, match="is a file"):
        write_data(foreign / "thesis.txt", n=3)


def test_another_size_or_seed_is_refused(tmp_path):
    folder = write_data(tmp_path / "data", n=3, seed=0)
    for n, seed in ((4, 0), (3, 1)):
        with pytest.raises(DataError, match=f"asked for were n = {n}, seed = {seed}"):
            write_data(folder, n=n, seed=seed)


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def full_disk(scene, size=96):
        raise OSError("No space left on device")

    monkeypatch.setattr("koda.demo.data.draw", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_data(tmp_path / "data", n=3)
    assert list(tmp_path.iterdir()) == []


def test_one_pair_and_none(tmp_path):
    assert len(rows_of(write_data(tmp_path / "one", n=1))) == 1
    with pytest.raises(DataError, match="0 scenes"):
        write_data(tmp_path / "none", n=0)
    assert not (tmp_path / "none").exists()


def test_the_package_is_light():
    code = "import sys, koda.demo as d; d.model_path('blind'); print([m for m in ('torch', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
