"""What is learnt: the lobes of an audit's findings, and which of the samples train, validate and judge.

The samples of the audit's search are trained on, but for a part that steers the training; those that the search did
not see are never touched before the end. So what is said of them holds for new samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from koda.audit.evaluation import Evaluation
from koda.audit.samples import Samples
from koda.config import AlignmentConfig
from koda.errors import ConfigError, DataError
from koda.records import REST, Subset
from koda.typing import Side

MIN_DISCOVERY, MIN_HELD_OUT = 10, 5  # samples of a finding, both lobes together, that a split needs


@dataclass(frozen=True)
class Group:
    """One lobe of a finding.

    Args:
        subset: which lobe of which finding.
        direction: number of the finding.
        words: what its captions say.
        ranking: keys, the strongest first; more than the members where these are few.
        members: keys of the slice.
    """

    subset: Subset
    direction: int
    words: tuple[str, ...]
    ranking: tuple[str, ...]
    members: frozenset[str]


@dataclass(frozen=True)
class Split:
    """Keys, sorted: what is trained on, what steers the training, and what judges it in the end."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    held_out: tuple[str, ...]


def groups_of(evaluation: Evaluation, side: Side, config: AlignmentConfig) -> tuple[Group, ...]:
    """Return the lobes of the findings of one side that are to be learnt from.

    Raises:
        DataError: none of them is confirmed.
        ConfigError: a direction that the audit did not find.
    """
    findings = {finding.direction: finding for finding in evaluation.findings if finding.side == side}
    if config.findings is not None:
        if unknown := [number for number in config.findings if number not in findings]:
            raise ConfigError(
                f"alignment.findings: there is no finding {side} {unknown[0]}.",
                f"The audit has {side} {', '.join(map(str, sorted(findings))) or 'none'}.",
            )
        chosen = sorted(config.findings)
    else:
        chosen = sorted(number for number, finding in findings.items() if finding.confirmed)
    if not chosen:
        raise DataError(
            f"There is no slice to learn from: the audit confirmed no finding that was {side}.",
            "Nothing needs mending, or alignment.findings names directions that were not confirmed.",
        )
    groups = []
    for number in chosen:
        for lobe in (findings[number].positive, findings[number].negative):
            rows = [
                row
                for row in evaluation.slices
                if (row["side"], row["direction"], row["lobe"]) == (side, number, lobe.sign)
            ]
            rows.sort(key=lambda row: row["rank"])
            if rows:
                groups.append(
                    Group(
                        subset=Subset(side, number, lobe.sign),
                        direction=number,
                        words=tuple(word.text for word in lobe.words[:3]),
                        ranking=tuple(row["key"] for row in rows),
                        members=frozenset(row["key"] for row in rows if row["in_slice"]),
                    )
                )
    return tuple(groups)


def split_samples(samples: Samples, groups: Sequence[Group], config: AlignmentConfig) -> Split:
    """Split the samples: the search's own into training and validation, seeded; the others are held out.

    The slices and the rest are split alike, so that both parts hold both.

    Raises:
        DataError: a finding with too few samples in a part.
    """
    in_slice = members_of(groups)
    rng = np.random.default_rng(config.seed)
    train: list[str] = []
    validation: list[str] = []
    for part in (
        [key for key in samples.discovery if key in in_slice],
        [key for key in samples.discovery if key not in in_slice],
    ):
        order = rng.permutation(len(part))
        n = round(config.validation_share * len(part))
        validation.extend(part[row] for row in order[:n])
        train.extend(part[row] for row in order[n:])
    split = Split(tuple(sorted(train)), tuple(sorted(validation)), tuple(sorted(samples.confirmation)))
    for finding, members in by_finding(groups).items():
        counts = {name: len(members & set(getattr(split, name))) for name in ("train", "validation", "held_out")}
        n_discovery = counts["train"] + counts["validation"]
        if n_discovery < MIN_DISCOVERY or counts["held_out"] < MIN_HELD_OUT or not counts["validation"]:
            raise DataError(
                f"The slice of {finding} is too small to be split: of its {len(members)} samples {counts['train']} "
                f"would be trained on, {counts['validation']} would steer and {counts['held_out']} would judge.",
                f"{MIN_DISCOVERY} of the search and {MIN_HELD_OUT} others are needed: use more data, or name other "
                "directions in alignment.findings.",
            )
    return split


def members_of(groups: Iterable[Group]) -> frozenset[str]:
    """Return the keys that are in any of the groups."""
    return frozenset().union(*(group.members for group in groups))


def by_finding(groups: Iterable[Group]) -> dict[Subset, frozenset[str]]:
    """Return finding -> members of its lobes."""
    members: dict[Subset, frozenset[str]] = {}
    for group in groups:
        finding = group.subset.finding
        members[finding] = members.get(finding, frozenset()) | group.members
    return members


def subsets_of(groups: Iterable[Group], keys: Sequence[str]) -> dict[Subset, list[str]]:
    """Return the members of each group among the keys, and the keys in no group."""
    lobes = list(groups)
    inside = members_of(lobes)
    subsets = {group.subset: [key for key in keys if key in group.members] for group in lobes}
    return {**subsets, REST: [key for key in keys if key not in inside]}


def rankings_within(groups: Sequence[Group], keys: Iterable[str]) -> Mapping[Subset, list[str]]:
    """Return group -> its ranking, of the given keys only."""
    wanted = set(keys)
    return {group.subset: [key for key in group.ranking if key in wanted] for group in groups}
