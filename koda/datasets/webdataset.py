"""WebDataset shards, img2dataset's among them: tar files in which the members of one name are one sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from koda.config import DataConfig
from koda.datasets.base import Fault, Row, Source, gathered
from koda.datasets.blobs import READS_AT_ONCE, Blob, is_folder, open_file, reason_of
from koda.datasets.captions import choose
from koda.datasets.images import IMAGE_SUFFIXES
from koda.datasets.samples import Sample, Samples, add_members, told_apart
from koda.datasets.shards import distinct_names, find_shards, name_of
from koda.datasets.tars import Damage, check_uncompressed, read_members
from koda.datasets.text import decode_text, listed, parse_json, scalars
from koda.errors import DataError

_MERGED = "part of the sample that is named up to the first dot"
_MALFORMED = "malformed sample"


@dataclass(frozen=True)
class _Columns:
    """What the configuration names of a sample: suffixes of members or entries of its JSON; None where it does not."""

    image: str | None
    caption: str | None
    key: str | None

    @classmethod
    def of(cls, config: DataConfig) -> _Columns:
        """Return what is not the default, which is of tables."""
        fields = DataConfig.model_fields
        named = [
            None if getattr(config, name) == fields[name].default else str(getattr(config, name))
            for name in ("image_column", "caption_column", "key_column")
        ]
        return cls(*named)

    @property
    def suffixes(self) -> list[str]:
        """Suffixes of members that are named, if they are of members."""
        return [_suffix(name) for name in (self.image, self.caption) if name is not None]


@dataclass(frozen=True)
class _Shard:
    """What was read of a shard.

    Args:
        location: of the shard.
        found: its samples and what is left over.
        contents: of each sample the entries of its JSON, or what is wrong with it.
        damage: what is wrong with its end, or None.
    """

    location: str
    found: Samples
    contents: list[dict[str, Any] | Fault]
    damage: str | None

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.location.rpartition("/")[2]


def read_webdataset(config: DataConfig) -> Source:
    """Read shards by their headers, captions and metadata; each image stays where it lies in its shard.

    The key is a member's name up to the first dot, with its folder in the shard (WebDataset's `__key__`); see
    `data.key_ends` and `data.shard_in_key` for names that this does not tell apart. The caption is the `.txt`, or else
    `caption` in the `.json`, a text or a list of them, whose other entries are metadata. `data.caption_column` names
    another member or entry, `data.image_column` the suffix of the image, `data.key_column` an entry. Of a shard that
    was cut off the samples before the cut are used, and the loss is a row with a fault.

    Raises:
        DataError: shards that are missing, compressed, or not tar files, or none of whose samples has what is named.
    """
    columns = _Columns.of(config)
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        shards = list(pool.map(partial(_read_shard, columns=columns, config=config), find_shards(config.path)))
    _check_names(config.path, shards)
    _check_columns(config.path, shards, columns)
    by_shard = [list(_samples(shard, columns, config)) for shard in shards]  # the rows of each sample of each shard
    repeated, restarts = _repeated(by_shard)
    restarts = restarts and config.key_column is None  # a key that is named is meant
    with_shard = config.shard_in_key == "always" or (config.shard_in_key == "auto" and restarts)
    if with_shard:
        names = distinct_names([shard.location for shard in shards])
        for name, samples in zip(names, by_shard, strict=True):
            samples[:] = [[_within(row, name) for row in rows] for rows in samples]
    n_samples = sum(map(len, by_shard))
    rows = [row for samples in by_shard for several in samples for row in several]
    n_merged = sum(shard.found.n_merged for shard in shards)
    return replace(
        gathered(name_of(config.path), rows),
        n_split=len(rows) - n_samples,
        merged={_MERGED: n_merged} if n_merged else {},
        notes=(*_notes(shards, config), *_note_on_keys(repeated, with_shard)),
    )


def _read_shard(location: str, columns: _Columns, config: DataConfig) -> _Shard:
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
    return _Shard(location, found, [_content(sample) for sample in found.samples], damage)


def _content(sample: Sample) -> dict[str, Any] | Fault:
    """Return the entries of a sample's JSON, none where it has none, or what is wrong with it."""
    if "json" not in sample.texts:
        return {}
    try:
        content = parse_json(sample.texts["json"], f"{sample.key}.json")
    except DataError as error:
        return Fault(_MALFORMED, error.message.rstrip("."))
    return content if isinstance(content, dict) else Fault(_MALFORMED, f"{sample.key}.json is no JSON object")


def _samples(shard: _Shard, columns: _Columns, config: DataConfig) -> Iterator[list[Row]]:
    """Yield the rows of each sample of a shard, one unless it has several captions, and one for what is lost of it."""
    for sample, content in zip(shard.found.samples, shard.contents, strict=True):
        yield _rows(sample, content, shard, columns, config)
    if shard.damage is not None:
        yield [Row(None, fault=Fault("the shard is damaged", shard.damage), where=shard.name, loss=True)]


def _rows(
    sample: Sample, content: dict[str, Any] | Fault, shard: _Shard, columns: _Columns, config: DataConfig
) -> list[Row]:
    """Make rows of a sample, or one that says what it lacks."""
    where = f"{shard.name}: {sample.key}"
    place = next((sample.parts[suffix] for suffix in _image_suffixes(columns) if suffix in sample.parts), None)
    entries = {} if isinstance(content, Fault) else content
    # img2dataset's key is the name
    metadata = scalars(entries, {"caption", "key", *filter(None, (columns.caption, columns.key))})
    key = sample.key if columns.key is None else _key(entries.get(columns.key))
    image = None if place is None else Blob(shard.location, *place)
    fault = _fault(sample, image, columns)
    if fault is None and isinstance(content, Fault):
        fault = content
    if fault is None and key is None:
        fault = Fault(f"the JSON of the sample has no entry {columns.key!r} that is a key")
    caption = None
    if fault is None:
        try:
            caption = _caption(sample, entries, columns)
        except DataError as error:
            fault = Fault(_MALFORMED, error.message.rstrip("."))
        else:
            fault = Fault("the sample has no caption") if caption is None else None
    row = Row(key, image, None, metadata, fault, where)
    if key is None or caption is None:
        return [row]
    if isinstance(caption, str):
        return [replace(row, caption=caption)]
    return [replace(row, key=name, caption=text) for name, text in choose(key, caption, config)]


def _fault(sample: Sample, image: Blob | None, columns: _Columns) -> Fault | None:
    """Return why a sample cannot be used, as its members show."""
    if sample.part_of is not None:
        detail = f"up to the first it is {sample.part_of!r}, as others are; data.key_ends: last_dot tells them apart"
        return Fault("the name has several dots", detail)
    if sample.faults:
        return Fault("a member is not a file of its own", next(iter(sample.faults.values())))
    if image is not None:
        return None
    wanted = "" if columns.image is None else f" .{_suffix(columns.image)}"
    has = f"it has {listed(sorted(sample.parts))}"
    if any(suffix.rpartition(".")[2] in IMAGE_SUFFIXES for suffix in sample.parts):
        has += "; data.image_column takes another suffix"
    return Fault(f"the sample has no{wanted} image", has)


def _caption(sample: Sample, entries: dict[str, Any], columns: _Columns) -> str | list[str] | None:
    """Return the caption of a sample, or several.

    Raises:
        DataError: a text that is not UTF-8.
    """
    suffix = "txt" if columns.caption is None else _suffix(columns.caption)
    if suffix in sample.texts:
        return decode_text(sample.texts[suffix], f"{sample.key}.{suffix}").strip()
    names = ("caption", DataConfig.model_fields["caption_column"].default)
    for name in names if columns.caption is None else (columns.caption,):
        value = entries.get(name)
        if isinstance(value, str):
            return value
        if isinstance(value, list) and (texts := [text for text in value if isinstance(text, str)]):
            return texts
    return None


def _image_suffixes(columns: _Columns) -> Sequence[str]:
    return IMAGE_SUFFIXES if columns.image is None else (_suffix(columns.image),)


def _suffix(name: str) -> str:
    return name.removeprefix(".").lower()


def _key(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None


def _within(row: Row, shard: str) -> Row:
    return row if row.key is None else replace(row, key=f"{shard}/{row.key}")


def _check_names(path: str, shards: Sequence[_Shard]) -> None:
    """Refuse shards that have no samples.

    Raises:
        DataError: none of the names is one of a sample, or a folder has empty shards alone.
    """
    if any(shard.found.samples or shard.damage for shard in shards):
        return
    if is_folder(path):
        raise DataError(
            f"The folder {path} is read as shards, and its .tar files ({listed([s.name for s in shards], 3)}) hold no "
            "sample.",
            "Set data.path to the data set itself, or data.format to what the folder is.",
        )
    others = [name for shard in shards for name in shard.found.others]
    if others:
        raise DataError(
            f"{path} has no samples: none of its {len(others)} members has a name with a suffix, such as "
            f"00000.jpg; they are {listed(others, 3)}.",
            "Name the members of each sample alike, with the suffixes of an image and a .txt or .json.",
        )


def _check_columns(path: str, shards: Sequence[_Shard], columns: _Columns) -> None:
    """Refuse names that no sample knows.

    Raises:
        DataError: with the names that there are.
    """
    members = Counter(f".{suffix}" for shard in shards for sample in shard.found.samples for suffix in sample.parts)
    entries = Counter(
        name for shard in shards for content in shard.contents if isinstance(content, dict) for name in content
    )
    for setting, named, in_members, in_json in (
        ("image_column", columns.image, True, False),
        ("caption_column", columns.caption, True, True),
        ("key_column", columns.key, False, True),
    ):
        if named is None or not members:
            continue
        if (in_members and f".{_suffix(named)}" in members) or (in_json and named in entries):
            continue
        there = [f"members {_commonest(members)}"] if in_members else []
        there += [f"entries in their JSON {_commonest(entries)}"] if in_json else []
        raise DataError(
            f"No sample of {path} has {named!r} (data.{setting}); they have {' and '.join(there)}.",
            f"Name the right one as data.{setting}, or leave it out.",
        )


def _commonest(names: Counter[str]) -> str:
    return listed([name for name, _ in names.most_common()]) or "(none)"


def _repeated(by_shard: Sequence[Sequence[Sequence[Row]]]) -> tuple[int, bool]:
    """Return how many keys of a shard an earlier one has for another sample, and whether the shards number anew.

    They do where this concerns more than half of a shard. A sample that is the same in both is merely there twice.
    """
    known: dict[str, tuple[Any, ...]] = {}
    repeated = 0
    restarts = False
    for samples in by_shard:
        own = {rows[0].key: _contents(rows) for rows in samples if rows[0].key is not None}
        other = sum(known.get(key, contents) != contents for key, contents in own.items())
        repeated += other
        restarts = restarts or 2 * other > len(own)
        known |= {key: contents for key, contents in own.items() if key not in known}
    return repeated, restarts


def _contents(rows: Sequence[Row]) -> tuple[Any, ...]:
    """Return what tells samples of one key apart without reading their images."""
    return (*(row.caption for row in rows), rows[0].image and rows[0].image.length, rows[0].fault)


def _note_on_keys(repeated: int, with_shard: bool) -> Iterator[str]:
    if repeated:
        yield f"{repeated} keys stand in several shards for other samples: " + (
            "the name of the shard is part of each key (data.shard_in_key)"
            if with_shard
            else "the first is taken; data.shard_in_key: always keeps them apart"
        )


def _notes(shards: Sequence[_Shard], config: DataConfig) -> Iterator[str]:
    """Say what of the shards is no sample, or not the sample that its name could be taken for."""
    if n_split := sum(shard.found.n_split for shard in shards):
        how = "left out, as" if config.key_ends == "first_dot" else "told apart at the last dot, since"
        yield f"{n_split} samples have names that are alike up to the first dot: they are {how} " + (
            "data.key_ends: first_dot says"
            if config.key_ends == "first_dot"
            else "they would be one otherwise (data.key_ends)"
        )
    if n_merged := sum(shard.found.n_merged for shard in shards):
        yield (
            f"{n_merged} samples have names that go on after the first dot of another sample's, and are parts of it "
            "by WebDataset's rule; data.key_ends: last_dot tells them apart"
        )
    if others := [name for shard in shards for name in shard.found.others]:
        yield f"{len(others)} members are part of no sample, such as {others[0]!r}"
    if empty := [shard.name for shard in shards if not shard.found.samples]:
        yield f"{len(empty)} shards hold no sample: {listed(empty, 3)}"
