"""Embedding tables: shapes, keys, and the two layouts on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from koda import EmbeddingTable
from koda.errors import DataError


def table(n: int = 5) -> EmbeddingTable:
    rng = np.random.default_rng(0)
    keys = [f"k{i}" for i in range(n)]
    return EmbeddingTable(
        keys, rng.normal(size=(n, 3)).astype(np.float32), rng.normal(size=(n, 2)), {"caption": list("abcde"[:n])}
    )


def test_tensors_and_arrays_are_taken_alike() -> None:
    values = np.arange(6.0).reshape(3, 2)
    for given in (
        values,
        torch.tensor(values),
        torch.tensor(values, dtype=torch.bfloat16),
        values.astype(int),
        torch.arange(6).reshape(3, 2),
    ):
        assert np.array_equal(EmbeddingTable(["a", "b", "c"], image=given).image, values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"keys": []}, "no rows"),
        ({"keys": ["a", "a"], "image": np.eye(2)}, "'a' occurs more than once"),
        ({"keys": ["a", "b"]}, "Neither image nor text"),
        ({"keys": ["a"], "image": np.eye(2)}, "1 keys but 2 rows"),
        ({"keys": ["a", "b"], "text": np.ones(2)}, "a matrix"),
        ({"keys": ["a"], "image": np.ones((1, 0))}, "no dimensions"),
        ({"keys": ["a"], "image": np.array([["x"]])}, "numbers are needed"),
        ({"keys": ["a"], "image": np.ones((1, 2)), "metadata": {"c": [1, 2]}}, "'c' has 2 values for 1 keys"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        EmbeddingTable(**arguments)  # type: ignore[arg-type]


def test_rows_that_no_kernel_can_use_are_named() -> None:
    image = np.array([[1.0, 0], [np.nan, 1], [0, 0], [np.inf, 2]])
    reasons = EmbeddingTable(["a", "b", "c", "d"], image).invalid_rows()
    assert reasons.keys() == {"b", "c", "d"}
    assert "NaN" in reasons["b"]
    assert "zero" in reasons["c"]


def test_selection_is_by_key_in_the_order_asked_for() -> None:
    part = table().select(["k3", "k0"])
    assert part.keys == ("k3", "k0")
    assert part.metadata["caption"] == ["d", "a"]
    assert np.array_equal(part.take(np.array([False, True])).image, table().image[:1])  # type: ignore[index]
    with pytest.raises(DataError, match="'zz'"):
        table().select(["zz"])


def test_a_selection_of_all_rows_in_their_order_copies_nothing() -> None:
    own = table()
    for keys in (own.keys, list(own.keys)):
        assert own.select(keys).image is own.image
    assert not np.shares_memory(own.select(own.keys[::-1]).image, own.image)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [1, 5])
def test_a_saved_table_reads_back_equal(tmp_path: Path, n: int) -> None:
    table(n).save(tmp_path / "t")
    back = EmbeddingTable.load(tmp_path / "t")
    assert back.keys == table(n).keys
    assert np.array_equal(back.image, table(n).image)  # type: ignore[arg-type]
    assert np.array_equal(back.text, table(n).text)  # type: ignore[arg-type]
    assert back.metadata == table(n).metadata
    with pytest.raises(DataError, match="not empty"):
        table(n).save(tmp_path / "t")


def test_many_shards_read_back_in_order(tmp_path: Path) -> None:
    keys = [f"{i:05d}" for i in range(2500)]
    EmbeddingTable(keys, text=np.arange(2500.0)[:, None]).save(tmp_path / "t")
    assert len(list((tmp_path / "t").glob("shard-*"))) == 3
    assert np.array_equal(EmbeddingTable.load(tmp_path / "t").text[:, 0], np.arange(2500.0))  # type: ignore[index]
    (tmp_path / "t" / "shard-00001.safetensors").unlink()
    with pytest.raises(DataError, match=r"shard-00001\.safetensors is missing"):
        EmbeddingTable.load(tmp_path / "t")


def test_damaged_shards_are_refused(tmp_path: Path) -> None:
    table().save(tmp_path / "t")
    shard = tmp_path / "t" / "shard-00000.safetensors"
    whole = shard.read_bytes()
    for damaged in (b"", whole[:20], whole[:-5], b"\xff" * 100):
        shard.write_bytes(damaged)
        with pytest.raises(DataError, match="not a whole embedding shard"):
            EmbeddingTable.load(tmp_path / "t")


def clip_retrieval(folder: Path, parts: list[int], *, paths: list[str] | None = None) -> np.ndarray:
    rng = np.random.default_rng(1)
    image = rng.normal(size=(sum(parts), 4)).astype(np.float16)
    start = 0
    for name in ("img_emb", "text_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    for number, size in enumerate(parts):
        rows = slice(start, start + size)
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", image[rows])
        np.save(folder / "text_emb" / f"text_emb_{number}.npy", image[rows] * 2)
        names = (paths or [f"img/{i}.jpg" for i in range(sum(parts))])[rows]
        columns = {"image_path": names, "caption": [f"c{i}" for i in range(rows.start, rows.stop)]}
        pq.write_table(pa.table(columns), folder / "metadata" / f"metadata_{number}.parquet")
        start += size
    return image


def test_clip_retrievals_layout(tmp_path: Path) -> None:
    image = clip_retrieval(tmp_path, [2] * 11)  # part 10 comes after part 9, not after part 1
    found = EmbeddingTable.load(tmp_path)
    assert np.array_equal(found.image, image)  # type: ignore[arg-type]
    assert np.array_equal(found.text, image * 2)  # type: ignore[arg-type]
    assert found.keys[:2] == ("img/0.jpg", "img/1.jpg")
    assert found.metadata["caption"][21] == "c21"


def test_parts_that_do_not_align_are_refused(tmp_path: Path) -> None:
    clip_retrieval(tmp_path, [2, 2])
    np.save(tmp_path / "text_emb" / "text_emb_1.npy", np.ones((3, 4)))
    with pytest.raises(DataError, match="part 1 has rows that do not align"):
        EmbeddingTable.load(tmp_path)
    (tmp_path / "text_emb" / "text_emb_1.npy").unlink()
    with pytest.raises(DataError, match="do not belong together"):
        EmbeddingTable.load(tmp_path)


def test_folders_without_embeddings(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no embedding folder"):
        EmbeddingTable.load(tmp_path / "no")
    with pytest.raises(DataError, match="holds no embeddings"):
        EmbeddingTable.load(tmp_path)


@pytest.mark.parametrize("layout", ["koda", "clip-retrieval"])
def test_either_layout_reads_back_equal(tmp_path: Path, layout: str) -> None:
    rng = np.random.default_rng(0)
    whole = EmbeddingTable(
        [f"k{i}" for i in range(30)],
        rng.normal(size=(30, 5)).astype(np.float16),
        rng.normal(size=(30, 4)).astype(np.float32),
        {"caption": [f"caption {i}" for i in range(30)], "image_path": [f"images/{i}.jpg" for i in range(30)]},
    )
    whole.save(tmp_path / "out", layout)  # type: ignore[arg-type]
    back = EmbeddingTable.load(tmp_path / "out")
    assert back.keys == whole.keys
    assert np.array_equal(back.image, whole.image)  # type: ignore[arg-type]
    assert np.array_equal(back.text, whole.text)  # type: ignore[arg-type]
    assert back.image.dtype == np.float16  # type: ignore[union-attr]
    assert {name: list(back.metadata[name]) for name in whole.metadata} == whole.metadata


def test_clip_retrievals_layout_is_written_as_its_tools_expect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr("koda.embeddings.writing.CLIP_PART_ROWS", 2)
    whole = EmbeddingTable(["a", "b", "c"], np.eye(3), np.eye(3)[::-1], {"caption": ["x", "y", "z"]})
    whole.save(tmp_path / "out", "clip-retrieval")
    names = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert names == [
        f"{folder}/{folder}_{number}.npy" if "emb" in folder else f"{folder}/{folder}_{number}.parquet"
        for folder in ("img_emb", "metadata", "text_emb")
        for number in (0, 1)
    ]
    assert np.array_equal(np.load(tmp_path / "out/img_emb/img_emb_1.npy"), np.eye(3)[2:])
    first = pq.ParquetFile(tmp_path / "out/metadata/metadata_0.parquet").read().to_pydict()
    assert first == {"image_path": ["a", "b"], "caption": ["x", "y"], "key": ["a", "b"]}
    assert EmbeddingTable.load(tmp_path / "out").keys == ("a", "b", "c")


def test_a_table_and_its_folder_have_a_short_repr(tmp_path: Path) -> None:
    made = EmbeddingTable(range(500), image=np.ones((500, 3)))  # type: ignore[arg-type]
    made.save(tmp_path / "t")
    for one in (made, EmbeddingTable.open(tmp_path / "t"), EmbeddingTable.open(tmp_path / "t").source):
        assert len(repr(one)) < 300
    assert "image (500, " in repr(made)


@pytest.mark.parametrize(
    ("keys", "image", "words"),
    [
        ("abc", np.eye(3), "The keys are str"),
        (None, np.eye(3), "The keys are NoneType"),
        ({"a", "b", "c"}, np.eye(3), "The keys are set"),
        (["a", "b"], torch.ones(2, 2, dtype=torch.complex64), "have type complex64"),
        (["a", None, "c"], np.eye(3), "Row 2 has no key"),
        ([1.0, float("nan"), 3.0], np.eye(3), "Row 2 has no key"),
        (["a", "", "c"], np.eye(3), "Row 2 has no key"),
        (np.eye(3), np.eye(3), "A key has the shape"),
        ([1, 1.0, 2], np.eye(3), "'1' occurs more than once"),
        (["a", "b"], np.eye(3), "2 keys but 3 rows"),
        (["a", "b"], [[1.0, 2.0], [1.0]], "rows of different lengths"),
        (["a", "b"], np.array([np.ones(2), None], dtype=object), r"have shape \(2,\)(.|\n)*numpy\.stack"),
        (["a", "b"], np.array([[1, 2], [3, None]], dtype=object), r"have type object(.|\n)*numpy\.stack"),
        (["a", "b"], np.ones(2), "a matrix"),
        (["a", "b"], np.ones((2, 2), dtype=complex), "have type complex128"),
    ],
)
def test_what_is_no_table_is_said_in_words(keys: Any, image: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        EmbeddingTable(keys, image=image)


def test_numbers_of_any_type_are_the_same_keys() -> None:
    wanted = ("0", "1", "2")
    for keys in ([0, 1, 2], [0.0, 1.0, 2.0], np.arange(3), np.arange(3, dtype=np.float32), ["0", "1", "2"]):
        assert EmbeddingTable(keys, image=np.eye(3)).keys == wanted
    assert EmbeddingTable(["00", "01", "02"], image=np.eye(3)).keys == ("00", "01", "02")


def test_arrays_of_any_layout_and_byte_order_hold_the_same_values() -> None:
    values = np.arange(6.0, dtype=np.float32).reshape(3, 2)
    given = (
        values.astype(">f4"), np.asfortranarray(values), values.astype(np.longdouble), values.astype(np.uint8),
        torch.from_numpy(values).to_sparse(), torch.from_numpy(values).bfloat16(), torch.from_numpy(values).int(),
    )  # fmt: skip
    for one in given:
        table = EmbeddingTable(range(3), image=one)  # type: ignore[arg-type]
        assert np.array_equal(table.image, values)  # type: ignore[arg-type]
        assert table.image.dtype.isnative and table.image.dtype.kind == "f"  # type: ignore[union-attr]


def test_metadata_that_are_no_columns_are_said() -> None:
    for metadata, words in (([1, 2], "The metadata are list"), ({"c": 1}, "'c' is int"), ({"c": [1]}, "1 values")):
        with pytest.raises(DataError, match=words):
            EmbeddingTable(["a", "b"], image=np.eye(2), metadata=metadata)  # type: ignore[arg-type]


def test_masked_values_are_missing_ones() -> None:
    image = np.ma.masked_array(np.eye(3), mask=[[0, 1, 0], [0, 0, 0], [0, 0, 0]])
    assert set(EmbeddingTable(["a", "b", "c"], image=image).invalid_rows()) == {"a"}
