"""The split: every sample in one part, copies together, and none that was seen among those that confirm."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from koda.audit.split import confirmation_keys


def keys(n: int) -> list[str]:
    return [f"{row:03}" for row in range(n)]


def test_without_copies_it_is_a_draw_of_single_samples() -> None:
    names = keys(50)
    order = np.random.default_rng(3).permutation(50)
    assert confirmation_keys({name: name for name in names}, (), 25, 3) == sorted(names[row] for row in order[:25])
    unseen = names[10:]
    order = np.random.default_rng(3).permutation(40)
    drawn = confirmation_keys({name: name for name in names}, set(names[:10]), 25, 3)
    assert drawn == sorted(unseen[row] for row in order[:25])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=60),
    st.integers(0, 60),
    st.integers(0, 5),
    st.sets(st.integers(0, 59)),
)
def test_copies_are_in_one_part_and_no_copy_of_a_seen_sample_confirms(
    labels: list[int], n: int, seed: int, seen: set[int]
) -> None:
    names = keys(len(labels))
    copies = {name: str(label) for name, label in zip(names, labels, strict=True)}
    before = {name for row, name in enumerate(names) if row in seen}
    drawn = confirmation_keys(copies, before, n, seed)
    assert len(drawn) == len(set(drawn)) <= n
    assert not {copies[key] for key in drawn} & {copies[key] for key in set(names) - set(drawn)}
    assert not {copies[key] for key in drawn} & {copies[key] for key in before}


def test_a_group_larger_than_the_part_stays_with_the_search() -> None:
    copies = dict.fromkeys(keys(30), "one") | {f"x{row}": f"x{row}" for row in range(10)}
    assert len(confirmation_keys(copies, (), 20, 0)) == 10
