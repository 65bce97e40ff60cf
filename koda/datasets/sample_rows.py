"""From a sample of a shard to its rows: which member is the image, which text the caption, which entry the key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from koda.config import DataConfig
from koda.datasets.base import Fault, Row
from koda.datasets.blobs import Blob
from koda.datasets.captions import choose, missing
from koda.datasets.images import IMAGE_SUFFIXES
from koda.datasets.samples import Sample
from koda.datasets.text import decode_text, listed, parse_json, scalars, stands_for_nothing
from koda.errors import DataError

_MALFORMED = "malformed sample"
_CAPTIONS = ("caption", "captions", "text", "title")  # entries that are the caption where no text is, the first of them
_DEFAULTS = {name: DataConfig.model_fields[name].default for name in ("image_column", "caption_column", "key_column")}


@dataclass(frozen=True)
class Columns:
    """What the configuration names of a sample: suffixes of members or entries of its JSON; None where it does not.

    Args:
        image: suffix of a member.
        caption: suffix of a member, or an entry.
        key: an entry.
    """

    image: str | None
    caption: str | None
    key: str | None

    @classmethod
    def of(cls, config: DataConfig) -> Columns:
        """Return what is not the default, which is of tables."""
        values = {name: getattr(config, name) for name in _DEFAULTS}
        return cls(*(None if value == _DEFAULTS[name] else str(value) for name, value in values.items()))

    @property
    def suffixes(self) -> list[str]:
        """Suffixes of members that are named, if they are of members."""
        return [_suffix(name) for name in (self.image, self.caption) if name is not None]

    def check(self, path: str, suffixes: Counter[str], entries: Counter[str]) -> None:
        """Refuse names that no sample knows.

        Args:
            path: of the data set, for the message.
            suffixes, entries: how many samples have each.

        Raises:
            DataError: with the names that there are.
        """
        members = Counter({f".{suffix}": count for suffix, count in suffixes.items()})
        for setting, named, in_members, in_json in (
            ("image_column", self.image, True, False),
            ("caption_column", self.caption, True, True),
            ("key_column", self.key, False, True),
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


def content_of(sample: Sample) -> dict[str, Any] | Fault:
    """Return the entries of a sample's JSON, none where it has none, or what is wrong with it."""
    if "json" not in sample.texts:
        return {}
    try:
        content = parse_json(sample.texts["json"], f"{sample.key}.json")
    except DataError as error:
        return Fault(_MALFORMED, error.message.rstrip("."))
    return content if isinstance(content, dict) else Fault(_MALFORMED, f"{sample.key}.json is no JSON object")


def rows_of(
    sample: Sample, content: dict[str, Any] | Fault, location: str, columns: Columns, config: DataConfig
) -> list[Row]:
    """Return the row of a sample, one that says what it lacks, or one for each of several captions.

    Args:
        sample: of a shard.
        content: of its JSON.
        location: of the shard.
        columns: what the configuration names.
        config: says which of several captions are taken.
    """
    entries = {} if isinstance(content, Fault) else content
    # where nothing is named, img2dataset's key is the name and its caption the text
    metadata = scalars(entries, {columns.caption or "caption", columns.key or "key"})
    key = sample.key if columns.key is None else _key(entries.get(columns.key))
    image = next((Blob(location, *sample.parts[name]) for name in _images(columns) if name in sample.parts), None)
    fault = _fault_of_members(sample, image, columns)
    if fault is None and isinstance(content, Fault):
        fault = content
    if fault is None and key is None:
        fault = Fault(f"the JSON of the sample has no entry {columns.key!r} that is a key")
    captions: list[str] = []
    if fault is None:
        try:
            captions, fault = _captions(sample, entries, columns)
        except DataError as error:
            fault = Fault(_MALFORMED, error.message.rstrip("."))
    row = Row(key, image, None, metadata, fault, f"{location.rpartition('/')[2]}: {sample.key}")
    if fault is not None or key is None:
        return [row]
    if len(captions) == 1:
        return [replace(row, caption=captions[0])]
    return [replace(row, key=name, caption=text) for name, text in choose(key, captions, config)]


def taken_of_several(sample: Sample, columns: Columns) -> str | None:
    """Return the suffix of the image that is taken, where a sample has several and no suffix is named; else None."""
    there = [suffix for suffix in _images(columns) if suffix in sample.parts]
    return there[0] if len(there) > 1 else None


def has_other_captions(sample: Sample, content: dict[str, Any] | Fault, row: Row, columns: Columns) -> bool:
    """Tell whether the text of a sample is taken for its caption, and its JSON says another one.

    Only what is called a caption there is compared: a title or a text beside a caption is mostly something else.

    Args:
        sample: of a shard.
        content: of its JSON.
        row: that the sample made.
        columns: what the configuration names; a caption that is named is meant.
    """
    if columns.caption is not None or "txt" not in sample.texts or isinstance(content, Fault):
        return False
    values = [content.get(name) for name in ("caption", "captions")]
    found = [text for value in values for text in (value if isinstance(value, list) else [value])]
    texts = {text.strip() for text in found if isinstance(text, str) and not stands_for_nothing(text)}
    if not texts - {"", row.caption}:
        return False
    return not stands_for_nothing(decode_text(sample.texts["txt"], sample.key))  # else the JSON's is taken


def _fault_of_members(sample: Sample, image: Blob | None, columns: Columns) -> Fault | None:
    """Return why a sample cannot be used, as its members show."""
    if sample.part_of is not None:
        detail = f"by the first it is a part of {sample.part_of!r}; data.key_ends: last_dot takes it for a sample"
        return Fault("the name has several dots", detail)
    if sample.faults:
        return next(iter(sample.faults.values()))
    if image is not None:
        return None
    wanted = "" if columns.image is None else f" .{_suffix(columns.image)}"
    has = f"it has {listed(sorted(sample.parts))}"
    if any(suffix.rpartition(".")[2] in IMAGE_SUFFIXES for suffix in sample.parts):
        has += "; data.image_column takes another suffix"
    return Fault(f"the sample has no{wanted} image", has)


def _captions(sample: Sample, entries: dict[str, Any], columns: Columns) -> tuple[list[str], Fault | None]:
    """Return the captions of a sample, one or several, or what is wrong where there is none.

    A text such as `nan` is none. An entry that is empty is the caption only where no later one has a text.

    Raises:
        DataError: a text that is not UTF-8.
    """
    wrong = Fault("the sample has no caption")
    suffix = "txt" if columns.caption is None else _suffix(columns.caption)
    if suffix in sample.texts:
        text = decode_text(sample.texts[suffix], f"{sample.key}.{suffix}").strip()
        if not stands_for_nothing(text):
            return [text], None
        wrong = missing(text)
    empty: list[str] = []
    for name in _CAPTIONS if columns.caption is None else (columns.caption,):
        value = entries.get(name)
        found = [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
        texts = [text for text in found if not stands_for_nothing(text)]
        if any(text.strip() for text in texts):
            return texts, None
        empty = empty or texts
        if found and not texts:
            wrong = missing(found[0])
    return empty, None if empty else wrong


def _images(columns: Columns) -> Sequence[str]:
    return IMAGE_SUFFIXES if columns.image is None else (_suffix(columns.image),)


def _suffix(name: str) -> str:
    return name.removeprefix(".").lower()


def _key(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None


def _commonest(names: Counter[str]) -> str:
    return listed([name for name, _ in names.most_common()]) or "(none)"
