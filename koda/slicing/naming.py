"""Names of lobes and of findings that say no more than the samples do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from koda.records import OverRepresented, Word
from koda.slicing.words import TermCounts, label_counts

DOMINANT = 0.6  # of the members that a metadata value, or captions with a word, have to cover to name a lobe
LEADING, LEAST_LEADING = 12, 0.5  # the first of the ranking, which a gallery shows, and the share of them to cover
LEAST_LIFT = 1.5  # that the lower end of the interval of the lift of a value has to exceed
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
        "but",
        "by",
        "for",
        "from",
        "has",
        "have",
        "in",
        "into",
        "is",
        "it",
        "its",
        "of",
        "on",
        "or",
        "than",
        "that",
        "the",
        "their",
        "there",
        "these",
        "this",
        "those",
        "to",
        "was",
        "were",
        "which",
        "while",
        "with",
    }
)
_NOUNS = {"image": ("picture", "pictures"), "text": ("caption", "captions"), "joint": ("pair", "pairs")}
_LONGEST = 60  # characters of a column, a value or a word


@dataclass(frozen=True)
class Holding:
    """How many of some samples hold each word and each value.

    Args:
        n: the samples.
        terms: in how many of their captions each term occurs.
        labels: column -> how many of them hold each value.
    """

    n: int = 0
    terms: Counter[str] = field(default_factory=Counter)
    labels: Mapping[str, Counter[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, columns: Mapping[str, Sequence[Any]], rows: Sequence[int]) -> Holding:
        """Count captions and metadata values on some rows; the column ``caption`` holds the captions."""
        captions = columns.get("caption")
        return cls(
            n=len(rows),
            terms=Counter() if captions is None else TermCounts.of(captions[row] for row in rows).counts,
            labels={name: label_counts(column, rows) for name, column in columns.items() if name != "caption"},
        )

    def word(self, text: str) -> float:
        """Share of the samples whose captions hold a word; a sample without a caption holds none."""
        return self.terms[text] / self.n if self.n else 0.0

    def value(self, column: str, value: str) -> float:
        """Share of the samples with a metadata value; a sample without one counts as one that lacks it."""
        return self.labels[column][value] / self.n if self.n and column in self.labels else 0.0


@dataclass(frozen=True)
class LobeFacts:
    """What a lobe may be named by.

    Args:
        size: its members.
        words, metadata: of the record, the strongest first.
        members: what the members that were looked at hold.
        leading: what the first of them hold.
    """

    size: int
    words: Sequence[Word] = ()
    metadata: Sequence[OverRepresented] = ()
    members: Holding = field(default_factory=Holding)
    leading: Holding = field(default_factory=Holding)

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
            rows: row numbers, in the order of the ranking.
        """
        looked_at = list(rows)
        every, leading = (Holding.of(columns, some) for some in (looked_at, looked_at[:LEADING]))
        return cls(size, words, metadata, every, leading)


@dataclass(frozen=True)
class Names:
    """Names of both lobes, in full, and of their finding, in short."""

    positive: str
    negative: str
    finding: str


def says_something(text: str) -> bool:
    """Tell whether a word, or a pair of words, says something by itself: no part of it only joins others.

    >>> says_something("purple"), says_something("in"), says_something("tone on")
    (True, False, False)
    """
    return _JOINING.isdisjoint(text.split())


def names_of(positive: LobeFacts, negative: LobeFacts, modality: str) -> Names:
    """Name the two lobes of a finding and the finding.

    A lobe is named, by the first of these that there is, by

    1. a metadata value that dominates it, that is clearly commoner among its members than elsewhere (the interval of
       its lift is over 1.5) and that the other lobe holds at most half as much. Of several values the one with the
       largest lift x share of the members: of two that cover the lobe alike, the rarer one.
    2. a word that dominates its members' captions, and that at most half as many of the other lobe's hold; the
       strongest such word. Words that only join others ("in", "at"), and pairs with one ("tone on"), name nothing.
    3. its size: "group of 176 pictures" (captions, pairs).

    What dominates is held by at least 60 % of the members and by half of the first twelve, which are what a gallery
    shows: a lobe is not called purple over pictures of blue. A finding is named by both lobes; where neither has a
    name of its own, by a value that dominates both, if there is one, and by their sizes. A name is never a reason: it
    says what the members have in common.

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
        share = lobe.members.value(item.column, item.value)
        if other.members.value(item.column, item.value) <= MOST_ELSEWHERE * share:
            figures = f"{_percent(share)} of it, {_times(item.lift)} as common as elsewhere"
            return _OwnName(_value_name(item), figures)
    for word in lobe.words:
        if not says_something(word.text):
            continue
        share, there = lobe.members.word(word.text), other.members.word(word.text)
        if _dominates(share, lobe.leading.word(word.text)) and there <= MOST_ELSEWHERE * share:
            beside = f", {_percent(there)} of the other lobe's" if other.size else ""
            return _OwnName(f"“{_printable(word.text)}”", f"in {_percent(share)} of its captions{beside}")
    return None


def _dominant(lobe: LobeFacts) -> list[OverRepresented]:
    """Return the metadata values that could name a lobe, by lift x share of the members, the largest first."""
    shares = {(item.column, item.value): lobe.members.value(item.column, item.value) for item in lobe.metadata}
    able = [
        item
        for item in lobe.metadata
        if _dominates(shares[item.column, item.value], lobe.leading.value(item.column, item.value))
        and item.low is not None
        and item.low > LEAST_LIFT
    ]
    return sorted(able, key=lambda item: -item.lift * shares[item.column, item.value])


def _dominates(share: float, leading: float) -> bool:
    """Tell whether so much of the members, and of the first of them, is what a lobe may be called."""
    return share >= DOMINANT and leading >= LEAST_LEADING


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
