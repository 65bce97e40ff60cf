"""Which samples of a lobe a gallery shows, and that it says why."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from koda.audit.galleries import picked
from koda.slicing.slices import Lobe


def lobe(size: int, ranked: int, held_out: set[int]) -> Lobe:
    keys = tuple(f"k{place:03d}" for place in range(ranked))
    searched = np.array([place not in held_out for place in range(ranked)], dtype=bool)
    return Lobe("positive", size, keys, np.linspace(1, 0.1, ranked), searched)


def test_a_gallery_of_twelve_has_the_first_some_drawn_and_near_misses() -> None:
    even = set(range(0, 60, 2))
    picks = picked(lobe(40, 60, even), 12, [0])
    assert Counter(pick for _, pick in picks) == {"top": 6, "member": 4, "near miss": 2}
    places = [place for place, _ in picks]
    assert places[:6] == [0, 2, 4, 6, 1, 3]  # held out first, a third of those that the search chose
    drawn = places[6:10]
    assert set(drawn) <= even - set(places[:6]) and drawn == sorted(drawn) and max(drawn) < 40
    assert places[10:] == [40, 41]
    assert picked(lobe(40, 60, even), 12, [0]) == picks
    assert len({tuple(picked(lobe(40, 60, even), 12, [seed])) for seed in range(5)}) > 1


@pytest.mark.parametrize(
    ("size", "expected"),
    [(1, {"top": 1}), (6, {"top": 3, "member": 2, "near miss": 1}), (30, {"top": 15, "member": 10, "near miss": 5})],
)
def test_other_sizes_are_shared_out_alike(size: int, expected: dict[str, int]) -> None:
    assert Counter(pick for _, pick in picked(lobe(40, 60, set(range(60))), size, [0])) == expected


@pytest.mark.parametrize("held_out", [set(), {1}, {0, 1, 2}])
@pytest.mark.parametrize(("size", "ranked"), [(0, 0), (1, 1), (3, 3), (7, 8), (9, 30)])
def test_of_a_small_lobe_there_is_what_there_is_and_nothing_twice(size: int, ranked: int, held_out: set[int]) -> None:
    picks = picked(lobe(size, ranked, held_out), 12, [0])
    places = [place for place, _ in picks]
    assert len(set(places)) == len(places)
    assert {place for place, pick in picks if pick != "near miss"} <= set(range(size))
    assert sum(pick != "near miss" for _, pick in picks) == min(size, 10)
    assert [place for place, pick in picks if pick == "near miss"] == list(range(size, min(size + 2, ranked)))
