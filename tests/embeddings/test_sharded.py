"""Tables on disk: the same answers as in memory, and what can go wrong with the files."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from koda.embeddings import EmbeddingTable, ShardedTable, TableLike
from koda.embeddings.layout import shard_name
from koda.embeddings.matrix_files import _SPAN
from koda.embeddings.writing import write_shard
from koda.errors import ConfigError, DataError
from koda.storage.parquet import write_parquet

SIZES = (7, 1, 0, 12, 5)  # rows of the parts; one of them is empty
N = sum(SIZES)
DAMAGE = {3: np.nan, 9: np.inf, 16: 0.0}


def make() -> EmbeddingTable:
    """The table that every folder here holds; three rows are of no use."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(N, 6)).astype(np.float32)
    text = rng.normal(size=(N, 4)).astype(np.float16)
    for row, value in DAMAGE.items():
        (text if row == 9 else image)[row] = value
    captions = [None if i == 5 else f"caption {i}" for i in range(N)]
    return EmbeddingTable(
        [f"img/{i}.jpg" for i in range(N)], image, text, {"caption": captions, "size": list(range(N))}
    )


def write_koda(folder: Path, *, fingerprint: str | None = "model") -> Path:
    table, start = make(), 0
    folder.mkdir()
    for number, size in enumerate(SIZES):
        rows = slice(start, start + size)
        arrays = {"image": table.image[rows], "text": table.text[rows]}  # type: ignore[index]
        write_shard(folder / shard_name(number), table.keys[rows], arrays, extra={"fingerprint": fingerprint})
        start += size
    order = [i for i in reversed(range(N)) if i != 5]  # metadata are joined by key, and may lack one
    columns = {name: [table.metadata[name][i] for i in order] for name in table.metadata}
    columns["size"].append(-1)  # a sample that is not in the table
    columns["caption"].append("nowhere")
    write_parquet(folder / "metadata.parquet", {"key": [*(table.keys[i] for i in order), "other"], **columns})
    return folder


def write_clip_retrieval(folder: Path) -> Path:
    table, start = make(), 0
    for name in ("img_emb", "text_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    for number, size in enumerate(SIZES):
        rows = slice(start, start + size)
        np.save(folder / f"img_emb/img_emb_{number}.npy", table.image[rows])  # type: ignore[index]
        np.save(folder / f"text_emb/text_emb_{number}.npy", np.asfortranarray(table.text[rows]))  # type: ignore[index]
        columns = {"image_path": list(table.keys[rows]), **{k: v[rows] for k, v in table.metadata.items()}}
        if number == 3:
            columns["only_here"] = [1] * size
        write_parquet(folder / f"metadata/metadata_{number}.parquet", columns)
        start += size
    return folder


LAYOUTS = {"koda": write_koda, "clip-retrieval": write_clip_retrieval}
KINDS = {"memory": EmbeddingTable.load, "disk": EmbeddingTable.open}


@pytest.fixture(params=LAYOUTS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return LAYOUTS[request.param](tmp_path / "table")


@pytest.fixture(params=KINDS)
def table(request: pytest.FixtureRequest, folder: Path) -> TableLike:
    return KINDS[request.param](folder)


def same(found: EmbeddingTable, rows: np.ndarray) -> None:
    """Check a table in memory against rows of the one that was written."""
    truth = make()
    assert isinstance(found, EmbeddingTable)
    assert found.keys == tuple(truth.keys[i] for i in rows)
    for name in found.modalities:
        values, expected = getattr(found, name), getattr(truth, name)[rows]
        assert values.dtype == expected.dtype
        np.testing.assert_array_equal(values, expected)


# --- the contract: what holds of every table


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


# --- the table on disk


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
    assert np.array_equal(EmbeddingTable.open(tmp_path).take(rows).image, values[rows])  # type: ignore[arg-type]


def test_types_are_those_of_the_whole_table(tmp_path: Path) -> None:
    (tmp_path / "img_emb").mkdir()
    (tmp_path / "text_emb").mkdir()
    values = np.arange(1, 13.0).reshape(6, 2)
    for number, kind in enumerate(("float16", "float32", ">f8")):
        part = values[2 * number : 2 * number + 2]
        np.save(tmp_path / f"img_emb/img_emb_{number}.npy", part.astype(kind))
        np.save(tmp_path / f"text_emb/text_emb_{number}.npy", part.astype("int64"))
    table = EmbeddingTable.open(tmp_path)
    assert table.keys == tuple("012345")
    assert dict(table.metadata) == {}
    first = table.take([0])  # of a float16 part, and yet as the others
    assert (first.image.dtype, first.text.dtype) == (np.dtype("float64"), np.dtype("float32"))  # type: ignore[union-attr]
    assert np.array_equal(EmbeddingTable.load(tmp_path).image, values)  # type: ignore[arg-type]


def test_columns_are_read_once_and_then_kept(folder: Path) -> None:
    table = EmbeddingTable.open(folder)
    first = table.metadata["caption"]
    assert table.metadata["caption"] is first


# --- folders that are not right when they are opened


def shard(folder: Path, number: int, keys: list[str], image: np.ndarray | None = None, **arrays: np.ndarray) -> None:
    if image is not None:
        arrays["image"] = image
    write_shard(folder / shard_name(number), keys, arrays)


def test_shards_that_do_not_fit_together(tmp_path: Path) -> None:
    def opening(words: str) -> None:
        for read in KINDS.values():
            with pytest.raises(DataError, match=words):
                read(tmp_path)

    shard(tmp_path, 0, ["a"], np.ones((1, 2)))
    shard(tmp_path, 1, ["b"], np.ones((1, 3)))
    opening(r"image embeddings of different dimensions: \[2, 3\]")
    shard(tmp_path, 1, ["b"], text=np.ones((1, 2)))
    opening("different modalities")
    shard(tmp_path, 1, ["a"], np.ones((1, 2)))
    opening("'a' occurs more than once")
    write_shard(tmp_path / shard_name(1), ["b"], {"image": np.ones((1, 2))}, extra={"fingerprint": "another"})
    opening("shard-00001.safetensors comes from another model")
    shard(tmp_path, 3, ["d"], np.ones((1, 2)))
    opening("shard-00002.safetensors is missing")
    (tmp_path / shard_name(1)).unlink()
    (tmp_path / shard_name(3)).unlink()
    shard(tmp_path, 0, ["a"], np.ones(1))
    opening(r"'image' has shape \(1,\); a matrix")
    shard(tmp_path, 0, ["a"], np.ones((1, 0)))
    opening("no dimensions")
    shard(tmp_path, 0, ["a"], sound=np.ones((1, 2)))
    opening("neither image nor text")
    shard(tmp_path, 0, ["a", "b"], np.ones((1, 2)))
    opening("keys and rows differ in number")
    shard(tmp_path, 0, [], np.ones((0, 2)))
    opening("holds shards but no embedding")
    shard(tmp_path, 0, ["a"], np.ones((1, 2)))
    write_parquet(tmp_path / "metadata.parquet", {"name": ["a"]})
    opening("has no column `key`")
    (tmp_path / "metadata.parquet").write_bytes(b"PAR1")
    opening("metadata.parquet is not a Parquet file")


def with_header(path: Path, change: Callable[[bytes], bytes]) -> None:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = change(data[8 : 8 + length])
    path.write_bytes(struct.pack("<Q", len(header)) + header + data[8 + length :])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda h: h.replace(b'"F32"', b'"BF16"'), "'image' has the type BF16, which koda does not read"),
        (lambda h: h.replace(b'"koda"', b'"kodb"'), "its header holds no keys"),
        (lambda h: h.replace(b'"shape":[7,6]', b'"shape":[7,5]'), "not as long as its shape says"),
        (lambda h: h.replace(b'"shape":[7,6]', b'"shape":[-7,-6]'), "not as long as its shape says"),
        (lambda h: h.replace(b'"shape":[7,6]', b'"shape":"ab"'), "not a whole embedding shard"),
        (lambda h: h.rstrip()[:-1], "not a whole embedding shard"),
        (lambda h: b"[]", "not a whole embedding shard"),
    ],
)
def test_headers_that_are_not_right(tmp_path: Path, change: Callable[[bytes], bytes], words: str) -> None:
    path = write_koda(tmp_path / "t") / shard_name(0)
    before = path.read_bytes()
    with_header(path, change)
    assert path.read_bytes() != before
    with pytest.raises(DataError, match=words) as caught:
        EmbeddingTable.open(path.parent)
    assert shard_name(0) in str(caught.value)


def test_a_truncated_file_is_found_when_the_folder_is_opened(folder: Path) -> None:
    path = sorted([*folder.glob("shard-00003*"), *folder.glob("img_emb/img_emb_3.npy")])[0]
    os.truncate(path, path.stat().st_size - 1)
    for read in KINDS.values():
        with pytest.raises(DataError) as caught:
            read(folder)
        assert path.name in str(caught.value)


def test_npy_files_that_hold_no_matrix_of_numbers(tmp_path: Path) -> None:
    (tmp_path / "img_emb").mkdir()
    path = tmp_path / "img_emb" / "img_emb_0.npy"
    cases = [
        (np.ones(3), "has shape"),
        (np.ones((2, 2), dtype=complex), "has the type complex128"),
        (np.array([["a"]]), "has the type"),
        (np.array([[None]]), "holds Python objects"),
        (np.ones((2, 0)), "no dimensions"),
        (np.ones((0, 2)), "holds parts but no embedding"),
    ]
    for values, words in cases:
        np.save(path, values)
        with pytest.raises(DataError, match=words):
            EmbeddingTable.open(tmp_path)
    for damaged in (b"", b"\x93NUMPY", b"hello, hello, hello"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"img_emb_0\.npy is not a numpy array"):
            EmbeddingTable.open(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"holds no img_emb_N\.npy"):
        EmbeddingTable.open(tmp_path)


# --- files that change after they were opened


def first_file(folder: Path) -> Path:
    return next(path for path in (folder / shard_name(0), folder / "img_emb" / "img_emb_0.npy") if path.exists())


@pytest.mark.parametrize("use", ["take", "chunks", "invalid_rows", "to_memory"])
@pytest.mark.parametrize("harm", ["removed", "truncated", "replaced"])
def test_a_file_that_changed_since_is_named(folder: Path, harm: str, use: str) -> None:
    table = EmbeddingTable.open(folder)
    path = first_file(folder)
    if harm == "removed":
        path.unlink()
    elif harm == "truncated":
        os.truncate(path, path.stat().st_size - 4)
    else:
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
        os.utime(path, ns=(0, 1))
    uses: dict[str, Callable[[ShardedTable], object]] = {
        "take": lambda t: t.take([0]),
        "chunks": lambda t: list(t.chunks(10)),
        "invalid_rows": lambda t: t.invalid_rows(),
        "to_memory": lambda t: t.to_memory(),
    }
    with pytest.raises(DataError) as caught:
        uses[use](table)
    assert path.name in str(caught.value)
    assert table.take([7]).n == 1  # the other files are as they were


def test_a_file_cut_short_while_it_is_read_is_named(tmp_path: Path) -> None:
    table = EmbeddingTable.open(write_koda(tmp_path / "t"))
    path = first_file(tmp_path / "t")
    stamp = path.stat().st_mtime_ns
    matrix = table.source.parts[0]["text"]
    short = path.stat().st_size - 4
    os.truncate(path, short)
    os.utime(path, ns=(0, stamp))
    late = type(matrix)(**{**vars(matrix), "stamp": (short, stamp)})  # as if it was cut after the size was looked at
    with pytest.raises(DataError, match=r"shard-00000.*ends before the rows"):
        late.read(np.arange(7), np.empty((7, 4), dtype=np.float16), np.arange(7))


def test_metadata_that_changed_since_is_named(folder: Path) -> None:
    table = EmbeddingTable.open(folder)
    path = next(p for p in (folder / "metadata.parquet", folder / "metadata/metadata_0.parquet") if p.exists())
    pq.write_table(pa.table({"key": ["a"], "caption": ["b"]}), path)
    with pytest.raises(DataError, match=rf"{path.name} has changed"):
        table.metadata["caption"]
    with pytest.raises(DataError, match=rf"{path.name}.*(column 'size'|has changed)"):
        table.metadata["size"]
    path.unlink()
    with pytest.raises(DataError, match=path.name):
        table.metadata["size"]
    assert table.take([0]).n == 1
