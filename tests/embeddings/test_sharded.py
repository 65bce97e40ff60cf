"""Tables in memory and on disk give the same answers; what only the one on disk does."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from koda.embeddings import EmbeddingTable, TableLike
from koda.embeddings.layout import shard_name
from koda.embeddings.matrix_files import _SPAN
from koda.errors import ConfigError, DataError
from tests.embeddings.folders import SIZES, N, make, same, write_koda


def test_what_a_table_says_of_itself(table: TableLike) -> None:
    assert table.keys == make().keys
    assert table.n == N
    assert table.modalities == ("image", "text")
    assert table.dims == {"image": 6, "text": 4}
    assert table.fingerprint in ("model", None)
    assert table.metadata["caption"] == make().metadata["caption"]
    assert table.metadata["size"][6:] == list(range(6, N))
    assert {"caption", "size"} <= set(table.metadata) <= {"caption", "size", "image_path"}
    assert len(table.metadata["size"]) == N
    with pytest.raises(KeyError):
        table.metadata["colour"]


@pytest.mark.parametrize("seed", range(4))
def test_scattered_rows_come_in_the_order_asked_for(table: TableLike, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.permutation(N)[: rng.integers(1, N + 1)]
    same(table.take(rows), rows)
    same(table.take(rows.tolist()), rows)
    same(table.take(rows - N), rows)  # from the end
    mask = np.isin(np.arange(N), rows)
    same(table.take(mask), np.flatnonzero(mask))
    same(table.only(["image", "text"]).take(rows), rows)


def test_views_of_views(table: TableLike) -> None:
    rng = np.random.default_rng(1)
    rows = rng.permutation(N)[:15]
    view = table.select([table.keys[i] for i in rows])
    assert view.keys == tuple(table.keys[i] for i in rows)
    assert view.metadata["caption"] == [make().metadata["caption"][i] for i in rows]
    inner = rng.permutation(15)[:6]
    part = view.only("image").select([view.keys[i] for i in inner])  # type: ignore[arg-type]
    assert part.modalities == ("image",)
    assert part.dims == {"image": 6}
    assert part.fingerprint == table.fingerprint
    same(part.take([5, 0, 3]), rows[inner[[5, 0, 3]]])
    assert part.take([0]).text is None
    assert {type(view), type(part)} == {type(table)}


@pytest.mark.parametrize("size", [1, 4, N, 1000])
def test_chunks_cover_the_rows_once_and_in_order(table: TableLike, size: int) -> None:
    rows = np.random.default_rng(2).permutation(N)
    for part, order in ((table, np.arange(N)), (table.select([table.keys[i] for i in rows]), rows)):
        place = 0
        for piece, chunk in part.chunks(size):
            assert (piece.start, piece.stop) == (place, min(place + size, N))
            assert chunk.metadata == {}
            same(chunk, order[piece])
            place = piece.stop
        assert place == N


def test_rows_of_no_use_are_found_whatever_their_order(table: TableLike) -> None:
    expected = {
        "img/3.jpg": "the image embedding holds NaN or infinity",
        "img/9.jpg": "the text embedding holds NaN or infinity",
        "img/16.jpg": "the image embedding is the zero vector",
    }
    assert table.invalid_rows() == expected
    assert list(table.invalid_rows()) == list(expected)
    backwards = table.select(table.keys[::-1])
    assert list(backwards.invalid_rows().items()) == list(expected.items())[::-1]
    assert table.only(["text"]).invalid_rows().keys() == {"img/9.jpg"}
    assert table.select(["img/0.jpg"]).invalid_rows() == {}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda t: t.take([]), "no rows"),
        (lambda t: t.take([1, 1]), "occurs more than once"),
        (lambda t: t.take([N]), f"The row {N} was asked for"),
        (lambda t: t.take([-N - 1]), "was asked for"),
        (lambda t: t.take(np.ones(3, dtype=bool)), r"mask of rows has shape \(3,\)"),
        (lambda t: t.take(np.array([0.5])), "Rows of type float64"),
        (lambda t: t.select(["img/0.jpg", "zz"]), "1 of 2 keys are not in the table, the first is 'zz'"),
        (lambda t: t.select([]), "no rows"),
        (lambda t: t.select(["img/0.jpg", "img/0.jpg"]), "occurs more than once"),
        (lambda t: t.only(["image", "sound"]), "no sound embeddings"),
        (lambda t: t.only([]), "No modality"),
        (lambda t: t.only(["image"]).only(["text"]), "no text embeddings"),
    ],
)
def test_what_is_not_there_is_said(table: TableLike, wrong: Callable[[TableLike], object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        wrong(table)


def test_chunks_have_a_row_at_least(table: TableLike) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        next(iter(table.chunks(0)))


def test_opening_reads_no_rows_and_chunks_in_memory_copy_nothing(folder: Path) -> None:
    in_memory = EmbeddingTable.load(folder)
    assert all(np.shares_memory(chunk.image, in_memory.image) for _, chunk in in_memory.chunks(5))
    opened = EmbeddingTable.open(folder)
    held = sum(value.nbytes for value in vars(opened).values() if isinstance(value, np.ndarray))
    assert held == 8 * N
    assert repr(opened).startswith(f"ShardedTable('{folder}': image ({N}, 6), text ({N}, 4)")
    back = pickle.loads(pickle.dumps(opened))  # as a worker in another process gets it
    same(back.take([20, 2]), np.array([20, 2]))


def test_a_view_in_memory_is_the_view(folder: Path) -> None:
    view = EmbeddingTable.open(folder).select(["img/8.jpg", "img/2.jpg"]).only(["text"])
    loaded = view.to_memory()
    same(loaded, np.array([8, 2]))
    assert loaded.metadata["caption"] == ["caption 8", "caption 2"]


def test_no_file_stays_open(folder: Path) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    before = len(list(Path("/proc/self/fd").iterdir()))
    table = EmbeddingTable.open(folder)
    pieces = table.chunks(3)
    next(pieces)
    assert table.metadata["caption"]
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_file_is_opened_once_for_all_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = EmbeddingTable.open(write_koda(tmp_path / "t")).only(["image"])
    opened: list[str] = []
    real = Path.open

    def count(path: Path, *args: object, **kwargs: object) -> object:
        opened.append(path.name)
        return real(path, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", count)
    table.take(np.random.default_rng(0).permutation(N))
    assert sorted(opened) == [shard_name(i) for i, size in enumerate(SIZES) if size]


@pytest.mark.parametrize("step", [1, 3, 5000])
def test_rows_far_apart_and_long_runs_are_read_alike(tmp_path: Path, step: int) -> None:
    d = 96
    n = 3 * _SPAN // (d * 4) + 17  # three reads and a rest
    values = np.arange(n * d, dtype=np.float32).reshape(n, d)
    (tmp_path / "img_emb").mkdir()
    np.save(tmp_path / "img_emb" / "img_emb_0.npy", values)
    rows = np.random.default_rng(0).permutation(np.arange(0, n, step))
    assert np.array_equal(EmbeddingTable.open(tmp_path, join="rows").take(rows).image, values[rows])  # type: ignore[arg-type]


def test_types_are_those_of_the_whole_table(tmp_path: Path) -> None:
    (tmp_path / "img_emb").mkdir()
    (tmp_path / "text_emb").mkdir()
    values = np.arange(1, 13.0).reshape(6, 2)
    for number, kind in enumerate(("float16", "float32", ">f8")):
        part = values[2 * number : 2 * number + 2]
        np.save(tmp_path / f"img_emb/img_emb_{number}.npy", part.astype(kind))
        np.save(tmp_path / f"text_emb/text_emb_{number}.npy", part.astype("int64"))
    table = EmbeddingTable.open(tmp_path, join="rows")
    assert table.keys == tuple("012345")
    assert dict(table.metadata) == {}
    first = table.take([0])  # of a float16 part, and yet as the others
    assert (first.image.dtype, first.text.dtype) == (np.dtype("float64"), np.dtype("float32"))  # type: ignore[union-attr]
    assert np.array_equal(EmbeddingTable.load(tmp_path, join="rows").image, values)  # type: ignore[arg-type]


def test_columns_are_read_once_and_then_kept(folder: Path) -> None:
    table = EmbeddingTable.open(folder)
    first = table.metadata["caption"]
    assert table.metadata["caption"] is first
