"""Thumbnails show the pictures that the models saw."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from koda.audit.thumbnails import make_thumbnails, sizes_of
from koda.config import DataConfig
from koda.datasets import decode_image, read_dataset
from koda.records import Looks, Neighbour, SampleNeighbours
from tests.report import factory


def write(folder: Path) -> None:
    """A picture that lies on its side, one of 16 bits, one that is transparent but for a spot, and one that is none."""
    exif = Image.Exif()
    exif[0x112] = 6
    Image.new("RGB", (40, 20), "red").save(folder / "a.jpg", exif=exif)
    Image.fromarray(np.full((20, 20), 20_000, np.uint16)).save(folder / "b.png")
    spot = Image.new("RGBA", (20, 20))
    spot.putpixel((0, 0), (255, 0, 0, 255))
    spot.save(folder / "c.png")
    Image.new("RGB", (20, 20)).save(folder / "d.jpg", "EPS")
    for name in "abcd":
        (folder / f"{name}.txt").write_text(name)


def test_thumbnails_are_turned_scaled_and_composed_as_the_pictures_are(tmp_path: Path) -> None:
    write(tmp_path)
    for settings, size in (({}, (40, 20)), ({"exif": "apply", "background": "#00ff00"}, (20, 40))):
        pairs = read_dataset(DataConfig(path=str(tmp_path), **settings)).pairs
        thumbnails = make_thumbnails(pairs, 64)
        assert list(thumbnails) == ["a", "b", "c"]
        for pair in pairs[:3]:
            with Image.open(io.BytesIO(thumbnails[pair.key])) as shown:
                assert shown.size == decode_image(pair).size
                assert not shown.getexif()
                far = np.abs(np.asarray(shown).astype(int) - np.asarray(decode_image(pair))).mean()
                assert far < 3
        assert decode_image(pairs[0]).size == size
        assert decode_image(pairs[1]).getpixel((3, 3)) == (78, 78, 78)  # 20000 of 65535


def test_a_thumbnail_is_as_large_as_the_largest_place_that_shows_it() -> None:
    record = factory.record(1, gallery=1, map_points=0)
    finding, drawn = record.findings[0], factory.record(1, gallery=1, map_points=6).metrics.map
    shown, other = finding.positive.samples[0].key, finding.negative.samples[0].key
    assert drawn is not None
    drawn = drawn.model_copy(update={"keys": [shown, "b", "c", "d"]})
    near = [Neighbour(key=key, similarity=0.5) for key in (shown, "a", "b")]
    looks = Looks(neighbours=[SampleNeighbours(key=shown, baseline=near[1:], candidate=near[:1], shared=0)])
    metrics = record.metrics.model_copy(update={"map": drawn})
    record = record.model_copy(update={"looks": looks, "metrics": metrics})
    assert sizes_of(record, 160) == {shown: 160, other: 160, "a": 96, "b": 96, "c": 40, "d": 40}
    assert set(sizes_of(record, 32).values()) == {32}
