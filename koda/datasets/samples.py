"""The members of shards that make a sample: where a name ends and its suffix begins, and what is left over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

from koda.datasets.base import Fault
from koda.datasets.images import IMAGE_SUFFIXES
from koda.datasets.tars import Member

TEXT_SUFFIXES = ("txt", "json")
_NO_FILE = "a member is not a file of its own"
_TOO_LARGE = "a member is too large"
_MOST_TEXT_BYTES = 16 * 2**20  # of a caption or a JSON member; larger ones are no such thing
_MOST_IMAGE_BYTES = 2**30

KeyEnds = Literal["auto", "first_dot", "last_dot"]


@dataclass
class Sample:
    """The members of one name: where each lies, the text of those that are text, and what is wrong with one.

    Args:
        key: the name, with its folder in the shard.
        parts: suffix -> offset and size.
        texts: suffix -> bytes.
        faults: suffix -> why that member cannot be used.
        part_of: the sample that it is a part of by its name alone, or None.
    """

    key: str
    parts: dict[str, tuple[int, int]] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    part_of: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it has an image and a text of its own."""
        return any(suffix in self.parts for suffix in IMAGE_SUFFIXES) and any(
            suffix in self.parts for suffix in TEXT_SUFFIXES
        )


@dataclass
class Samples:
    """What a shard holds.

    Args:
        samples: in their order.
        others: names of members that are part of no sample.
        n_merged: whole samples that are parts of another one, whose name is theirs up to the first dot.
        n_split: samples told apart by the last dot of their names, since up to the first they have the same.
    """

    samples: list[Sample] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    n_merged: int = 0
    n_split: int = 0


def add_members(found: Samples, members: Iterable[Member], file: BinaryIO, ends: KeyEnds, texts: Sequence[str]) -> None:
    """Put members together to samples, as far as they come; what ends them ends this.

    Args:
        found: is added to.
        members: of a shard.
        file: the shard, to read texts from.
        ends: where a key ends.
        texts: suffixes of members whose bytes are read, beside `.txt` and `.json`.
    """
    latest: dict[str, Sample] = {}
    for member in members:
        key, suffix = _split(member.name, ends)
        if not key:
            found.others.append(member.name)
            continue
        sample = latest.get(key)
        if sample is None or suffix in sample.parts:  # the same member again is another sample, of the same key
            sample = latest[key] = Sample(key)
            found.samples.append(sample)
        sample.parts[suffix] = (member.offset, member.size)
        is_text = suffix in texts or suffix.rpartition(".")[2] in TEXT_SUFFIXES
        if member.fault is not None:
            sample.faults[suffix] = Fault(_NO_FILE, member.fault)
        elif member.size > (_MOST_TEXT_BYTES if is_text else _MOST_IMAGE_BYTES):
            sample.faults[suffix] = Fault(_TOO_LARGE, f"{member.name!r} has {member.size} bytes")
        elif is_text:
            file.seek(member.offset)
            sample.texts[suffix] = file.read(member.size)


def told_apart(found: Samples, ends: KeyEnds, named: Sequence[str]) -> Samples:
    """Return the samples of a shard, those among them told apart that share no more than the beginning of a name.

    By WebDataset's rule `cat.1.jpg` and `cat.2.jpg` are two members of one sample `cat`. Where that is not whole by
    itself, and its members make whole samples by the last dot of their names, these are meant.

    Args:
        found: by the first dot of the names.
        ends: "first_dot" leaves each of them out as a part of another sample.
        named: suffixes that the configuration names: a sample that has one is as it should be.
    """
    samples: list[Sample] = []
    n_merged = n_split = 0
    for sample in found.samples:
        dotted = any("." in suffix for suffix in sample.parts) and not any(suffix in sample.parts for suffix in named)
        inner = list(_by_last_dot(sample)) if dotted else []
        n_more = sum(part.is_whole and part.key != sample.key for part in inner)
        if sample.is_whole or not n_more:
            n_merged += n_more
            samples.append(sample)
            continue
        for part in inner:
            if ends == "first_dot" and part.key != sample.key:
                part.part_of = sample.key
        n_split += len(inner)
        samples += inner
    return Samples(samples, found.others, n_merged, n_split)


def _by_last_dot(sample: Sample) -> Iterator[Sample]:
    """Yield the samples that the members of one make by the last dot of their names."""
    inner: dict[str, Sample] = {}
    for suffix, place in sample.parts.items():
        stem, dot, last = suffix.rpartition(".")
        key = f"{sample.key}.{stem}" if dot else sample.key
        part = inner.setdefault(key, Sample(key))
        part.parts[last] = place
        if suffix in sample.texts:
            part.texts[last] = sample.texts[suffix]
        if suffix in sample.faults:
            part.faults[last] = sample.faults[suffix]
    yield from inner.values()


def _split(name: str, ends: KeyEnds) -> tuple[str, str]:
    """Split a member's name into its key and its suffix; ("", "") where it is not part of a sample."""
    folder, slash, base = name.rpartition("/")
    if base.startswith("."):
        return "", ""
    stem, dot, suffix = base.rpartition(".") if ends == "last_dot" else base.partition(".")
    return (folder + slash + stem, suffix.lower()) if stem and dot else ("", "")
