"""The samples that stand for parts of a large audit."""

from __future__ import annotations

import numpy as np

from koda.metrics.sampling import DRAWN, drawn_for_many, drawn_of_parts

WHOLE = [f"{row:06d}" for row in range(100_000)]
HALF = WHOLE[::2]


def test_what_is_drawn_of_a_part_is_drawn_for_the_whole_first():
    drawn = drawn_for_many(WHOLE, len(WHOLE), 0)
    parts = {"half": HALF, "some": WHOLE[:5000], "few": WHOLE[:100], "none": []}
    found = drawn_of_parts(parts, drawn, 0)
    assert set(found["half"]) == set(HALF) & set(drawn)  # 4000 or so: more are not asked
    assert len(found["some"]) == 2048
    assert set(WHOLE[:5000]) & set(drawn) <= set(found["some"]) <= set(WHOLE[:5000])
    assert (found["few"], found["none"]) == (tuple(WHOLE[:100]), ())
    assert drawn_of_parts({name: keys[::-1] for name, keys in parts.items()}, drawn[::-1], 0) == found


def test_parts_have_equal_chances_whatever_the_whole_drew():
    part = WHOLE[:4000]
    times = np.zeros(len(part))
    for seed in range(40):
        found = set(drawn_of_parts({"part": part}, drawn_for_many(WHOLE, len(WHOLE), seed), seed)["part"])
        times += [key in found for key in part]
    assert abs(times[:2000].sum() - times[2000:].sum()) < 5 * np.sqrt(40 * 2048 / 4)
    assert times.max() < 40  # no sample always


def test_however_many_parts_there_are_the_samples_that_ask_stay_few():
    drawn = drawn_for_many(WHOLE, len(WHOLE), 0)
    parts = {name: WHOLE[1000 * name : 1000 * name + 1000] for name in range(60)}
    found = drawn_of_parts(parts, drawn, 0)
    asked = {*drawn, *(key for members in found.values() for key in members)}
    assert len(asked) < 3 * DRAWN
    assert min(map(len, found.values())) >= 256
