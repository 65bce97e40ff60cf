"""One contract for every reader: the same samples are the same pairs, and nothing is lost without a word."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from koda.config import DataConfig
from koda.datasets import (
    Blob,
    ImageDigests,
    PairDataset,
    Rejection,
    count_kinds,
    decode_image,
    format_of,
    read_dataset,
    read_image,
)
from koda.errors import DataError
from tests.datasets.layouts import LAYOUTS, Entry, entries, put

every_layout = pytest.mark.parametrize("layout", LAYOUTS)


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "data") if request.param == "local" else "memory://bucket/data"


def read(layout: str, root: str, samples: list[Entry], **settings: Any) -> PairDataset:
    return read_dataset(config(layout, root, samples, **settings))


def config(layout: str, root: str, samples: list[Entry], **settings: Any) -> DataConfig:
    return DataConfig(**{"max_rejected": 0.9, **LAYOUTS[layout](root, samples), **settings})


@every_layout
def test_the_same_samples_are_the_same_pairs(layout: str, root: str) -> None:
    samples = entries()
    dataset = read(layout, root, samples)
    assert dataset.format == ("csv" if layout in {"tsv", "parquet"} else layout)
    assert {pair.key: pair.caption for pair in dataset.pairs} == {entry.key: entry.caption for entry in samples}
    assert [read_image(pair) for pair in dataset.pairs] == [entry.image for entry in samples]
    assert decode_image(dataset.pairs[0]).size == (5, 6)
    assert dataset.n_source == 6
    assert not dataset.rejections
    if layout != "folder":
        assert [pair.metadata["colour"] for pair in dataset.pairs] == [entry.colour for entry in samples]
    assert all(set(pair.metadata) == set(dataset.metadata_columns) for pair in dataset.pairs)


@every_layout
def test_the_digest_knows_neither_path_nor_order_but_every_byte(layout: str, root: str) -> None:
    samples = entries()
    first = read(layout, root, samples)
    names = {entry.key: number for number, entry in enumerate(samples)}

    def renamed(order: list[Entry]) -> dict[str, Any]:
        """In tables and COCO the name of the image is in the file: keep it, whatever the order."""
        settings = LAYOUTS[layout](f"{root}/else", order)
        if layout in {"csv", "tsv", "coco"}:
            place = settings["path"]
            text = Blob(place).read().decode()
            for number, entry in enumerate(order):
                text = text.replace(f"{entry.key}-{number}.png", f"{entry.key}-{names[entry.key]}.png")
            put(place, text.encode())
            settings["images"] = settings["images"].replace("/else", "")
        return settings

    again = read_dataset(DataConfig(**renamed(samples[::-1])))
    assert again.digest == first.digest
    assert again.path != first.path
    changed = [replace(samples[0], caption="another"), *samples[1:]]
    assert read(layout, f"{root}/changed", changed).digest != first.digest
    changed = [replace(samples[0], image=samples[1].image), *samples[1:]]
    assert read(layout, f"{root}/image", changed).digest != first.digest


@every_layout
def test_bad_rows_are_recorded_with_reasons(layout: str, root: str) -> None:
    good, twin, corrupt, no_image, no_caption, empty = entries()
    samples = [
        good,
        twin,
        replace(corrupt, corrupt=True),
        replace(no_image, image=None),
        replace(no_caption, caption=None),
        replace(empty, caption=""),
        twin,
    ]
    dataset = read(layout, root, samples)
    csv = layout in {"csv", "tsv"}  # a field of a table is empty, not missing
    expected = {good.key, twin.key, empty.key} | ({no_caption.key} if csv else set())
    assert {pair.key for pair in dataset.pairs} == expected
    assert dataset.n_source == len(dataset.pairs) + len(dataset.rejections) == 7
    reasons = {rejection.key: rejection.reason for rejection in dataset.rejections}
    assert re.search("duplicate", reasons[twin.key])
    assert re.search("image", reasons[no_image.key])
    assert csv or re.search("caption", reasons[no_caption.key])
    assert any(re.search("malformed|'key' is empty", reason) for reason in reasons.values())
    assert dataset.n_empty_captions == 1 + csv


# the kinds of the rejections of `faulty`, beside the duplicate key
_KINDS = {
    "csv": {"the image cannot be read", "malformed row"},
    "tsv": {"the image cannot be read", "malformed row"},
    "parquet": {"the image cannot be read", "the caption is missing", "the column 'key' is empty"},
    "coco": {"the image cannot be read", "the image has no caption", "malformed image"},
    "webdataset": {"malformed sample", "the sample has no image", "the sample has no caption"},
    "folder": {"malformed caption", "the caption has no image beside it", "the image has no caption beside it"},
    "huggingface": {"the column 'image' is empty", "the caption is missing", "the column 'key' is empty"},
}


def faulty() -> list[Entry]:
    """A good sample, a corrupt one, one without an image, one without a caption, and the good one again."""
    good, corrupt, no_image, no_caption = entries(4)
    return [
        good,
        replace(corrupt, corrupt=True),
        replace(no_image, image=None),
        replace(no_caption, caption=None),
        good,
    ]


@every_layout
def test_rejections_are_counted_by_kind(layout: str, root: str) -> None:
    dataset = read(layout, root, faulty())
    assert count_kinds(dataset.rejections) == dict.fromkeys(["duplicate key", *_KINDS[layout]], 1)


@every_layout
def test_the_reason_of_a_rejection_is_its_kind_and_its_detail(layout: str, root: str) -> None:
    for rejection in read(layout, root, faulty()).rejections:
        assert rejection.reason in (rejection.kind, f"{rejection.kind}: {rejection.detail}")
        assert Rejection.from_reason(rejection.key, rejection.reason) == rejection


@every_layout
def test_a_subset(layout: str, root: str) -> None:
    samples = entries()
    settings = config(layout, root, samples).model_dump(exclude_unset=True)

    def keys(**more: Any) -> list[str]:
        return [pair.key for pair in read_dataset(DataConfig(**{**settings, **more})).pairs]

    assert keys(limit=3, pick="first") == [entry.key for entry in samples[:3]]
    assert len(keys(limit=3)) == 3
    assert keys(limit=3, seed=1) == keys(limit=3, seed=1)
    assert len({tuple(keys(limit=3, seed=seed)) for seed in range(5)}) > 1
    assert keys(limit=99) == keys()
    assert keys(where="caption LIKE '%4,%' OR key = '000000001'") == ["000000001", "000000004"]
    if layout != "folder":
        assert keys(where="colour = 'blue'") == ["000000001", "000000003", "000000005"]
        assert keys(where="colour = 'blue'", limit=1, pick="first") == ["000000001"]
    with pytest.raises(DataError, match="None of the 6 rows"):
        keys(where="key = 'x'")


@every_layout
def test_every_reader_draws_the_same_subset(layout: str, tmp_path: Path) -> None:
    subset = read(layout, str(tmp_path), entries(), limit=2, seed=3)
    assert [pair.key for pair in subset.pairs] == [
        pair.key for pair in read("folder", str(tmp_path / "other"), entries(), limit=2, seed=3).pairs
    ]


@every_layout
def test_an_unchanged_data_set_is_not_read_again(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(layout, str(tmp_path), entries())
    digests = ImageDigests()
    first = read_dataset(settings, digests)
    read_before = Blob.read

    def refuse(blob: Blob) -> bytes:
        assert not any(blob == pair.image for pair in first.pairs)
        return read_before(blob)

    monkeypatch.setattr(Blob, "read", refuse)
    assert read_dataset(settings, digests).digest == first.digest


@every_layout
def test_the_format_shows_in_the_path(layout: str, root: str) -> None:
    settings = config(layout, root, entries(2))
    kind = "csv" if layout in {"csv", "tsv", "parquet"} else layout
    assert format_of(settings) == kind
    assert read_dataset(settings.model_copy(update={"format": kind})).n_source == 2


@every_layout
def test_what_is_not_there_is_said_in_words(layout: str, root: str) -> None:
    settings = config(layout, root, entries(2))
    kind = format_of(settings)
    with pytest.raises(DataError, match=r"does not exist|missing"):
        read_dataset(settings.model_copy(update={"path": settings.path.replace("data", "gone"), "format": kind}))
