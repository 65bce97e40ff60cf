"""Themes: findings that are one difference, seen along several directions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from koda.metrics.overlap import jaccard
from koda.records import Finding, Subset, Theme
from koda.typing import SIDES, IntArray

LEAST_OVERLAP = 0.2  # of two slices, over which they are of one theme


def themes_of(
    findings: Sequence[Finding],
    members: Mapping[Subset, AbstractSet[str]],
    neighbourhoods: Mapping[Subset, IntArray] | None = None,
) -> list[Theme]:
    """Group the findings of each side whose slices overlap; lost before gained, the strongest theme first.

    Directions are orthogonal, so that one difference takes several of them. Two findings are of one theme where the
    Jaccard overlap of their neighbourhoods (:func:`koda.slicing.slices.neighbourhood`) is over 0.2, or where others
    link them (single linkage). A finding that the held-out test refuted belongs to none. Confirmed findings are
    stronger than untested ones, then the first direction is; the strongest names its theme.

    Args:
        findings: of both sides.
        members: of each finding, the keys of both lobes together; they are what is counted.
        neighbourhoods: of each finding, the rows whose overlap counts; default the members.
    """
    around = members if neighbourhoods is None else neighbourhoods
    themes: list[Theme] = []
    for side in SIDES:
        standing = [finding for finding in findings if finding.side == side and finding.confirmed is not False]
        standing.sort(key=lambda finding: (finding.confirmed is not True, finding.direction))
        for number, group in enumerate(_linked(standing, around), start=1):
            strongest = group[0]
            themes.append(
                Theme(
                    side=side,
                    number=number,
                    findings=[finding.subset for finding in group],
                    name=strongest.title,
                    size=len(frozenset().union(*(members[finding.subset] for finding in group))),
                    confirmed=strongest.confirmed is True,
                )
            )
    return themes


def _linked(findings: Sequence[Finding], members: Mapping[Subset, AbstractSet[str] | IntArray]) -> list[list[Finding]]:
    """Group findings by single linkage; groups, and findings within them, keep their order."""
    of = [members[finding.subset] for finding in findings]
    sets = [set(part.tolist()) if isinstance(part, np.ndarray) else part for part in of]
    group_of = list(range(len(findings)))
    for i, j in itertools.combinations(group_of, 2):
        if jaccard(sets[i], sets[j]) > LEAST_OVERLAP:
            joined, left = group_of[i], group_of[j]
            group_of = [joined if group == left else group for group in group_of]
    groups: dict[int, list[Finding]] = {}
    for finding, group in zip(findings, group_of, strict=True):
        groups.setdefault(group, []).append(finding)
    return list(groups.values())
