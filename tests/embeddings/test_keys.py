"""What names the rows of clip-retrieval's folders: keys, or row numbers where that was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from koda.compare import compare_folders
from koda.embeddings import EmbeddingTable, check_same_rows, join_tables
from koda.embeddings.layout import shard_name
from koda.embeddings.writing import write_shard
from koda.errors import ConfigError, DataError
from koda.storage.parquet import write_parquet

N = 60
VALUES = np.random.default_rng(0).normal(size=(N, 5)).astype(np.float32)
QUICK = {"n_directions": 1, "device": "cpu"}


def write(folder: Path, parts: list[dict[str, Any]], values: np.ndarray = VALUES) -> Path:
    """Write parts of equal length with these metadata columns."""
    (folder / "img_emb").mkdir(parents=True)
    for number, (columns, rows) in enumerate(zip(parts, np.array_split(values, len(parts)), strict=True)):
        np.save(folder / f"img_emb/img_emb_{number}.npy", rows)
        if columns:
            (folder / "metadata").mkdir(exist_ok=True)
            pq.write_table(pa.table(columns), folder / f"metadata/metadata_{number}.parquet")
    return folder


def names(first: int, count: int) -> list[str]:
    return [f"{i:05d}" for i in range(first, first + count)]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([{"key": names(0, 30)}] * 2, "30 of 60 rows repeat the 'key'.*'00000' .row 1 of metadata_0.*of metadata_1"),
        ([{"image_path": ["a.jpg"] * 60}], "59 of 60 rows repeat the 'image_path'"),
        ([{"key": names(0, 30)}, {"other": names(0, 30)}], "metadata_1.parquet lacks the column 'key'"),
        ([{"key": [*names(0, 59), None]}], "'key' is empty in 1 rows, the first is row 60 of metadata_0"),
        ([{"key": [*map(float, range(59)), float("nan")]}], "'key' is empty in 1 rows"),
        ([{"key": [*names(0, 59), ""]}], "'key' is empty in 1 rows"),
        ([{"caption": ["x"] * 60}], "neither a column 'key' nor 'image_path'; its columns are 'caption'"),
        ([{}], "it has no metadata"),
    ],
)
def test_rows_that_no_key_names_are_refused_unless_they_are_to_be_joined_by_number(
    tmp_path: Path, parts: list[dict[str, Any]], words: str
) -> None:
    folder = write(tmp_path / "t", parts)
    for read in (EmbeddingTable.load, EmbeddingTable.open):
        with pytest.raises(DataError, match=words) as caught:
            read(folder)
        assert "--join rows" in str(caught.value) and "data.join" in str(caught.value)
    assert EmbeddingTable.open(folder, join="rows").keys == tuple(map(str, range(N)))


def test_a_column_of_numbers_with_a_gap_elsewhere_names_the_same_samples(tmp_path: Path) -> None:
    whole = write(tmp_path / "a", [{"key": list(range(N))}])
    floating = write(tmp_path / "b", [{"key": [float(i) for i in range(N)]}])
    assert EmbeddingTable.open(whole).keys == EmbeddingTable.open(floating).keys


def test_keys_written_in_another_way_are_pointed_out() -> None:
    for ours, theirs, words in (
        (names(1, N), list(range(1, N + 1)), "as numbers.*60 of them would meet"),
        ([f"img/{i}.jpg" for i in range(N)], list(range(N)), "without their folders and suffixes"),
        ([f"A{i}" for i in range(N)], [f"a{i}" for i in range(N)], "small letters"),
    ):
        with pytest.raises(DataError, match=words):
            join_tables(EmbeddingTable(ours, VALUES), EmbeddingTable(theirs, VALUES), ("image",))


def test_rows_are_joined_by_number_only_where_they_may_be_the_same_samples(tmp_path: Path) -> None:
    shards = [{"key": names(0, 30), "caption": [f"{part} {i}" for i in range(30)]} for part in "ab"]
    a, b = write(tmp_path / "a", shards), write(tmp_path / "b", shards, VALUES + 0.01)
    notes = compare_folders(a, b, QUICK, join="rows").notes
    assert any("joined by their row numbers; the column 'key' is the same in every row" in note for note in notes)

    less = {name: [value for shard in shards for value in shard[name]][1:] for name in shards[0]}
    short = write(tmp_path / "short", [less], VALUES[1:])
    with pytest.raises(DataError, match="one side has 60 rows, the other 59"):
        compare_folders(a, short, QUICK, join="rows")
    moved = write(tmp_path / "moved", shards[::-1], np.roll(VALUES, 30, axis=0))
    with pytest.raises(DataError, match="60 of 60 differ in the column 'caption', the first is row 1"):
        compare_folders(a, moved, QUICK, join="rows")
    with_paths = [{"image_path": [f"/{side}/{i}.jpg" for i in range(N)], "caption": [side] * N} for side in "ab"]
    rewritten = [write(tmp_path / f"paths{i}", [columns]) for i, columns in enumerate(with_paths)]
    assert "'image_path'" in check_same_rows(*(EmbeddingTable.open(folder, "rows") for folder in rewritten))
    bare = write(tmp_path / "bare", [{}])
    assert any("nothing else says" in note for note in compare_folders(a, bare, QUICK, join="rows").notes)
    with pytest.raises(ConfigError, match="join is 'row'"):
        compare_folders(a, b, QUICK, join="row")  # type: ignore[arg-type]


def test_a_folder_of_kodas_own_is_joined_by_number_too_and_keeps_its_columns(tmp_path: Path) -> None:
    keys = names(0, N)
    EmbeddingTable(keys, VALUES, metadata={"caption": [f"c{key}" for key in keys]}).save(tmp_path / "a")
    table = EmbeddingTable.open(tmp_path / "a", join="rows")
    assert table.keys == tuple(map(str, range(N)))
    assert list(table.metadata["caption"]) == [f"c{key}" for key in keys]


def test_equal_keys_of_other_captions_are_noted(tmp_path: Path) -> None:
    folders = [
        write(tmp_path / name, [{"key": names(0, N), "caption": [f"{name} {i}" for i in range(N)]}]) for name in "ab"
    ]
    assert any("60 of 60 samples of one key have another caption" in n for n in compare_folders(*folders, QUICK).notes)


def test_metadata_that_name_a_sample_twice_are_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / shard_name(0), ["a", "b"], {"image": np.eye(2)})
    write_parquet(tmp_path / "metadata.parquet", {"key": ["a", "a"], "caption": ["x", "y"]})
    with pytest.raises(DataError, match="a 'key' stands twice"):
        EmbeddingTable.load(tmp_path)


def test_a_shard_row_without_a_key_is_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / shard_name(0), ["a", None], {"image": np.eye(2)})  # type: ignore[list-item]
    with pytest.raises(DataError, match="its row 2 has no key"):
        EmbeddingTable.open(tmp_path)


def test_two_files_of_one_number_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "t", [{"key": names(0, N)}])
    np.save(folder / "img_emb/img_emb_00.npy", VALUES)
    with pytest.raises(DataError, match=r"part 0 twice: img_emb_0\.npy and img_emb_00\.npy"):
        EmbeddingTable.open(folder)
