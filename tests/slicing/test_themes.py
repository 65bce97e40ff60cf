"""Findings whose slices overlap are one theme."""

from __future__ import annotations

import pytest

from koda.records import Finding, Subset
from koda.slicing.themes import themes_of
from tests.policy.facts import finding


def found(direction: int, *, side: str = "lost", confirmed: bool | None = True) -> Finding:
    return finding(0.005, side=side, confirmed=confirmed).model_copy(
        update={"direction": direction, "name": f"name {direction}"}
    )


def keys(first: int, last: int) -> frozenset[str]:
    return frozenset(f"k{number}" for number in range(first, last))


def test_findings_that_a_chain_of_overlaps_links_are_one_theme_and_samples_count_once() -> None:
    findings = [found(1), found(2), found(3), found(4)]
    members = {
        Subset("lost", 1): keys(0, 100),
        Subset("lost", 2): keys(50, 150),  # with the first 50 of 150
        Subset("lost", 3): keys(100, 200),  # with the second alone
        Subset("lost", 4): keys(500, 600),
    }
    first, second = themes_of(findings, members)
    assert first.findings == [Subset("lost", 1), Subset("lost", 2), Subset("lost", 3)]
    assert (first.number, first.name, first.size, first.confirmed) == (1, "name 1", 200, True)
    assert (second.number, second.findings, second.size) == (2, [Subset("lost", 4)], 100)


@pytest.mark.parametrize(("common", "themes"), [(33, 2), (34, 1)])
def test_slices_overlap_where_the_jaccard_is_over_a_fifth(common: int, themes: int) -> None:
    members = {Subset("lost", 1): keys(0, 100), Subset("lost", 2): keys(100 - common, 200 - common)}
    assert len(themes_of([found(1), found(2)], members)) == themes


def test_a_confirmed_finding_names_the_theme_before_an_untested_one_and_a_refuted_one_is_in_none() -> None:
    findings = [found(1, confirmed=None), found(2, confirmed=False), found(3)]
    members = {f.subset: keys(0, 50) for f in findings}  # identical slices
    (theme,) = themes_of(findings, members)
    assert theme.findings == [Subset("lost", 3), Subset("lost", 1)]
    assert (theme.name, theme.confirmed, theme.size) == ("name 3", True, 50)
    (untested,) = themes_of(findings[:2], members)
    assert (untested.name, untested.confirmed) == ("name 1", False)


def test_sides_are_apart_and_a_confirmed_theme_comes_first() -> None:
    findings = [found(1, side="gained", confirmed=None), found(2, side="gained"), found(1)]
    members = {
        Subset("gained", 1): keys(0, 50),
        Subset("gained", 2): keys(60, 90),
        Subset("lost", 1): keys(0, 50),
    }
    themes = themes_of(findings, members)
    assert [(theme.side, theme.number, theme.findings[0].direction) for theme in themes] == [
        ("lost", 1, 1),
        ("gained", 1, 2),
        ("gained", 2, 1),
    ]


def test_without_findings_that_stand_there_is_no_theme() -> None:
    assert themes_of([], {}) == []
    assert themes_of([found(1, confirmed=False)], {Subset("lost", 1): keys(0, 9)}) == []


def test_empty_slices_are_themes_of_their_own() -> None:
    members = {Subset("lost", 1): frozenset[str](), Subset("lost", 2): frozenset[str]()}
    assert [theme.size for theme in themes_of([found(1), found(2)], members)] == [0, 0]
