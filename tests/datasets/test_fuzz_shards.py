"""Shards of every kind: each sample is read, rejected or counted as merged, whatever its names and members are.

`KODA_FUZZ_EXAMPLES` sets how many are tried.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from koda.config import DataConfig
from koda.datasets import read_dataset, read_image
from koda.datasets.webdataset import read_webdataset
from koda.errors import DataError

EXAMPLES = int(os.environ.get("KODA_FUZZ_EXAMPLES", "60"))
KINDS = (tarfile.REGTYPE, tarfile.REGTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)


@dataclass(frozen=True)
class File:
    """A member of a shard to be."""

    stem: str
    suffix: str
    data: bytes
    kind: bytes = tarfile.REGTYPE

    @property
    def name(self) -> str:
        return f"{self.stem}.{self.suffix}"


stems = st.sampled_from(
    ["1", "2", "cat", "cat.1", "cat.2", "cat.1.x", "sub/1", "v1.0/1", "é", "\udcff", "a b", "/abs", "../up", "x" * 130]
)
suffixes = st.sampled_from(["jpg", "JPG", "png", "txt", "json", "seg.png", "npy", "caption"])
texts = st.sampled_from(
    [
        b"a caption",
        b"\xef\xbb\xbfmarked",
        b"\xff",
        b"",
        json.dumps({"caption": ["a", "b"]}).encode(),
        b"[]",
        b'{"a": {',
    ],
)
files = st.builds(File, stems, suffixes, texts, st.sampled_from(KINDS))
pairs = st.builds(
    lambda stem, image, text, data: [File(stem, image, data), File(stem, text, data)],
    stems,
    st.sampled_from(["jpg", "png"]),
    st.sampled_from(["txt", "json"]),
    texts,
)
shards = st.lists(st.one_of(pairs, st.lists(files, max_size=3)), max_size=6).map(
    lambda groups: [file for group in groups for file in group]
)
sets = st.lists(shards | shards.flatmap(st.permutations), min_size=1, max_size=3)


def write(place: Path, content: list[File]) -> None:
    with tarfile.open(place, "w", encoding="utf-8", errors="surrogateescape") as archive:
        for file in content:
            info = tarfile.TarInfo(file.name)
            info.type = file.kind
            info.size = len(file.data) if file.kind == tarfile.REGTYPE else 0
            info.linkname = "elsewhere" if file.kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            archive.addfile(info, io.BytesIO(file.data))


def groups_of(content: list[File], ends: str) -> list[dict[str, bytes]]:
    """The members of each name, by the rule; one that stands twice begins another sample of the same name."""
    groups: list[tuple[str, dict[str, bytes]]] = []
    for file in content:
        folder, slash, base = file.name.rpartition("/")
        stem, _, suffix = base.partition(".") if ends == "first" else base.rpartition(".")
        key, suffix = folder + slash + stem, suffix.lower()
        latest = next((group for name, group in reversed(groups) if name == key), None)
        if latest is None or suffix in latest:
            groups.append((key, latest := {}))
        latest[suffix] = file.data
    return [group for _, group in groups]


def is_whole(suffixes: set[str]) -> bool:
    return bool(suffixes & {"jpg", "png"}) and bool(suffixes & {"txt", "json"})


def n_samples(content: list[File]) -> int:
    """Samples by the first dot, and those that are whole by the last dot, with what is beside them."""
    total = 0
    for group in groups_of(content, "first"):
        inner: dict[str, set[str]] = {}
        for suffix in group:
            stem, dot, last = suffix.rpartition(".")
            inner.setdefault(stem + dot, set()).add(last)
        own = inner.pop("", set())
        n_whole = sum(map(is_whole, inner.values()))
        total += 1 + n_whole if is_whole(own) or not n_whole else len(inner) + bool(own)
    return total


def check(contents: list[list[File]]) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        for number, content in enumerate(contents):
            write(Path(folder, f"{number}.tar"), content)
        for ends in ("auto", "first_dot", "last_dot"):
            for captions in ("first", "all"):
                config = DataConfig(
                    path=folder, format="webdataset", key_ends=ends, captions=captions, max_rejected=1e9
                )
                _check_counts(config, contents)
        _check_pairs(DataConfig(path=folder, format="webdataset", max_rejected=1e9), contents)


def _check_counts(config: DataConfig, contents: list[list[File]]) -> None:
    by_last = sum(len(groups_of(content, "last")) for content in contents)
    expected = by_last if config.key_ends == "last_dot" else sum(map(n_samples, contents))
    try:
        source = read_webdataset(config)
    except DataError as error:
        assert not expected and "hold no sample" in error.message
        return
    assert len(source.rows) - source.n_split + sum(source.merged.values()) == expected
    assert all((row.fault is None) == (row.caption is not None) for row in source.rows)


def _check_pairs(config: DataConfig, contents: list[list[File]]) -> None:
    """Whatever is a plain sample of its own is read, with its own bytes."""
    try:
        dataset = read_dataset(config)
    except DataError as error:
        assert error.message
        return
    assert dataset.n_source == len(dataset.pairs) + len(dataset.rejections)
    read = {(pair.key.rpartition("/")[2], read_image(pair)) for pair in dataset.pairs}
    stems = Counter(file.stem for content in contents for file in content)
    for content in contents:
        for one, two in pairwise(content):
            plain = one.stem == two.stem and one.stem in ("1", "2", "é", "a b") and stems[one.stem] == 2
            regular = {one.kind, two.kind} == {tarfile.REGTYPE} and one.data == two.data == b"a caption"
            if plain and regular and (one.suffix, two.suffix) in (("jpg", "txt"), ("png", "txt")):
                assert (one.stem, one.data) in read


def test_every_sample_of_a_shard_is_read_rejected_or_merged() -> None:
    run = given(sets)(check)
    settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))(run)()
