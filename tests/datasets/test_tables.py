"""Reading pairs: what is used, what is rejected, and that the two add up."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from koda.config import DataConfig
from koda.datasets import ImageDigests, decode_image, read_dataset
from koda.errors import DataError

Write = Callable[..., Path]


def read(path: Path, **settings: object) -> object:
    return read_dataset(DataConfig.model_validate({"path": str(path), "max_rejected": 0.99, **settings}))


def test_pairs_come_in_the_order_of_their_keys(pairs_folder: Write) -> None:
    dataset = read_dataset(DataConfig(path=str(pairs_folder(4))))
    assert [pair.key for pair in dataset.pairs] == ["000.png", "001.png", "002.png", "003.png"]
    assert dataset.pairs[1].caption == "caption 1"
    assert dataset.pairs[1].metadata == {"colour": "red"}
    assert dataset.metadata_columns == ("colour",)
    assert not dataset.rejections


def test_every_bad_row_becomes_a_rejection_with_its_reason(pairs_folder: Write) -> None:
    rows = ["filepath\ttitle", "000.png\tgood", "000.png\tagain", "gone.png\tx", "\tx", "empty.png\tx", "001.png\ta\tb"]
    path = pairs_folder(2, rows)
    (path.parent / "empty.png").write_bytes(b"")
    dataset = read_dataset(DataConfig(path=str(path), max_rejected=0.99))
    assert [pair.key for pair in dataset.pairs] == ["000.png"]
    reasons = {rejection.key: rejection.reason for rejection in dataset.rejections}
    assert reasons == {
        "gone.png": f"the image cannot be read: no such file or directory: {path.parent}/gone.png",
        "row 4": "the column 'filepath' is empty",
        "empty.png": f"the image cannot be read: the file is empty: {path.parent}/empty.png",
        "line 7": "malformed row: 3 fields where the header has 2",
    }
    assert dataset.n_source == len(dataset.pairs) + len(dataset.rejections) == 5
    assert dataset.ledger.n_source == 6
    assert dataset.ledger.merged == {"another caption of the same image": 1}


def test_the_limit_on_rejections_is_a_share_or_a_count(pairs_folder: Write) -> None:
    path = pairs_folder(4, ["filepath\ttitle", "000.png\ta", "001.png\tb", "002.png\tc", "gone.png\td"])
    assert len(read_dataset(DataConfig(path=str(path), max_rejected=0.25)).pairs) == 3
    assert len(read_dataset(DataConfig(path=str(path), max_rejected=1)).pairs) == 3
    with pytest.raises(DataError, match=r"1 unusable rows of 4.*data\.max_rejected = 0\.2.*gone\.png"):
        read_dataset(DataConfig(path=str(path), max_rejected=0.2))


def test_the_digest_knows_neither_path_nor_order(pairs_folder: Write, tmp_path: Path) -> None:
    path = pairs_folder(5)
    first = read_dataset(DataConfig(path=str(path)))
    other = tmp_path / "elsewhere"
    shutil.copytree(path.parent, other)
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    (other / path.name).write_text("\n".join([header, *reversed(rows)]), encoding="utf-8")
    assert read_dataset(DataConfig(path=str(other / path.name))).digest == first.digest
    text = path.read_text(encoding="utf-8").replace("caption 3", "Caption 3")
    (other / path.name).write_text(text, encoding="utf-8")
    assert read_dataset(DataConfig(path=str(other / path.name))).digest != first.digest


def test_a_changed_image_changes_the_digest_even_with_remembered_digests(pairs_folder: Write) -> None:
    path = pairs_folder(3)
    digests = ImageDigests()
    first = read_dataset(DataConfig(path=str(path)), digests)
    assert digests.changed
    Image.new("RGB", (5, 5), (1, 2, 3)).save(path.parent / "001.png")
    assert read_dataset(DataConfig(path=str(path)), digests).digest != first.digest


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.parquet"])
def test_csv_and_parquet_read_like_tsv(pairs_folder: Write, name: str) -> None:
    path = pairs_folder(3)
    first = read_dataset(DataConfig(path=str(path)))
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    other = path.with_name(name)
    if name.endswith("csv"):
        other.write_text("\ufeff" + "\n".join(",".join(row) for row in rows), encoding="utf-8")
    else:
        pq.write_table(pa.table({column: [row[i] for row in rows[1:]] for i, column in enumerate(rows[0])}), other)
    assert read_dataset(DataConfig(path=str(other))).digest == first.digest


def test_captions_with_quotes(pairs_folder: Write) -> None:
    rows = ["filepath\ttitle", '000.png\ta "quoted" word', '001.png\t"begins with one', "002.png\tplain"]
    dataset = read_dataset(DataConfig(path=str(pairs_folder(3, rows))))
    assert [pair.caption for pair in dataset.pairs] == ['a "quoted" word', '"begins with one', "plain"]
    rows = ["filepath,title", '000.png,"a, b ""c""', 'd"', "001.png,e"]
    dataset = read_dataset(DataConfig(path=str(pairs_folder(2, rows, "pairs.csv"))))
    assert [pair.caption for pair in dataset.pairs] == ['a, b "c"\nd', "e"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["filepath\ttitle", "gone.png\tx"], "no usable pair.*all 1 rows"),
        (["filepath\ttitle"], "no usable pair.*no rows"),
        (["file\ttitle", "a\tb"], "no column 'filepath'.*'file', 'title'"),
        (["filepath\ttitle\ttitle", "a\tb\tc"], "two columns named 'title'"),
        ([""], "is empty"),
    ],
)
def test_unusable_tables_are_refused_in_words(pairs_folder: Write, rows: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read(pairs_folder(1, rows))


def test_unusable_sources(pairs_folder: Write, tmp_path: Path) -> None:
    path = pairs_folder(1)
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "no.tsv")
    with pytest.raises(DataError, match="is a folder"):
        read(tmp_path, format="csv")
    with pytest.raises(DataError, match="image folder"):
        read(path, images=str(tmp_path / "no"))
    with pytest.raises(DataError, match=r"data\.key_column"):
        read(path, key_column="id")
    (tmp_path / "x.tsv").write_bytes(b"filepath\ttitle\na\t\xff\n")
    with pytest.raises(DataError, match="line 2: not UTF-8"):
        read(tmp_path / "x.tsv")
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="not a Parquet table"):
        read(tmp_path / "x.parquet")


def test_a_seeded_subset(pairs_folder: Write) -> None:
    path = pairs_folder(8)
    keys = [[p.key for p in read_dataset(DataConfig(path=str(path), limit=3, seed=s)).pairs] for s in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]
    assert len(keys[0]) == 3


@pytest.mark.parametrize("lenient", [False, True])
def test_images_that_cannot_be_decoded_say_why(
    pairs_folder: Write, monkeypatch: pytest.MonkeyPatch, lenient: bool
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)  # as WeasyPrint leaves it for the process
    path = pairs_folder(3)
    (path.parent / "000.png").write_bytes(b"not an image")
    whole = (path.parent / "001.png").read_bytes()
    (path.parent / "001.png").write_bytes(whole[: len(whole) // 2])
    dataset = read_dataset(DataConfig(path=str(path)))
    with pytest.raises(DataError, match="not an image file"):
        decode_image(dataset.pairs[0])
    with pytest.raises(DataError, match="cannot be decoded"):
        decode_image(dataset.pairs[1])
    Image.new("RGB", (4, 4)).save(path.parent / "002.png")
    with pytest.raises(DataError, match="changed while the audit ran"):
        decode_image(dataset.pairs[2])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet=st.sampled_from('ab"\t\n\r,\\é0'), max_size=60))
def test_any_text_is_read_or_refused_in_words_and_nothing_is_lost(tmp_path: Path, text: str) -> None:
    path = tmp_path / "fuzz.tsv"
    path.write_bytes(("filepath\ttitle\n" + text).encode())
    try:
        dataset = read_dataset(DataConfig(path=str(path), max_rejected=10**6))
    except DataError as error:
        assert str(error)
    else:
        assert dataset.n_source == len(dataset.pairs) + len(dataset.rejections)


def test_a_column_of_lists_has_several_captions_an_image(pairs_folder: Write) -> None:
    path = pairs_folder(3).with_name("pairs.parquet")
    files, captions = ["000.png", "001.png", "002.png"], [["a", "b"], [], ["c", None]]
    pq.write_table(pa.table({"filepath": files, "title": captions}), path)
    assert {p.key: p.caption for p in read(path).pairs} == {"000.png": "a", "002.png": "c"}  # type: ignore[attr-defined]
    dataset = read(path, captions="all")
    assert {p.key: p.caption for p in dataset.pairs} == {  # type: ignore[attr-defined]
        "000.png#0": "a",
        "000.png#1": "b",
        "002.png": "c",
    }
    assert [r.reason for r in dataset.rejections] == ["the caption is missing"]  # type: ignore[attr-defined]


def test_another_caption_of_one_image_leaves_the_keys_of_the_others_as_they_are(pairs_folder: Write) -> None:
    rows = ["filepath\ttitle", "000.png\ta", "001.png\tb", "002.png\tc"]
    keys = [pair.key for pair in read(pairs_folder(3, rows), captions="all").pairs]  # type: ignore[attr-defined]
    assert keys == ["000.png", "001.png", "002.png"]
    dataset = read(pairs_folder(3, [*rows, "001.png\td"]), captions="all")
    assert {pair.key: pair.caption for pair in dataset.pairs} == {  # type: ignore[attr-defined]
        "000.png": "a",
        "001.png#0": "b",
        "001.png#1": "d",
        "002.png": "c",
    }


def test_malformed_rows_keep_their_place(pairs_folder: Write) -> None:
    path = pairs_folder(3, ["filepath\ttitle", "a\tb\tc", "000.png\ta", "x", "001.png\tb", "002.png\tc"])
    dataset = read(path, limit=2, pick="first")
    assert [pair.key for pair in dataset.pairs] == ["000.png", "001.png"]  # type: ignore[attr-defined]
    assert [row.key for row in dataset.rejections] == ["line 2", "line 4"]  # type: ignore[attr-defined]
