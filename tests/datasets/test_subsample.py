"""Parts of a data set that are drawn at random."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from koda.config import DataConfig
from koda.datasets import read_dataset, subsample


def test_a_part_is_drawn_by_its_seed_and_has_the_digest_of_its_content(pairs_folder: Callable[..., Path]) -> None:
    rows = ["filepath\ttitle\tkey", *(f"{i % 20:03d}.png\tcaption {i}\tk{i:02d}" for i in range(40)), "no.png\tx\tzz"]
    path = pairs_folder(20, rows)
    whole = read_dataset(DataConfig(path=str(path)))
    assert (len(whole.pairs), len(whole.rejections)) == (40, 1)
    part, again, other = (subsample(whole, 20, (0, number)) for number in (1, 1, 2))
    assert part == again and part.digest != other.digest
    assert part.n_source == len(part.pairs) + len(part.rejections) == 20
    keys = [pair.key for pair in part.pairs]
    assert keys == sorted(set(keys)) and all(whole.by_key[pair.key] is pair for pair in part.pairs)
    kept = ["filepath\ttitle\tkey", *(row for row in rows if row.split("\t")[2] in keys)]
    assert read_dataset(DataConfig(path=str(pairs_folder(20, kept, "part.tsv")))).digest == part.digest
    assert subsample(whole, 41, (0, 1)).digest == whole.digest


def test_rejected_rows_are_drawn_as_often_as_others(pairs_folder: Callable[..., Path]) -> None:
    rows = ["filepath\ttitle\tkey", *(f"{i:03d}.png\tcaption {i}\tk{i:02d}" for i in range(8))]
    whole = read_dataset(DataConfig(path=str(pairs_folder(7, rows))))
    drawn = [len(subsample(whole, 4, (0, number)).rejections) for number in range(200)]
    assert 70 < sum(drawn) < 130
