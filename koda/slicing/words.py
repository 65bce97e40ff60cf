"""What the captions and the metadata of some samples say that those of the others do not."""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from koda.datasets.text import category_of
from koda.records import OverRepresented, Word
from koda.statistics import normal_quantile

MAX_TOKENS = 256  # more of one caption is not read: a hostile caption of megabytes must not set the cost of an audit
PRIOR_CAPTIONS = 10.0  # weight of the prior, in captions; a lobe holds some ten to some hundred
_LIFT_LEVEL = 0.95  # of the intervals of lifts
MIN_Z = 2.0  # below it a term is as common outside as inside, for all the captions can tell

# Scripts written without spaces: each character is a token, and the bigrams stand for words.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+(?:['’\-][^\W_{_UNSPACED}]+)*")
_LONE = re.compile(rf"[{_UNSPACED}]")


def tokenise(caption: object) -> list[str]:
    """Return the lower-case words of a caption, at most 256; none for a caption that is absent.

    Combining marks stay with their letter (NFC first, then marks count as letters), hyphens and
    apostrophes inside a word are part of it, everything else separates.
    """
    if caption is None or (isinstance(caption, float) and math.isnan(caption)):
        return []
    text = unicodedata.normalize("NFC", str(caption)[: 32 * MAX_TOKENS].lower())
    if text.isascii() or not any(unicodedata.category(c).startswith("M") for c in text):
        return _TOKEN.findall(text)[:MAX_TOKENS]
    # `\w` leaves out combining marks, which would cut Hindi or Thai words to pieces.
    letters = [c if c.isalnum() or unicodedata.category(c).startswith("M") else " " for c in text]
    return "".join(letters).split()[:MAX_TOKENS]


def terms(caption: object) -> frozenset[str]:
    """Return the distinct words and pairs of neighbouring words of a caption."""
    tokens = tokenise(caption)
    return frozenset(tokens).union(_pairs(tokens))


def _pairs(tokens: Sequence[str]) -> Iterator[str]:
    for first, second in itertools.pairwise(tokens):
        yield first + second if _LONE.fullmatch(first) and _LONE.fullmatch(second) else f"{first} {second}"


@dataclass(frozen=True)
class TermCounts:
    """In how many of ``n`` captions each term occurs; a caption counts a term once."""

    counts: Counter[str]
    n: int

    @classmethod
    def of(cls, captions: Iterable[object]) -> TermCounts:
        """Count the terms of the captions that are not absent."""
        counts: Counter[str] = Counter()
        n = 0
        for caption in captions:
            if distinct := terms(caption):
                counts.update(distinct)
                n += 1
        return cls(counts, n)

    def without(self, other: TermCounts) -> TermCounts:
        """Return the counts of the captions that are not in ``other``, a part of these."""
        rest = Counter(self.counts)
        rest.subtract(other.counts)
        return TermCounts(+rest, self.n - other.n)


def log_odds_z(inside: int, n_inside: int, outside: int, n_outside: int) -> float:
    """Return the weighted log-odds of a term, inside against outside, over its standard error.

    With y of n captions that hold the term, p its share among all captions and a prior worth
    a = 10 captions::

        odds(y, n) = (y + a p) / (n - y + a (1 - p))
        z = [log odds(inside) - log odds(outside)] / sqrt(sum of the reciprocals of the four counts)

    A caption holds a term or does not, so the Dirichlet has two categories a term and the unit is the
    caption: longer captions do not make a term rarer. The variance keeps all four counts; the usual
    form drops the two of captions without the term, which is wrong for a word that nearly all hold.
    Source: Monroe, Colaresi and Quinn (2008), Fightin' Words, section 3.5.1, with the informative prior.
    """
    p = (inside + outside + 0.5) / (n_inside + n_outside + 1.0)
    with_in, without_in = inside + PRIOR_CAPTIONS * p, n_inside - inside + PRIOR_CAPTIONS * (1 - p)
    with_out, without_out = outside + PRIOR_CAPTIONS * p, n_outside - outside + PRIOR_CAPTIONS * (1 - p)
    delta = math.log(with_in / without_in) - math.log(with_out / without_out)
    return delta / math.sqrt(1 / with_in + 1 / without_in + 1 / with_out + 1 / without_out)


def distinctive_words(
    inside: Iterable[object] | TermCounts, outside: Iterable[object] | TermCounts, *, limit: int = 10
) -> tuple[Word, ...]:
    """Return the words and word pairs that the captions inside use more, strongest first.

    Ranked by :func:`log_odds_z`, at least 2, and held by two captions inside or more. A pair stays only
    if it says more (a larger z) than each of its words; a word goes if a pair that stays is all
    there is to it inside. ``share_in`` and ``share_out`` are shares of the captions.

    >>> [word.text for word in distinctive_words(["a red dog"] * 9, ["a blue dog", "a cat"] * 9)]
    ['red']
    """
    here = inside if isinstance(inside, TermCounts) else TermCounts.of(inside)
    there = outside if isinstance(outside, TermCounts) else TermCounts.of(outside)
    if here.n == 0 or there.n == 0:
        return ()
    z = {
        term: log_odds_z(count, here.n, there.counts[term], there.n)
        for term, count in here.counts.items()
        if count >= 2
    }
    z = {term: value for term, value in z.items() if value >= MIN_Z}
    kept = set(z)
    for pair in (term for term in z if len(_parts(term)) == 2):
        if any(z[pair] <= z.get(word, -math.inf) for word in _parts(pair)):
            kept.discard(pair)
            continue
        kept -= {word for word in _parts(pair) if here.counts[word] == here.counts[pair]}
    ranked = sorted(kept, key=lambda term: (-z[term], term))[:limit]
    return tuple(
        Word(text=term, z=z[term], share_in=here.counts[term] / here.n, share_out=there.counts[term] / there.n)
        for term in ranked
    )


def _parts(term: str) -> list[str]:
    """Return the one or two words of a term."""
    return list(term) if len(term) == 2 and _LONE.fullmatch(term[0]) and _LONE.fullmatch(term[1]) else term.split(" ")


def over_represented(
    columns: Mapping[str, Sequence[Any]],
    inside: Sequence[int],
    outside: Sequence[int] | Mapping[str, Counter[str]],
    *,
    limit: int = 5,
    skip: Iterable[str] = ("caption",),
) -> tuple[OverRepresented, ...]:
    """Return the metadata values that are commoner among the rows inside, strongest first.

    Args:
        columns: metadata, a value per row; columns in ``skip`` and those whose values are all distinct,
            or all the same, name nothing and are left out, as are absent values.
        inside, outside: row numbers, disjoint; of those outside their :func:`label_counts` will do.
        limit: at most this many, over all columns.
        skip: columns that are not categories.

    ``lift`` is share_in / share_out with half a row added to each count, so that it is finite where no row
    outside holds the value; its interval (:func:`lift_interval`) is not corrected for the choice of the value. A
    value stays if two rows inside hold it and its log-odds z is at least 2.
    """
    ranked: list[tuple[float, OverRepresented]] = []
    left_out = set(skip)
    for column, values in columns.items():
        if column in left_out:
            continue
        here = label_counts(values, inside)
        there = outside[column] if isinstance(outside, Mapping) else label_counts(values, outside)
        n_here, n_there = here.total(), there.total()
        distinct = len(here.keys() | there.keys())
        if n_here == 0 or n_there == 0 or distinct < 2 or distinct == n_here + n_there:
            continue
        for value, count in here.items():
            z = log_odds_z(count, n_here, there[value], n_there)
            if count < 2 or z < MIN_Z:
                continue
            lift, low, high = lift_interval(count, n_here, there[value], n_there)
            share_in, share_out = count / n_here, there[value] / n_there
            entry = OverRepresented(
                column=column, value=value, share_in=share_in, share_out=share_out, lift=lift, low=low, high=high
            )
            ranked.append((z, entry))
    ranked.sort(key=lambda pair: (-pair[0], pair[1].column, pair[1].value))
    return tuple(entry for _, entry in ranked[:limit])


def label_counts(values: Sequence[Any], rows: Iterable[int]) -> Counter[str]:
    """Return how many of the rows hold each value that is not absent."""
    return Counter(label for row in rows if (label := category_of(values[row])) is not None)


def lift_interval(count: int, n: int, count_out: int, n_out: int) -> tuple[float, float, float]:
    """Return the ratio of the shares count / n and count_out / n_out with its 95 % log-normal interval.

    Half a row is added to each count and one to each total, so that all three are finite.

    Source: Katz et al. (1978); the halves: Walter (1975).
    """
    a, m, b, k = count + 0.5, n + 1, count_out + 0.5, n_out + 1
    lift = (a / m) / (b / k)
    reach = math.exp(normal_quantile(_LIFT_LEVEL) * math.sqrt(1 / a - 1 / m + 1 / b - 1 / k))
    return lift, lift / reach, lift * reach
