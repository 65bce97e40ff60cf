"""WebDataset shards, img2dataset's among them: tar files in which the members of one name are one sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from koda.config import DataConfig
from koda.datasets.base import Fault, Row, Source, gathered
from koda.datasets.blobs import READS_AT_ONCE, is_folder, open_file, reason_of
from koda.datasets.sample_rows import Columns, content_of, has_other_captions, rows_of, taken_of_several
from koda.datasets.samples import Samples, add_members, told_apart
from koda.datasets.shards import distinct_names, find_shards, name_of
from koda.datasets.tars import Damage, check_uncompressed, read_members
from koda.datasets.text import listed
from koda.errors import DataError

_MERGED = "part of the sample that is named up to the first dot"


@dataclass
class _Shard:
    """What was read of a shard.

    Args:
        location: of the shard.
        samples: rows of each; one unless it has several captions.
        suffixes, entries: how many samples have a member of each suffix, and each entry in their JSON.
        others: names of members that are part of no sample.
        n_merged, n_split: see :class:`koda.datasets.samples.Samples`.
        taken: suffixes of the images that were taken of samples with several.
        n_other_captions: samples whose text is their caption, while their JSON has another.
    """

    location: str
    samples: list[list[Row]] = field(default_factory=list)
    suffixes: Counter[str] = field(default_factory=Counter)
    entries: Counter[str] = field(default_factory=Counter)
    others: list[str] = field(default_factory=list)
    n_merged: int = 0
    n_split: int = 0
    taken: Counter[str] = field(default_factory=Counter)
    n_other_captions: int = 0

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.location.rpartition("/")[2]


def read_webdataset(config: DataConfig) -> Source:
    """Read shards by their headers, captions and metadata; each image stays where it lies in its shard.

    The key is a member's name up to the first dot, with its folder in the shard (WebDataset's `__key__`); see
    `data.key_ends` and `data.shard_in_key` for names that this does not tell apart. The caption is the `.txt`, or else
    `caption`, `captions`, `text` or `title` in the `.json`, a text or a list of them; the entries are metadata.
    `data.caption_column` names another member or entry, `data.image_column` the suffix of the image,
    `data.key_column` an entry. Of a shard that was cut off the samples before the cut are used, and the loss is a row
    with a fault.

    Raises:
        DataError: shards that are missing, compressed, or not tar files, or none of whose samples has what is named.
    """
    columns = Columns.of(config)
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        shards = list(pool.map(partial(_read_shard, columns=columns, config=config), find_shards(config.path)))
    _check_samples(config.path, shards)
    columns.check(
        config.path,
        sum((shard.suffixes for shard in shards), Counter()),
        sum((shard.entries for shard in shards), Counter()),
    )
    repeated, restarts = _repeated(shards)
    restarts = restarts and columns.key is None  # a key that is named is meant
    with_shard = config.shard_in_key == "always" or (config.shard_in_key == "auto" and restarts)
    if with_shard:
        for name, shard in zip(distinct_names([shard.location for shard in shards]), shards, strict=True):
            shard.samples = [[_within(row, name) for row in rows] for rows in shard.samples]
    rows = [row for shard in shards for of_sample in shard.samples for row in of_sample]
    n_merged = sum(shard.n_merged for shard in shards)
    return replace(
        gathered(name_of(config.path), rows),
        n_split=len(rows) - sum(len(shard.samples) for shard in shards),
        merged={_MERGED: n_merged} if n_merged else {},
        notes=(*_notes(shards, config), *_note_on_keys(repeated, with_shard)),
    )


def _read_shard(location: str, columns: Columns, config: DataConfig) -> _Shard:
    """Read a shard: the rows of its samples, and a row for what is lost of it."""
    found = Samples()
    damage = None
    try:
        with open_file(location) as file:
            check_uncompressed(file, location)
            try:
                add_members(found, read_members(file), file, config.key_ends, columns.suffixes)
            except Damage as error:
                damage = str(error)
                if not found.samples and not found.others:
                    raise DataError(f"The shard {location} is not a tar file: {damage}.", "Fetch it again.") from error
    except DataError:
        raise
    except Exception as error:  # a store behind a URL has errors of its own
        raise DataError(f"The shard {location} cannot be read: {reason_of(error)}.") from error
    found = told_apart(found, config.key_ends, columns.suffixes)
    shard = _Shard(location, others=found.others, n_merged=found.n_merged, n_split=found.n_split)
    for sample in found.samples:
        content = content_of(sample)
        rows = rows_of(sample, content, location, columns, config)
        shard.samples.append(rows)
        if rows[0].fault is None:
            taken = taken_of_several(sample, columns)
            shard.taken.update([] if taken is None else [taken])
            shard.n_other_captions += has_other_captions(sample, content, rows[0], columns)
        shard.suffixes.update(sample.parts.keys())
        shard.entries.update([] if isinstance(content, Fault) else content.keys())
    if damage is not None:
        shard.samples.append([Row(None, fault=Fault("the shard is damaged", damage), where=shard.name, loss=True)])
    return shard


def _within(row: Row, shard: str) -> Row:
    return row if row.key is None else replace(row, key=f"{shard}/{row.key}")


def _check_samples(path: str, shards: Sequence[_Shard]) -> None:
    """Refuse shards that have no samples.

    Raises:
        DataError: a folder has empty shards alone, or none of the names is one of a sample.
    """
    if any(shard.samples for shard in shards):
        return
    if is_folder(path):
        raise DataError(
            f"The folder {path} is read as shards, and its .tar files ({listed([s.name for s in shards], 3)}) hold no "
            "sample.",
            "Set data.path to the data set itself, or data.format to what the folder is.",
        )
    if others := [name for shard in shards for name in shard.others]:
        raise DataError(
            f"{path} has no samples: none of its {len(others)} members has a name with a suffix, such as "
            f"00000.jpg; they are {listed(others, 3)}.",
            "Name the members of each sample alike, with the suffixes of an image and a .txt or .json.",
        )


def _repeated(shards: Sequence[_Shard]) -> tuple[int, bool]:
    """Return how many keys of a shard an earlier one has for another sample, and whether the shards number anew.

    They do where this concerns more than half of a shard. A sample that is the same in both is merely there twice.
    """
    known: dict[str, tuple[Any, ...]] = {}
    repeated = 0
    restarts = False
    for shard in shards:
        own = {rows[0].key: _contents(rows) for rows in shard.samples if rows[0].key is not None}
        other = sum(known.get(key, contents) != contents for key, contents in own.items())
        repeated += other
        restarts = restarts or 2 * other > len(own)
        known |= {key: contents for key, contents in own.items() if key not in known}
    return repeated, restarts


def _contents(rows: Sequence[Row]) -> tuple[Any, ...]:
    """Return what tells samples of one key apart without reading their images."""
    return (*(row.caption for row in rows), rows[0].image and rows[0].image.length, rows[0].fault)


def _note_on_keys(repeated: int, with_shard: bool) -> Iterator[str]:
    if repeated and with_shard:
        yield (
            f"{repeated} keys stand in several shards for other samples: the name of the shard is part of each key "
            "(data.shard_in_key)"
        )
    elif repeated:
        yield (
            f"{repeated} keys stand in several shards for other samples: the first is taken; data.shard_in_key: always "
            "keeps them apart"
        )


def _notes(shards: Sequence[_Shard], config: DataConfig) -> Iterator[str]:
    """Say what of the shards is no sample, or not the sample that its name could be taken for."""
    if n_split := sum(shard.n_split for shard in shards):
        yield f"{n_split} samples have names with several dots, " + (
            "which data.key_ends: first_dot leaves out"
            if config.key_ends == "first_dot"
            else "and end at the last one: by the first they would lack something or be one (data.key_ends)"
        )
    if n_merged := sum(shard.n_merged for shard in shards):
        yield (
            f"{n_merged} samples have names that go on after the first dot of another sample's, and are parts of it "
            "by WebDataset's rule; data.key_ends: last_dot tells them apart"
        )
    if taken := sum((shard.taken for shard in shards), Counter[str]()):
        which = " or ".join(f".{suffix}" for suffix, _ in taken.most_common())
        yield f"{taken.total()} samples have several images; the {which} is taken (data.image_column)"
    if n_other := sum(shard.n_other_captions for shard in shards):
        yield (
            f"{n_other} samples have another caption in their .json than in their .txt; the .txt is taken "
            "(data.caption_column)"
        )
    if others := [name for shard in shards for name in shard.others]:
        yield f"{len(others)} members are part of no sample, such as {others[0]!r}"
    if empty := [shard.name for shard in shards if not shard.samples]:
        yield f"{len(empty)} shards hold no sample: {listed(empty, 3)}"
