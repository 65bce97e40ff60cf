"""From directions to slices: two ranked lobes each, and what sets them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from koda.discrepancy.blocks import SampledKernel
from koda.discrepancy.extension import Extension, common_keys, extend, extension_of
from koda.embeddings import EmbeddingTable
from koda.embeddings.rows import check_table
from koda.errors import ConfigError, DataError
from koda.records import OverRepresented, Similarity, Word
from koda.slicing.naming import LobeFacts, names_of
from koda.slicing.words import TermCounts, distinctive_words, label_counts, over_represented
from koda.typing import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from koda.discrepancy import Solution

FLOOR, CAP = 5, 0.1  # size of a lobe: samples at least, share of all samples at most
LISTED = 50  # samples that a ranking holds at least, where so many have the sign
_BEYOND = 10  # samples after the last member that it holds at least, to be shown as near misses
_HEIGHT, _WIDE_HEIGHT = 1 / 2, 1 / 3  # of a lobe, at which it ends; of its neighbourhood
_LEADING = 0.0025  # share of the samples whose scores are the height of a lobe
_SUBSAMPLE = 2000  # samples of a lobe, or of the rest, in the similarity table
_BACKGROUND = 20_000  # samples that stand for "the rest", or for a lobe that has more, in words and metadata

__all__ = ["Lobe", "Slice", "common_keys", "extend", "lobe_size", "members", "slices"]


@dataclass(frozen=True)
class Lobe:
    """One end of a direction: samples ranked by how far they lie on its side.

    Args:
        sign: "positive" (the heavier lobe: the slice) or "negative" (its counterpart).
        size: samples in the slice by the size rule; the first ``size`` of the ranking are the members.
        keys: the ranking, at least ``max(size + 10, 50)`` samples where so many have the sign.
        scores: (len(keys),) signed values of the direction, farthest from 0 first.
        in_sample: (len(keys),) whether the search used the sample; the others are extended, see
            :mod:`koda.discrepancy.extension`.
        words: what the members' captions say that the others do not.
        metadata: metadata values that are over-represented among the members.
        name: see :func:`koda.slicing.naming.names_of`.
    """

    sign: Literal["positive", "negative"]
    size: int
    keys: tuple[str, ...]
    scores: FloatArray
    in_sample: BoolArray
    words: tuple[Word, ...] = ()
    metadata: tuple[OverRepresented, ...] = ()
    name: str = ""

    def __repr__(self) -> str:
        return f"Lobe({self.sign}, {self.name!r}: {self.size} samples, {len(self.keys)} ranked)"

    @property
    def members(self) -> tuple[str, ...]:
        """Keys of the samples in the slice."""
        return self.keys[: self.size]


@dataclass(frozen=True)
class Slice:
    """A direction as people see it: two lobes that the target holds apart and the reference mixes.

    Args:
        direction: 1 is the strongest.
        positive, negative: the lobes; the positive one carries more weight.
        similarity: role ("target", "reference") -> mean similarities within, across and to the rest, of the samples
            that the search did not see; of all where it has seen all. It describes;
            :mod:`koda.discrepancy.significance` tests.
        similarity_searched: the same of the samples that the search chose by these kernels; empty where it has seen
            all.
        neighbourhood: rows, of the sorted keys, of the samples around both lobes, see :func:`neighbourhood`.
        name: what the lobes are, in short; see :func:`koda.slicing.naming.names_of`.
    """

    direction: int
    positive: Lobe
    negative: Lobe
    similarity: Mapping[str, Similarity]
    similarity_searched: Mapping[str, Similarity] = field(default_factory=dict)
    neighbourhood: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    name: str = ""

    def __repr__(self) -> str:
        return f"Slice({self.direction}, {self.name!r}: {self.positive!r}, {self.negative!r})"


def slices(
    solution: Solution,
    target: EmbeddingTable,
    reference: EmbeddingTable,
    *,
    keys: Sequence[str] | None = None,
    extension: Extension | None = None,
    floor: int = FLOOR,
    cap: float = CAP,
    listed: int = LISTED,
    n_words: int = 10,
    seed: int = 0,
) -> tuple[Slice, ...]:
    """Return a slice for each direction: both lobes ranked, with similarities, words and metadata.

    A lobe ranks the samples of one sign by |f|. How many of them are its members is said by :func:`lobe_size`: for
    scores that are equal on a group and small elsewhere, the group.

    Args:
        solution: of :func:`koda.find_discrepancies`.
        target, reference: the tables; the metadata comes from the target's, then from the reference's.
        keys: samples to rank; default all that both tables hold. Those of the search keep their x,
            the others are extended (see :func:`extend`).
        extension: of the solution over the tables, where it is at hand.
        floor, cap: a lobe has at least ``floor`` samples, where so many have its sign, and at most the share
            ``cap`` of the samples ranked.
        listed: samples in the ranking at least, where so many have the sign.
        n_words: words and metadata values of each lobe at most.
        seed: of the subsamples that stand for the rest.

    Returns:
        One per direction; () for a solution without directions.

    Raises:
        ConfigError: floor or listed under 1, cap outside (0, 1].
        DataError: what is no solution or no table, a key that a table lacks, or an embedding that cannot be used.

    Source: paper 2606.04180, section 5, ranks by |x_i| at a fixed size; the lobes and the size rule are koda's.
    """
    if floor < 1 or listed < 1 or not 0 < cap <= 1:
        raise ConfigError(f"floor {floor}, listed {listed}, cap {cap}: floor and listed start at 1, cap is in (0, 1].")
    if not hasattr(solution, "directions"):
        raise DataError(f"The solution is {type(solution).__name__}.", "Pass what koda.find_discrepancies returns.")
    for role, table in (("target", target), ("reference", reference)):
        check_table(table, role)
    if not solution.directions:
        return ()
    # Sorted, so that ties are ranked alike whatever the order of the rows.
    ranked = sorted(common_keys(solution, target, reference) if keys is None else set(keys))
    if not ranked:
        raise DataError("There are no samples to rank: the tables share no key.", "Join the tables by key.")
    extension = extension or extension_of(solution, target, reference)
    values = extension.values(ranked)  # (k, m)
    known = set(solution.keys)
    in_sample = np.array([key in known for key in ranked])  # (m,)
    background = _Background(ranked, target, reference, seed)
    compared = [(kernel, kernel.rows(ranked)) for kernel in extension.kernels]
    pieces = []
    for number, f in enumerate(values, start=1):
        orders = _rankings(f)
        inside = {sign: _ended(f, sign, orders[sign], floor, cap) for sign in orders}
        sizes = {sign: len(rows) for sign, rows in inside.items()}
        lobes = {}
        for sign, order in orders.items():
            shown = order[: max(sizes[sign] + _BEYOND, listed)]
            lobes[sign] = Lobe(
                sign="positive" if sign > 0 else "negative",
                size=sizes[sign],
                keys=tuple(ranked[row] for row in shown),
                scores=f[shown],
                in_sample=in_sample[shown],
                words=background.words(inside[sign], n_words),
                metadata=background.over_represented(inside[sign], n_words),
            )
        tables = []
        for among in (~in_sample, in_sample):
            parts = _parts(inside[1], inside[-1], among, np.random.default_rng([seed, number]))
            by_model = [_similarity(kernel, [rows[part] for part in parts]) for kernel, rows in compared]
            tables.append(dict(zip(("target", "reference"), by_model, strict=True)) if among.any() else {})
        heavier, lighter = (background.facts(inside[sign], lobes[sign]) for sign in (1, -1))
        names = names_of(heavier, lighter, solution.config.modality)
        pieces.append(
            Slice(
                direction=number,
                positive=replace(lobes[1], name=names.positive),
                negative=replace(lobes[-1], name=names.negative),
                similarity=tables[0] or tables[1],
                similarity_searched=tables[1] if tables[0] else {},
                neighbourhood=neighbourhood(f, orders),
                name=names.finding,
            )
        )
    return tuple(pieces)


def members(f: FloatArray) -> tuple[IntArray, IntArray]:
    """Return the rows of the positive and of the negative lobe of a direction, farthest from 0 first.

    Args:
        f: (m,) its values on the samples ranked.
    """
    orders = _rankings(f)
    return _ended(f, 1, orders[1]), _ended(f, -1, orders[-1])


def neighbourhood(f: FloatArray, orders: Mapping[int, IntArray] | None = None) -> IntArray:
    """Return the rows of both lobes at a third of their height.

    Two searches, or two directions, that see one difference put the same samples on its sides, though not always the
    same ones at the top: their neighbourhoods overlap where their slices may not.

    Args:
        f: (m,) the values of a direction on the samples ranked.
        orders: sign -> rows of that sign, farthest from 0 first, where they are at hand.
    """
    orders = orders or _rankings(f)
    return np.concatenate([_ended(f, sign, order, height=_WIDE_HEIGHT) for sign, order in orders.items()])


def _rankings(f: FloatArray) -> dict[int, IntArray]:
    """Return sign -> the rows with that sign, farthest from 0 first."""
    return {sign: np.argsort(-sign * f, kind="stable")[: int((sign * f > 0).sum())] for sign in (1, -1)}


def _ended(
    f: FloatArray, sign: int, order: IntArray, floor: int = FLOOR, cap: float = CAP, height: float = _HEIGHT
) -> IntArray:
    """Return the rows of one lobe, which ends where :func:`lobe_size` says."""
    largest = max(floor, int(cap * len(f)))
    leading = max(floor, round(_LEADING * len(f)))
    return order[: lobe_size(sign * f[order], floor, largest, leading, height)]


def lobe_size(scores: FloatArray, floor: int, cap: int, leading: int = FLOOR, height: float = _HEIGHT) -> int:
    """Return how many scores are at least half the mean of the leading ones: the lobe's width at half its height.

    Of a group whose samples carry the direction alike that is the group, whatever its size, and it does not depend on
    how slowly the scores of all others decay. A size that maximises (sum of the first k) / sqrt(k) does: of Gaussian
    noise it takes a quarter of all samples, and of groups of 0.5 to 4 % put into the demo's data lobes of which they
    were 20 to 70 %, beside 70 to 97 % by this rule.

    Args:
        scores: (m,) positive, descending; the size is at most m.
        floor, cap: samples at least, and at most.
        leading: scores whose mean is the height: 0.25 % of the samples ranked, at least the floor.
        height: the part of it at which the lobe ends.
    """
    if len(scores) == 0:
        return 0
    least = height * float(scores[:leading].mean())
    return min(max(min(int((scores >= least).sum()), cap), floor), len(scores))


def _parts(
    positive: np.ndarray[Any, Any], negative: np.ndarray[Any, Any], among: BoolArray, rng: np.random.Generator
) -> list[np.ndarray[Any, Any]]:
    """Return rows of both lobes and of the rest, of those among them, each at most 2000, drawn without replacement."""
    outside = among.copy()
    outside[np.concatenate([positive, negative])] = False
    positive, negative = positive[among[positive]], negative[among[negative]]
    rest = np.flatnonzero(outside)
    return [
        part if len(part) <= _SUBSAMPLE else np.sort(rng.choice(part, size=_SUBSAMPLE, replace=False))
        for part in (positive, negative, rest)
    ]


def _similarity(kernel: SampledKernel, parts: Sequence[IntArray]) -> Similarity:
    """Return mean similarities inside each lobe (without the diagonal), across, and to the rest; None if undefined.

    Args:
        kernel: of one model.
        parts: rows of it, of both lobes and of the rest.
    """
    positive, negative, rest = parts
    return Similarity(
        inside_positive=kernel.mean(positive),
        inside_negative=kernel.mean(negative),
        across=kernel.mean(positive, negative),
        positive_to_rest=kernel.mean(positive, rest),
        negative_to_rest=kernel.mean(negative, rest),
    )


class _Background:
    """Captions and metadata of the samples ranked, counted once for all lobes."""

    def __init__(self, keys: Sequence[str], target: EmbeddingTable, reference: EmbeddingTable, seed: int) -> None:
        self.columns: dict[str, list[Any]] = {}  # name -> value of each key
        for table in (reference, target):  # the target's columns win
            rows = {key: row for row, key in enumerate(table.keys)}
            for name, column in table.metadata.items():
                self.columns[name] = [column[rows[key]] for key in keys]
        n = len(keys)
        if n > _BACKGROUND:
            self.rows = np.sort(np.random.default_rng(seed).choice(n, size=_BACKGROUND, replace=False))
        else:
            self.rows = np.arange(n)
        self.captions = self.columns.get("caption")
        self.counts = TermCounts.of([] if self.captions is None else [self.captions[row] for row in self.rows])
        labels = {name: column for name, column in self.columns.items() if name != "caption"}
        self.labels = {name: label_counts(column, self.rows.tolist()) for name, column in labels.items()}

    def words(self, members: np.ndarray[Any, Any], limit: int) -> tuple[Word, ...]:
        """Return what the captions of the members say that the rest do not."""
        if self.captions is None:
            return ()
        inside = TermCounts.of(self.captions[row] for row in _some(members))
        counted = TermCounts.of(self.captions[row] for row in np.intersect1d(members, self.rows))
        return distinctive_words(inside, self.counts.without(counted), limit=limit)

    def over_represented(self, members: np.ndarray[Any, Any], limit: int) -> tuple[OverRepresented, ...]:
        """Return the metadata values that are commoner among the members than in the rest."""
        counted = np.intersect1d(members, self.rows).tolist()
        outside = {name: counts - label_counts(self.columns[name], counted) for name, counts in self.labels.items()}
        return over_represented(self.columns, _some(members).tolist(), outside, limit=limit)

    def facts(self, members: IntArray, lobe: Lobe) -> LobeFacts:
        """Return what a lobe may be named by."""
        return LobeFacts.of(lobe.size, lobe.words, lobe.metadata, self.columns, _some(members).tolist())


def _some(members: IntArray) -> IntArray:
    """Return members at equal steps of their ranking, as many as stand for the rest; all where there are fewer."""
    if len(members) <= _BACKGROUND:
        return members
    return members[np.linspace(0, len(members) - 1, _BACKGROUND).astype(np.int64)]
