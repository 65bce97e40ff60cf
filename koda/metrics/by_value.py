"""Retrieval and zero-shot accuracy by metadata value: a category that a model lost is one row."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from koda.datasets.text import category_of
from koda.metrics.intervals import paired_difference, sign_test
from koda.metrics.retrieval import Recall, recall_difference
from koda.metrics.zero_shot import ClassRanks
from koda.records import Estimate, PairedShares, ValueDifference
from koda.statistics import holm
from koda.typing import RETRIEVAL_DIRECTIONS, BoolArray, IntArray, Role

MIN_VALUES, MAX_VALUES = 2, 50  # that make a column categorical
MIN_QUERIES = 30  # held-out images of a value: with fewer, an interval covers nearly everything
MAX_GROUPS = 200  # values measured, over all columns: the work and the record stay small, and Holm's rule can reject
_NOT_CATEGORIES = ("caption",)


@dataclass(frozen=True)
class Group:
    """The held-out samples that have one value in a metadata column."""

    column: str
    value: str
    keys: tuple[str, ...]
    n_images: int


@dataclass(frozen=True)
class Groups:
    """The groups that are measured.

    Args:
        kept: the most images first.
        left_out: how many more there are than :data:`MAX_GROUPS`.
        unmeasured: column -> why it has no group, in words.
    """

    kept: list[Group]
    left_out: int
    unmeasured: dict[str, str]


def groups_of(
    columns: Mapping[str, Sequence[Any]],
    keys: Sequence[str],
    images: Sequence[str],
    held_out: Collection[str],
    called: str = "held-out",
) -> Groups:
    """Return the values of categorical columns that enough held-out images have.

    A column is categorical if all samples together have 2 to 50 values in it; absent ones (None, NaN, blank) are none.

    Args:
        columns: metadata, a value for each sample; ``caption`` is never a category.
        keys: (n,) the samples.
        images: (n,) what tells their images apart.
        held_out: the samples that may ask.
        called: what their images are in words.
    """
    seen = set(held_out)
    found: list[Group] = []
    unmeasured = {}
    for column, values in columns.items():
        if column in _NOT_CATEGORIES:
            continue
        labels = [category_of(value) for value in values]
        n_values = len(set(labels) - {None})
        if not MIN_VALUES <= n_values <= MAX_VALUES:
            has = f"it has {n_values} value{'s' * (n_values != 1)}"
            unmeasured[column] = f"{has}, and a category has {MIN_VALUES} to {MAX_VALUES}"
            continue
        rows: dict[str, list[int]] = {}
        for row, label in enumerate(labels):
            if label is not None and keys[row] in seen:
                rows.setdefault(label, []).append(row)
        counted = {label: len({images[row] for row in of_value}) for label, of_value in rows.items()}
        large = [label for label, n in counted.items() if n >= MIN_QUERIES]
        if not large:
            unmeasured[column] = f"no value of it has {MIN_QUERIES} {called} images"
        found += [Group(column, label, tuple(keys[row] for row in rows[label]), counted[label]) for label in large]
    found.sort(key=lambda group: (-group.n_images, group.column, group.value))
    kept, rest = found[:MAX_GROUPS], found[MAX_GROUPS:]
    measured = {group.column for group in kept}
    for column in dict.fromkeys(group.column for group in rest if group.column not in measured):
        unmeasured[column] = f"its values are smaller than the {MAX_GROUPS} that were measured"
    return Groups(kept, len(rest), unmeasured)


def by_value(
    groups: Sequence[Group],
    recalls: Mapping[Role, Recall],
    ranks: Mapping[Role, ClassRanks],
    *,
    seed: int = 0,
) -> list[ValueDifference]:
    """Return the paired differences, candidate less baseline, of each group, with intervals and tests.

    Tests are :func:`koda.metrics.intervals.sign_test` on images, adjusted by Holm's rule over all groups, depths,
    retrieval directions and zero-shot together.

    Args:
        groups: held-out samples with one value each.
        recalls: retrieval of all samples; nothing is ranked again.
        ranks: zero-shot of all labelled samples.
        seed: of the bootstrap.

    Returns:
        One for each group of which anything could be measured under both models, in their order. Zero-shot accuracy
        is left out where fewer than 30 images of a group have a label.
    """
    measured = [(group, _retrieval(group, recalls, seed), _zero_shot(group, ranks, seed)) for group in groups]
    every = [pair for _, retrieval, top in measured for pair in (*retrieval.values(), *([top] if top else []))]
    adjusted = iter(holm([pair.p_value for pair in every]))

    def tested(pair: PairedShares) -> PairedShares:
        return pair.model_copy(update={"p_value": next(adjusted)})

    differences = []
    for group, retrieval, top in measured:
        if not retrieval and top is None:
            continue
        parts: dict[str, dict[str, PairedShares]] = {name: {} for name in RETRIEVAL_DIRECTIONS}
        for (name, depth), pair in retrieval.items():
            parts[name][depth] = tested(pair)
        differences.append(
            ValueDifference(
                column=group.column,
                value=group.value,
                n=len(group.keys),
                n_images=group.n_images,
                **parts,
                zero_shot=None if top is None else tested(top),
            )
        )
    return differences


def _retrieval(group: Group, recalls: Mapping[Role, Recall], seed: int) -> dict[tuple[str, str], PairedShares]:
    """Return (direction, "R@k") -> recall of the group under both models; nothing where one cannot retrieve."""
    if len(recalls) < 2:
        return {}
    new, old = (recalls[role].among(group.keys) for role in ("candidate", "baseline"))
    pairs = {}
    for name, differences in recall_difference(new, old, seed=seed).items():
        newer, older = getattr(new, name), getattr(old, name)
        for k in new.ks:
            pairs[name, f"R@{k}"] = _paired(newer.hits(k), older.hits(k), newer.images, differences[f"R@{k}"])
    return pairs


def _zero_shot(group: Group, ranks: Mapping[Role, ClassRanks], seed: int) -> PairedShares | None:
    """Return the top-1 accuracy of the labelled samples of the group under both models, where there are enough."""
    if len(ranks) < 2:
        return None
    new, old = (ranks[role].among(group.keys) for role in ("candidate", "baseline"))
    if len(set(new.images.tolist())) < MIN_QUERIES:
        return None
    newer, older = new.hits(1), old.hits(1)
    return _paired(newer, older, new.images, paired_difference(newer, older, new.images, seed=seed))


def _paired(candidate: BoolArray, baseline: BoolArray, images: IntArray, difference: Estimate) -> PairedShares:
    """Put both shares and the p-value, not yet adjusted, beside their difference."""
    return PairedShares(
        baseline=float(baseline.mean()),
        candidate=float(candidate.mean()),
        difference=difference,
        p_value=sign_test(candidate, baseline, images),
    )
