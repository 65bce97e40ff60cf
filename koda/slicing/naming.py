"""Names of lobes and of findings that say no more than the samples do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from koda.records import OverRepresented, Word
from koda.slicing.words import TermCounts, label_counts

LEAST_VALUE = 0.5  # share of the members that a metadata value has to cover to name a lobe
LEAST_LIFT = 1.5  # that the lower end of the interval of its lift has to exceed
LEAST_WORD = 1 / 3  # share of the members whose captions have to hold a word that names a lobe
MOST_ELSEWHERE = 0.5  # of its share in a lobe: what a name may cover of the other lobe at most

# English words that join others. The stop words of scikit-learn hold "fire", "mill" and "thin" too: things to see.
_JOINING = frozenset(
    {
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "been",
        "by",
        "for",
        "from",
        "has",
        "have",
        "in",
        "is",
        "it",
        "its",
        "of",
        "on",
        "or",
        "that",
        "the",
        "their",
        "there",
        "this",
        "to",
        "was",
        "were",
        "with",
    }
)
_NOUNS = {"image": ("picture", "pictures"), "text": ("caption", "captions"), "joint": ("pair", "pairs")}
_LONGEST = 60  # characters of a column, a value or a word


@dataclass(frozen=True)
class LobeFacts:
    """What a lobe may be named by.

    Args:
        size: its members.
        words, metadata: of the record, the strongest first.
        n: members that were looked at for the counts.
        terms: in how many of their captions each term occurs.
        labels: column -> how many of them hold each value.
    """

    size: int
    words: Sequence[Word] = ()
    metadata: Sequence[OverRepresented] = ()
    n: int = 0
    terms: Counter[str] = field(default_factory=Counter)
    labels: Mapping[str, Counter[str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        size: int,
        words: Sequence[Word],
        metadata: Sequence[OverRepresented],
        columns: Mapping[str, Sequence[Any]],
        rows: Iterable[int],
    ) -> LobeFacts:
        """Count captions and metadata values on the rows of the members, or on some that stand for them.

        Args:
            size, words, metadata: as above.
            columns: metadata, a value per row; the column ``caption`` holds the captions.
            rows: row numbers.
        """
        looked_at = list(rows)
        captions = columns.get("caption")
        return cls(
            size=size,
            words=words,
            metadata=metadata,
            n=len(looked_at),
            terms=Counter() if captions is None else TermCounts.of(captions[row] for row in looked_at).counts,
            labels={name: label_counts(column, looked_at) for name, column in columns.items() if name != "caption"},
        )

    def holding_word(self, text: str) -> float:
        """Share of the members whose captions hold a word; a member without a caption holds none."""
        return self.terms[text] / self.n if self.n else 0.0

    def holding_value(self, column: str, value: str) -> float:
        """Share of the members with a metadata value; a member without one counts as one that lacks it."""
        return self.labels[column][value] / self.n if self.n and column in self.labels else 0.0


@dataclass(frozen=True)
class Names:
    """Names of both lobes, in full, and of their finding, in short."""

    positive: str
    negative: str
    finding: str


def names_of(positive: LobeFacts, negative: LobeFacts, modality: str) -> Names:
    """Name the two lobes of a finding and the finding.

    A lobe is named, by the first of these that there is, by

    1. a metadata value that at least half of its members hold, that is clearly commoner among them than elsewhere
       (the interval of its lift is over 1.5) and that the other lobe holds at most half as much. Of several values
       the one with the largest lift x share of the members: of two that cover the lobe alike, the rarer one.
    2. a word that at least a third of its members' captions hold, and at most half as many of the other lobe's; the
       strongest such word that says more than "at" or "of the".
    3. its size: "group of 176 pictures" (captions, pairs).

    A finding is named by both lobes; where neither has a name of its own, by a value that dominates both, if there is
    one, and by their sizes. A name is never a reason: it says what the members have in common.

    Args:
        positive, negative: what is known of the lobes.
        modality: what is compared: image, text or joint.
    """
    first, second = _own_name(positive, negative), _own_name(negative, positive)
    first_group, second_group = _group(positive.size, modality), _group(negative.size, modality)
    if first and second:
        finding = f"{first.short} against {second.short}"
    elif first:
        finding = f"{first.short}, held apart from a {second_group}" if negative.size else first.short
    elif second:
        finding = f"{second.short}, held apart from a {first_group}"
    elif negative.size:
        shared = _shared_value(positive, negative)
        finding = f"{f'mostly {shared}: ' if shared else ''}a {first_group} against one of {negative.size}"
    else:
        finding = first_group
    return Names(
        first.in_full if first else first_group,
        second.in_full if second else second_group,
        finding,
    )


@dataclass(frozen=True)
class _OwnName:
    """What tells a lobe from the other, and the figures that it rests on."""

    short: str
    figures: str

    @property
    def in_full(self) -> str:
        return f"{self.short} ({self.figures})"


def _group(size: int, modality: str) -> str:
    one, many = _NOUNS[modality]
    return f"group of {size} {one if size == 1 else many}" if size else "no samples"


def _own_name(lobe: LobeFacts, other: LobeFacts) -> _OwnName | None:
    """Return what tells a lobe from the other; None where nothing does."""
    for item in _dominant(lobe):
        share = lobe.holding_value(item.column, item.value)
        if other.holding_value(item.column, item.value) <= MOST_ELSEWHERE * share:
            figures = f"{_percent(share)} of it, {_times(item.lift)} as common as elsewhere"
            return _OwnName(_value_name(item), figures)
    for word in lobe.words:
        if _JOINING.issuperset(word.text.split()):
            continue
        share, there = lobe.holding_word(word.text), other.holding_word(word.text)
        if share >= LEAST_WORD and there <= MOST_ELSEWHERE * share:
            beside = f", {_percent(there)} of the other lobe's" if other.size else ""
            return _OwnName(f"“{_printable(word.text)}”", f"in {_percent(share)} of its captions{beside}")
    return None


def _dominant(lobe: LobeFacts) -> list[OverRepresented]:
    """Return the metadata values that could name a lobe, by lift x share of the members, the largest first."""
    shares = {(item.column, item.value): lobe.holding_value(item.column, item.value) for item in lobe.metadata}
    able = [
        item
        for item in lobe.metadata
        if shares[item.column, item.value] >= LEAST_VALUE and item.low is not None and item.low > LEAST_LIFT
    ]
    return sorted(able, key=lambda item: -item.lift * shares[item.column, item.value])


def _shared_value(positive: LobeFacts, negative: LobeFacts) -> str | None:
    there = {(item.column, item.value) for item in _dominant(negative)}
    return next((_value_name(item) for item in _dominant(positive) if (item.column, item.value) in there), None)


def _value_name(item: OverRepresented) -> str:
    return f"{_printable(item.column)} = {_printable(item.value)}"


def _printable(text: str) -> str:
    """Return a text of the data as a short line without control characters."""
    line = " ".join(text[: 4 * _LONGEST].split())
    line = "".join(char if char.isprintable() else "\ufffd" for char in line)
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _times(lift: float) -> str:
    return f"{lift:.1f} times" if lift < 10 else f"{lift:.0f} times"
