"""What an alignment mended, in one sentence that the terminal, the JSON answer and the report share."""

from __future__ import annotations

import pytest

from koda.records import Estimate, Mending, Retest, Subset, mending_of
from tests.report.factory_alignment import aligned


def retest(number: int, before: float | None, after: float | None) -> Retest:
    value = Estimate(value=0.004)
    return Retest(finding=Subset("lost", number), before=value, after=value, p_before=before, p_after=after)


def mending(*pairs: tuple[float | None, float | None], alpha: float | None = 0.05) -> Mending:
    retests = [retest(number, *pair) for number, pair in enumerate(pairs, start=1)]
    return mending_of(aligned(retests=retests, alpha=alpha), 0.05)


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        ([(1e-9, 0.0017)] * 3, "nothing mended: 3 of 3 findings are still confirmed on held-out samples"),
        ([(1e-9, 0.0017)], "nothing mended: 1 of 1 finding is still confirmed on held-out samples"),
        (
            [(1e-9, 0.6), (1e-9, 0.0017), (1e-9, 1.0)],
            "2 of 3 findings are no longer confirmed on held-out samples; 1 still is",
        ),
        ([(1e-9, 0.6), (1e-9, 1.0)], "2 of 2 findings are no longer confirmed on held-out samples"),
        (
            [(None, None)] * 2,
            "not shown to be mended: 0 of 2 findings could be tested again, since too few samples are held out",
        ),
        (
            [(1e-9, 0.6), (None, None)],
            "1 of 2 findings is no longer confirmed on held-out samples; 1 could not be tested again",
        ),
        ([(0.3, 0.6)], "nothing mended: no finding was confirmed on held-out samples, before or after"),
        ([], "nothing mended: no finding was confirmed on held-out samples, before or after"),
    ],
)
def test_the_sentence(pairs: list[tuple[float | None, float | None]], sentence: str) -> None:
    assert mending(*pairs).sentence == sentence


def test_what_was_not_confirmed_before_is_not_mended_but_counts_if_it_is_now() -> None:
    parts = mending((0.3, 0.6), (0.3, 0.01), (0.01, 0.05))
    names = {name: [str(item.finding) for item in retests] for name, retests in vars(parts).items()}
    assert names == {
        "mended": ["lost 3"],
        "still_confirmed": ["lost 2"],
        "untested": [],
        "not_confirmed": ["lost 1"],
    }


def test_the_level_is_that_of_the_record_where_it_states_one() -> None:
    assert mending((1e-9, 0.03), alpha=0.01).mended
    assert mending((1e-9, 0.03), alpha=None).still_confirmed
