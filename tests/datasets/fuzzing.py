"""Inputs of every kind for every parser, and what must hold of each: read in full, or refused in words."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from koda.config import DataConfig
from koda.datasets import Row, read_dataset
from koda.datasets.base import Fault
from koda.datasets.condition import matching
from koda.datasets.shards import MAX_SHARDS, expand, find_shards, name_of
from koda.errors import KodaError
from tests.datasets.layouts import entries, write_huggingface


@dataclass(frozen=True)
class Parser:
    """A parser under test: what it is fed, and the check of one input in an empty folder."""

    name: str
    inputs: st.SearchStrategy[Any]
    check: Callable[[Path, Any], None]

    def run(self, value: Any) -> None:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
            self.check(Path(folder), value)


def read_or_refuse(path: Path, **settings: Any) -> None:
    """Read a data set: either nothing of it is lost, or it is refused in words."""
    try:
        dataset = read_dataset(DataConfig(path=str(path), max_rejected=1e9, **settings))
    except KodaError as error:
        assert error.message.strip()
        str(error).encode()
        return
    ledger = dataset.ledger
    assert dataset.n_source == len(dataset.pairs) + len(dataset.rejections) == ledger.n_asked
    assert len(dataset.rejections) == ledger.n_rejected
    assert ledger.n_source + ledger.n_split == ledger.n_merged + ledger.n_asked
    assert len({pair.key for pair in dataset.pairs}) == len(dataset.pairs)
    for pair in dataset.pairs:
        assert set(pair.metadata) == set(dataset.metadata_columns)
    json.dumps([[r.key, r.reason] for r in dataset.rejections], ensure_ascii=False).encode()
    json.dumps([[p.key, p.caption, p.metadata] for p in dataset.pairs], ensure_ascii=False, default=str).encode()


@st.composite
def mutated(draw: st.DrawFn, base: st.SearchStrategy[bytes]) -> bytes:
    """A valid file with some bytes changed, cut, doubled, put in or taken out."""
    data = bytearray(draw(base))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        end = place + draw(st.integers(1, 64))
        kind = draw(st.sampled_from(["change", "cut", "double", "insert", "remove", "blank"]))
        if kind == "change":
            data[place : place + 1] = draw(st.binary(min_size=1, max_size=4))
        elif kind == "cut":
            del data[place:]
        elif kind == "double":
            data[end:end] = data[place:end]
        elif kind == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=32))
        elif kind == "remove":
            del data[place:end]
        else:
            data[place:end] = bytes(len(data[place:end]))
    return bytes(data)


# any JSON, and JSON that looks like what the readers know

names = st.sampled_from(["id", "image_id", "caption", "file_name", "key", "images", "annotations", "width", "\ud800"])
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(0, 4),
    st.floats(),
    st.sampled_from(["", "a", "a.png", "\ud83d", "\0", "é", "../a.png", "1", "s3", "a" * 300]),
    st.text(max_size=8),
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)
objects = st.dictionaries(names, scalars, max_size=6)
coco_like = st.fixed_dictionaries(
    {"images": st.lists(objects | anything, max_size=5), "annotations": st.lists(objects | anything, max_size=8)}
)
as_json = (coco_like | anything).map(lambda value: json.dumps(value).encode())


def check_table(folder: Path, value: tuple[str, bytes]) -> None:
    (folder / "a.png").write_bytes(b"a")
    (folder / value[0]).write_bytes(value[1])
    read_or_refuse(folder / value[0])


cells = st.text(alphabet=st.sampled_from('ab"\t\n\r,\\é0 \0'), max_size=12)
lines = st.lists(st.lists(cells | st.just("a.png"), max_size=4), max_size=6)
tables = st.builds(
    lambda header, rows, mark: ("\n".join([header, *(mark.join(row) for row in rows)])).encode(),
    st.sampled_from(["filepath\ttitle", "filepath,title,more", "key,filepath,title", '"filepath"\ttitle']),
    lines,
    st.sampled_from(["\t", ","]),
)


def as_parquet(columns: dict[str, Any], compression: str) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, compression=compression)
    return out.getvalue()


parquets = st.builds(
    as_parquet,
    st.integers(0, 3).flatmap(
        lambda n: st.fixed_dictionaries(
            {
                "filepath": st.lists(st.sampled_from(["a.png", "b.png", None]), min_size=n, max_size=n),
                "title": st.lists(st.text(max_size=3), min_size=n, max_size=n)
                | st.lists(st.lists(st.text(max_size=3), max_size=3), min_size=n, max_size=n),
                "score": st.lists(st.integers(-(2**63), 2**63 - 1), min_size=n, max_size=n)
                | st.lists(st.floats() | st.none(), min_size=n, max_size=n)
                | st.lists(st.datetimes() | st.none(), min_size=n, max_size=n)
                | st.lists(st.binary(max_size=3), min_size=n, max_size=n),
            }
        )
    ),
    st.sampled_from(["snappy", "none", "zstd"]),
)


@dataclass(frozen=True)
class Written:
    """A table as a program writes it, and what is meant by it: (file, caption) of each row."""

    name: str
    data: bytes
    meant: list[tuple[str, str]]
    quoted: bool


_WORDS = st.text(alphabet=st.sampled_from("ab é.\u2028'"), min_size=1, max_size=8).map(lambda text: f"w{text}w")
_QUOTES = st.sampled_from(["", '"', 'say "hi" ', '"all"', '""', "'", "\\"])
_FILES = st.sampled_from(["a.png", "b.b.png", "sub/c.png", "x.tar.png", "gone.png", "../a.png"])


@st.composite
def unquoted_tables(draw: st.DrawFn) -> Written:
    """A table without quoting, as most tab-separated ones are: whatever quotation marks its captions have, a line is
    a row."""
    captions = st.builds("{}{}{}".format, _QUOTES, _WORDS, _QUOTES)
    rows = draw(st.lists(st.tuples(_FILES, captions), min_size=1, max_size=12))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    lines = ["filepath\ttitle", *("\t".join(row) for row in rows)]
    text = end.join(lines) + draw(st.sampled_from(["", end, end * 2]))
    name = draw(st.sampled_from(["t.tsv", "t.csv", "t.txt"]))
    return Written(name, text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))), rows, False)


@st.composite
def quoted_tables(draw: st.DrawFn) -> Written:
    """A table that Python's csv module writes, in one of the dialects that programs have."""
    parts = st.sampled_from([",", ";", "\t", "|", "\n", "\r\n", "\n\n", '"', " a.png", "\n,", "x\ty"])
    captions = st.builds("{}{}{}".format, _WORDS, parts | st.just(""), _WORDS)
    rows = draw(st.lists(st.tuples(_FILES, captions, st.sampled_from(["", "1", "x.y"])), min_size=1, max_size=8))
    delimiter = draw(st.sampled_from([",", ";", "\t", "|"]))
    out = io.StringIO(newline="")
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=draw(st.sampled_from(["\n", "\r\n"])))
    order = draw(st.permutations(["filepath", "title", "dotted.name"]))
    writer.writerow(order)
    for file, caption, more in rows:
        fields = {"filepath": file, "title": caption, "dotted.name": more}
        writer.writerow([fields[name] for name in order])
    name = draw(st.sampled_from(["t.tsv", "t.csv"]))
    return Written(name, out.getvalue().encode(), [(file, caption) for file, caption, _ in rows], True)


def check_written(folder: Path, value: Written) -> None:
    """Every row that was written is read as it was meant, or rejected for its image."""
    (folder / "sub").mkdir()
    for name in ("a.png", "b.b.png", "sub/c.png", "x.tar.png"):
        (folder / name).write_bytes(name.encode())
    (folder / value.name).write_bytes(value.data)
    config = DataConfig(path=str(folder / value.name), captions="all", max_rejected=1e9)
    usable = [row for row in value.meant if row[0] not in {"gone.png", "../a.png"}]
    try:
        dataset = read_dataset(config)
    except KodaError as error:
        assert not usable, error
        return
    assert dataset.ledger.n_source == len(value.meant)
    found, meant = [pair.caption for pair in dataset.pairs], [caption for _, caption in usable]
    if not value.quoted:  # a caption that stands wholly in quotation marks may be a quoted field
        found, meant = ([text.replace('"', "") for text in texts] for texts in (found, meant))
    assert sorted(found) == sorted(meant)
    assert dataset.ledger.n_rejected == len(value.meant) - len(usable)


def check_coco(folder: Path, value: tuple[bytes, str]) -> None:
    (folder / "a.png").write_bytes(b"a")
    (folder / "c.json").write_bytes(value[0])
    read_or_refuse(folder / "c.json", captions=value[1])


def make_tar(members: list[tuple[str, bytes]], kind: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind, encoding="utf-8", errors="surrogateescape") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


member_names = st.sampled_from(
    ["1.png", "1.txt", "1.json", "2.jpg", "2.txt", "sub/3.png", "sub/3.txt", "x", ".y", "é.png", "a" * 120 + ".png"]
)
tars = st.builds(
    make_tar,
    st.lists(
        st.tuples(member_names, st.binary(max_size=20) | objects.map(lambda o: json.dumps(o).encode())), max_size=5
    ),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)


def check_tar(folder: Path, value: bytes) -> None:
    (folder / "a.tar").write_bytes(value)
    read_or_refuse(folder / "a.tar")


def check_folder(folder: Path, value: dict[bytes, bytes]) -> None:
    for name, data in value.items():
        place = folder / os.fsdecode(name)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if data.startswith(b"->"):
                place.symlink_to(os.fsdecode(data[2:]) or ".")
            else:
                place.write_bytes(data)
        except (OSError, ValueError):
            continue  # a name that there cannot be
    read_or_refuse(folder)


stems = st.sampled_from([b"a", b"b", b".c", b"sub/a", b"\xff", "é".encode(), b"a b", b"sub/sub/a", b"a.b", b"-", b"\n"])
suffixes = st.sampled_from([b".jpg", b".PNG", b".txt", b".TXT", b"", b".json", b".csv", b"."])
contents = st.sampled_from([b"x", b"", b"\xff", b"-> ", b"->.", b"->..", b"->a.jpg", b"->gone"]) | st.binary(max_size=9)
trees = st.dictionaries(st.builds(bytes.__add__, stems, suffixes) | st.just(b"loop"), contents, max_size=8)


def check_condition(folder: Path, value: tuple[list[Row], str]) -> None:
    rows, condition = value
    columns = sorted({name for row in rows for name in row.metadata})
    try:
        found = matching(rows, columns, condition)
    except KodaError as error:
        assert error.message.strip()
    else:
        places = [next(place for place, given in enumerate(rows) if given is row) for row in found]
        assert places == sorted(set(places))


TOKENS = """
    key caption width Width "two words" 'a' 1 2.5 NULL = <> < > AND OR NOT ( ) , ; -- /* */ LIKE IN IS BETWEEN * +
    count(*) lower( length( abs( CASE WHEN THEN ELSE END SELECT FROM key[1] :: INT DATE '2020-01-01' ? $1 {'a':1} [1]
    row_number() OVER () random() x -> COLLATE é
"""
tokens = st.sampled_from(TOKENS.split())
conditions = (
    st.lists(tokens, min_size=1, max_size=9).map(" ".join)
    | st.text(max_size=12).filter(lambda text: text.isascii() or text.isprintable())
    | st.builds(
        "{} {} {}".format,
        st.sampled_from(["key", "caption", "width", '"two words"', "nope", "length(caption)"]),
        st.sampled_from(["=", "<", "LIKE", "IS NOT", ">="]),
        st.sampled_from(["'a'", "1", "2.5", "NULL", "key", "true"]),
    )
)
table_rows = st.lists(
    st.builds(
        Row,
        st.none() | st.text(max_size=3) | st.just("\ud800"),
        st.none(),
        st.none() | st.text(max_size=3),
        st.dictionaries(st.sampled_from(["width", "Width", "two words", "key", "é"]), anything, max_size=3),
        st.none() | st.just(Fault("fault")),
    ),
    max_size=4,
)


def check_braces(folder: Path, value: str) -> None:
    try:
        found = expand(value)
        assert 1 <= len(found) <= MAX_SHARDS
        assert "{" in value or found == [value]
        name_of(value).encode()
        if len(found) < 1000:
            find_shards(value)
    except KodaError as error:
        assert error.message.strip()


braces = st.text(alphabet=st.sampled_from("{}.,:0123456789a/-"), min_size=1, max_size=24) | st.builds(
    "{}{{{}..{}}}{}".format, st.sampled_from(["", "a/", "s{", "::"]), st.integers(), st.integers(), st.text(max_size=3)
)


@cache
def saved() -> dict[str, bytes]:
    """The files of a folder that Hugging Face's own library saved."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(write_huggingface(folder, entries(2))["path"])
        shutil.copy(place / "data-00000-of-00002.arrow", place / "data-00001-of-00002.arrow")
        return {path.name: path.read_bytes() for path in place.iterdir()}


def check_huggingface(folder: Path, value: tuple[str, bytes]) -> None:
    for name, data in {**saved(), value[0]: value[1]}.items():
        (folder / name).write_bytes(data)
    read_or_refuse(folder)


saved_names = ("data-00000-of-00002.arrow", "state.json", "dataset_info.json", "dataset_dict.json")
saved_files = st.sampled_from(saved_names).flatmap(
    lambda name: st.tuples(
        st.just(name),
        mutated(st.deferred(lambda: st.just(saved().get(name, b'{"splits": ["a"]}'))))
        | (st.binary(max_size=64) if name.endswith("arrow") else anything.map(lambda v: json.dumps(v).encode())),
    )
)

PARSERS = (
    Parser(
        "table (CSV, TSV)",
        st.tuples(st.sampled_from(["t.csv", "t.tsv"]), st.binary(max_size=60) | tables | mutated(tables)),
        check_table,
    ),
    Parser("table without quoting", unquoted_tables(), check_written),
    Parser("table with quoting", quoted_tables(), check_written),
    Parser("table (Parquet)", st.tuples(st.just("t.parquet"), mutated(parquets)), check_table),
    Parser(
        "COCO captions",
        st.tuples(as_json | mutated(as_json) | st.binary(max_size=40), st.sampled_from(["first", "all", "random"])),
        check_coco,
    ),
    Parser("WebDataset shards", mutated(tars) | st.binary(max_size=1100), check_tar),
    Parser("folder", trees, check_folder),
    Parser("Hugging Face folder", saved_files, check_huggingface),
    Parser("where", st.tuples(table_rows, conditions), check_condition),
    Parser("braces", braces, check_braces),
)
