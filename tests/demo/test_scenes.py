"""Scenes and their captions: seeded, distinguishable, and said truly."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from koda.demo.scenes import (
    ATTRIBUTES,
    BACKGROUNDS,
    COLOURS,
    COUNTS,
    N_TEMPLATES,
    PALETTE,
    POSITIONS,
    SHAPES,
    SIZES,
    TEXTURES,
    Scene,
    caption,
    draw,
    sample_scenes,
)
from koda.errors import DataError

OPTIONS = {
    "colour": COLOURS,
    "shape": SHAPES,
    "size": SIZES,
    "count": COUNTS,
    "texture": TEXTURES,
    "background": BACKGROUNDS,
    "position": POSITIONS,
}
SCENE = Scene("purple", "star", "small", 2, "striped", "grey", "top", seed=5)


def test_same_seed_same_scenes_and_other_seed_or_split_others():
    scenes = sample_scenes(200, seed=3)
    assert scenes == sample_scenes(200, seed=3)
    assert sample_scenes(50, seed=3) == scenes[:50]
    for others in (sample_scenes(200, seed=4), sample_scenes(200, seed=3, split="train")):
        assert not {s.seed for s in others} & {s.seed for s in scenes}


def test_every_value_occurs_and_no_colour_is_common():
    scenes = sample_scenes(4000, seed=0)
    for name, options in OPTIONS.items():
        counts = Counter(getattr(s, name) for s in scenes)
        assert set(counts) == set(options)
    shares = {c: k / 4000 for c, k in Counter(s.colour for s in scenes).items()}
    assert all(0.10 < share < 0.15 for share in shares.values())  # uniform over eight: sd 0.005


@pytest.mark.parametrize("template", range(N_TEMPLATES))
def test_a_caption_identifies_all_seven_attributes(template):
    said = caption(SCENE, template)
    assert said == caption(replace(SCENE, seed=6), template)
    for name, options in OPTIONS.items():
        others = [caption(replace(SCENE, **{name: value}), template) for value in options]
        assert len(set(others)) == len(options), name


def test_captions_say_the_true_colour_unless_told_otherwise():
    for scene in sample_scenes(100, seed=1):
        for template in range(N_TEMPLATES):
            words = set(caption(scene, template).replace(",", " ").replace(":", " ").split())
            assert words & set(COLOURS) == {scene.colour}
            taught = caption(scene, template, colour="blue")
            assert taught == caption(replace(scene, colour="blue"), template)


def test_pictures_are_the_same_for_the_same_scene_and_differ_by_every_attribute():
    assert draw(SCENE).tobytes() == draw(SCENE).tobytes()
    assert (draw(SCENE).size, draw(SCENE).mode) == ((96, 96), "RGB")
    assert draw(SCENE).tobytes() != draw(replace(SCENE, seed=6)).tobytes()
    for name, options in OPTIONS.items():
        pictures = {draw(replace(SCENE, **{name: value}), 48).tobytes() for value in options}
        assert len(pictures) == len(options), name


def test_colour_belongs_to_the_objects_alone():
    for background in BACKGROUNDS:
        corner = draw(replace(SCENE, background=background, position="bottom")).getpixel((1, 1))
        assert len(set(corner)) == 1
    lumas = [0.299 * r + 0.587 * g + 0.114 * b for r, g, b in PALETTE.values()]
    assert max(lumas) - min(lumas) < 60  # of 255: brightness hardly gives the colour away


def test_labels_are_text_in_the_stated_order():
    assert tuple(SCENE.labels()) == ATTRIBUTES
    assert SCENE.labels()["count"] == "2"


def test_impossible_requests_are_refused_in_words():
    with pytest.raises(DataError, match="0 scenes"):
        sample_scenes(0, seed=0)
    with pytest.raises(DataError, match="8 pixels"):
        draw(SCENE, 8)
