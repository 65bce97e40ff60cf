"""The samples that ask in retrieval for a large audit, and for parts of it."""

from __future__ import annotations

import numpy as np

from koda.metrics.sampling import DRAWN, queries_for_many, queries_of_parts

WHOLE = [f"{row:06d}" for row in range(100_000)]
HALF = WHOLE[::2]
ONE_EACH = dict(zip(WHOLE, WHOLE, strict=True))
# half of the images have one caption, half have nine
MANY_EACH = {key: key if row < 10_000 else f"image {row // 9}" for row, key in enumerate(WHOLE)}


def _whole(images=ONE_EACH, seed=0):
    return queries_for_many(WHOLE, images, len(WHOLE), seed)


def test_of_few_samples_all_ask():
    assert queries_for_many(WHOLE[:50_000], ONE_EACH, 50_000, 0) is None
    assert queries_for_many(WHOLE[:8192], ONE_EACH, 100_000, 0) is None
    assert len(_whole()) == DRAWN


def test_images_have_equal_chances_however_many_captions_they_have():
    drawn = _whole(MANY_EACH)
    assert abs(len(drawn) - DRAWN) < 0.05 * DRAWN
    images = {MANY_EACH[key] for key in drawn}
    assert len(drawn) == sum(MANY_EACH[key] in images for key in WHOLE)  # each with all its captions
    assert abs(sum(image.startswith("image") for image in images) / len(images) - 0.5) < 0.05
    part = WHOLE[5000:55_000]  # 5000 images of one caption, 5000 of nine
    found = queries_of_parts({"part": part}, MANY_EACH, drawn[:500], 0)["part"]
    images = {MANY_EACH[key] for key in found if key not in set(drawn[:500])}
    assert abs(sum(image.startswith("image") for image in images) / len(images) - 0.5) < 0.1


def test_of_a_part_those_ask_first_who_ask_for_the_whole():
    drawn = _whole()
    parts = {"half": HALF, "some": WHOLE[:5000], "few": WHOLE[:100], "none": []}
    found = queries_of_parts(parts, ONE_EACH, drawn, 0)
    assert set(found["half"]) == set(HALF) & set(drawn)  # 4000 or so: more are not asked
    assert len(found["some"]) == 2048
    assert set(WHOLE[:5000]) & set(drawn) <= set(found["some"]) <= set(WHOLE[:5000])
    assert (found["few"], found["none"]) == (tuple(WHOLE[:100]), ())
    again = queries_of_parts({name: keys[::-1] for name, keys in parts.items()}, ONE_EACH, drawn[::-1], 0)
    assert again == found


def test_samples_of_a_part_have_equal_chances_whatever_the_whole_drew():
    part = WHOLE[:4000]
    times = np.zeros(len(part))
    for seed in range(40):
        found = set(queries_of_parts({"part": part}, ONE_EACH, _whole(seed=seed), seed)["part"])
        times += [key in found for key in part]
    assert abs(times[:2000].sum() - times[2000:].sum()) < 5 * np.sqrt(40 * 2048 / 4)
    assert times.max() < 40  # no sample always


def test_however_many_parts_there_are_the_samples_that_ask_stay_few():
    drawn = _whole()
    parts = {name: WHOLE[1000 * name : 1000 * name + 1000] for name in range(60)}
    found = queries_of_parts(parts, ONE_EACH, drawn, 0)
    asked = {*drawn, *(key for members in found.values() for key in members)}
    assert len(asked) < 3 * DRAWN
    assert min(map(len, found.values())) >= 256
