"""Labelled scenes: coloured shapes on plain backgrounds, each with captions that identify it.

A scene is a row of like objects. Seven attributes say all that a caption can say; what is left
(exact place, brightness, angle) comes from the scene's own seed, so that no two pictures are alike.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageChops, ImageDraw

from koda.errors import DataError

RGB = tuple[int, int, int]
Split = Literal["audit", "train"]

# Hues of similar luma (Rec. 601, about 95 to 155): brightness tells a colour-blind model little.
PALETTE: dict[str, RGB] = {
    "red": (235, 45, 45),
    "orange": (240, 105, 0),
    "yellow": (190, 160, 0),
    "green": (20, 150, 60),
    "blue": (20, 105, 245),
    "purple": (150, 45, 205),
    "pink": (250, 85, 160),
    "brown": (150, 95, 45),
}
COLOURS = tuple(PALETTE)
SHAPES = ("circle", "square", "triangle", "star", "cross", "heart")
SIZES = ("small", "large")
COUNTS = (1, 2, 3)
TEXTURES = ("solid", "striped", "hollow")
BACKGROUNDS = ("white", "black", "grey", "chequered")
POSITIONS = ("left", "right", "top", "bottom", "centre")

ATTRIBUTES = ("colour", "shape", "size", "count", "texture", "background", "position")
N_TEMPLATES = 6

_RADIUS = {"small": 0.092, "large": 0.155}  # radii are shares of the side of the picture
_NUMERAL = {1: "one", 2: "two", 3: "three"}
_PLURAL = {"cross": "crosses"}
_FINISH = {"solid": "of one tone", "striped": "with stripes", "hollow": "with a hole"}
_GROUND = {
    "white": "a white background",
    "black": "a black background",
    "grey": "a grey background",
    "chequered": "a chequered board",
}
_PLACE = {
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
    "centre": "in the centre",
}


@dataclass(frozen=True)
class Scene:
    """One picture, in words: the seven attributes, and the seed of everything they leave open."""

    colour: str
    shape: str
    size: str
    count: int
    texture: str
    background: str
    position: str
    seed: int

    def labels(self) -> dict[str, str]:
        """Return the attributes as text, in the order of ``ATTRIBUTES``."""
        return {name: str(getattr(self, name)) for name in ATTRIBUTES}


def sample_scenes(n: int, seed: int, split: Split = "audit") -> list[Scene]:
    """Draw n scenes, every attribute uniform and independent of the others.

    The two splits never share a random stream, whatever the seeds: no picture of an audit has been
    seen in training (the same seven attributes may have been).

    Raises:
        DataError: n is not positive.

    >>> sample_scenes(2, seed=0) == sample_scenes(2, seed=0)
    True
    """
    if n < 1:
        raise DataError(f"{n} scenes were asked for.", "Ask for one or more.")
    rng = random.Random(f"koda demo, {split}, {seed}")
    return [
        Scene(
            colour=_pick(rng, COLOURS),
            shape=_pick(rng, SHAPES),
            size=_pick(rng, SIZES),
            count=COUNTS[int(rng.random() * len(COUNTS))],
            texture=_pick(rng, TEXTURES),
            background=_pick(rng, BACKGROUNDS),
            position=_pick(rng, POSITIONS),
            seed=int(rng.random() * 2**32),
        )
        for _ in range(n)
    ]


def caption(scene: Scene, template: int, colour: str | None = None) -> str:
    """Say a scene in words; all seven attributes are named in every template.

    Args:
        scene: what to describe.
        template: which of the ``N_TEMPLATES`` sentences, modulo their number.
        colour: a word to use for the colour instead of the true one (to teach a model wrongly).

    >>> caption(Scene("red", "star", "small", 2, "striped", "grey", "left", seed=0), 0)
    'two small red striped stars on the left of a grey background'
    """
    hue = scene.colour if colour is None else colour
    number, size, texture = _NUMERAL[scene.count], scene.size, scene.texture
    noun = scene.shape if scene.count == 1 else _PLURAL.get(scene.shape, scene.shape + "s")
    place, ground, finish = _PLACE[scene.position], _GROUND[scene.background], _FINISH[texture]
    sentences = (
        f"{number} {size} {hue} {texture} {noun} {place} of {ground}",
        f"{place}, {number} {size} {texture} {noun}, {hue}, against {ground}",
        f"a picture of {number} {size} {hue} {noun} {finish} {place} on {ground}",
        f"{ground} with {number} {texture} {hue} {noun}, {size}, {place}",
        f"{number} {noun} {finish}, {hue} and {size}, {place}, on {ground}",
        f"{size} {hue} {noun} {finish} on {ground}: {number} {place}",
    )
    return sentences[template % N_TEMPLATES]


def draw(scene: Scene, size: int = 96) -> Image.Image:
    """Draw a scene as an RGB picture of ``size`` pixels a side, the same for the same scene.

    Raises:
        DataError: fewer than 16 pixels, in which the textures cannot be told apart.
    """
    if size < 16:
        raise DataError(f"A scene cannot be drawn at {size} pixels.", "Ask for 16 pixels or more.")
    side = 2 * size  # drawn at twice the size, then averaged: smooth edges
    rng = random.Random(scene.seed)
    picture = _background(scene.background, side, rng)
    shade = 0.82 + 0.28 * rng.random()
    r, g, b = PALETTE[scene.colour]
    ink = (min(255, int(r * shade)), min(255, int(g * shade)), min(255, int(b * shade)))
    radius = _RADIUS[scene.size] * side * (0.96 + 0.08 * rng.random())
    angle = math.radians(12) * (2 * rng.random() - 1)
    body, marks = _stencils(scene.shape, scene.texture, radius, angle)
    dark = (ink[0] * 2 // 5, ink[1] * 2 // 5, ink[2] * 2 // 5)
    for x, y in _centres(scene, side, radius, rng):
        corner = (round(x - body.width / 2), round(y - body.height / 2))
        picture.paste(ink, corner, body)
        if marks is not None:
            picture.paste(dark, corner, marks)
    return picture.reduce(2)


def _pick(rng: random.Random, options: Sequence[str]) -> str:
    # random() alone is the same in every Python version; choice() need not be
    return options[int(rng.random() * len(options))]


def _background(kind: str, side: int, rng: random.Random) -> Image.Image:
    """Return the ground; all are grey tones, so that colour belongs to the objects alone."""
    lift = int(12 * rng.random())
    if kind == "black":
        return Image.new("RGB", (side, side), (lift + 6,) * 3)
    if kind == "grey":
        return Image.new("RGB", (side, side), (lift + 140,) * 3)
    picture = Image.new("RGB", (side, side), (255 - lift,) * 3)
    if kind == "chequered":
        pen = ImageDraw.Draw(picture)
        step = side / 6
        for i in range(6):
            for j in range(i % 2, 6, 2):
                pen.rectangle((j * step, i * step, (j + 1) * step - 1, (i + 1) * step - 1), fill=(190, 190, 190))
    return picture


def _centres(scene: Scene, side: int, radius: float, rng: random.Random) -> list[tuple[float, float]]:
    """Return the middle of each object: a column at the left and right, a row elsewhere."""
    middle = {
        "left": (0.2, 0.5),
        "right": (0.8, 0.5),
        "top": (0.5, 0.2),
        "bottom": (0.5, 0.8),
        "centre": (0.5, 0.5),
    }[scene.position]
    wobble = 0.025 * side
    x = middle[0] * side + wobble * (2 * rng.random() - 1)
    y = middle[1] * side + wobble * (2 * rng.random() - 1)
    upright = scene.position in ("left", "right")
    step = 2.06 * radius
    offsets = [(i - (scene.count - 1) / 2) * step for i in range(scene.count)]
    return [(x, y + d) if upright else (x + d, y) for d in offsets]


def _polygon(shape: str, angle: float) -> list[tuple[float, float]]:
    """Return the corners of a shape in the unit disc."""
    if shape == "star":
        corners = [(1.0 if k % 2 == 0 else 0.42, math.pi * k / 5) for k in range(10)]
    elif shape == "triangle":
        corners = [(1.0, 2 * math.pi * k / 3) for k in range(3)]
    elif shape == "square":
        corners = [(1.0, math.pi / 4 + math.pi * k / 2) for k in range(4)]
    else:  # cross: each arm 0.56 wide
        inner, outer = 0.28 * math.sqrt(2), math.hypot(0.28, 0.94)
        tilt = math.atan2(0.28, 0.94)
        corners = []
        for k in range(4):
            arm = math.pi * k / 2
            corners += [(outer, arm - tilt), (outer, arm + tilt), (inner, arm + math.pi / 4)]
    return [(rho * math.sin(phi + angle), -rho * math.cos(phi + angle)) for rho, phi in corners]


def _silhouette(shape: str, radius: float, angle: float, box: int) -> Image.Image:
    """Return the mask (L, box x box) of a filled shape about the middle of the box."""
    mask = Image.new("L", (box, box), 0)
    pen = ImageDraw.Draw(mask)
    c = (box - 1) / 2

    def disc(x: float, y: float, r: float) -> None:
        pen.ellipse((c + (x - r) * radius, c + (y - r) * radius, c + (x + r) * radius, c + (y + r) * radius), fill=255)

    if shape == "circle":
        disc(0, 0, 0.9)
    elif shape == "heart":
        disc(-0.42, -0.3, 0.47)
        disc(0.42, -0.3, 0.47)
        pen.polygon([(c + x * radius, c + y * radius) for x, y in ((-0.84, -0.1), (0.84, -0.1), (0, 0.95))], fill=255)
        pen.polygon([(c + x * radius, c + y * radius) for x, y in ((-0.45, -0.35), (0.45, -0.35), (0, 0.3))], fill=255)
    else:
        pen.polygon([(c + x * radius, c + y * radius) for x, y in _polygon(shape, angle)], fill=255)
    return mask


def _stencils(shape: str, texture: str, radius: float, angle: float) -> tuple[Image.Image, Image.Image | None]:
    """Return the masks of one object: its body, and the darker marks on it, if any."""
    box = 2 * math.ceil(radius) + 3
    body = _silhouette(shape, radius, angle, box)
    if texture == "solid":
        return body, None
    if texture == "hollow":
        return ImageChops.subtract(body, _silhouette(shape, 0.58 * radius, angle, box)), None
    marks = Image.new("L", (box, box), 0)
    pen = ImageDraw.Draw(marks)
    c = (box - 1) / 2
    step = radius * 0.56
    for i in range(-3, 4):
        x = c + i * step
        pen.line((x + box / 4, 0, x - box / 4, box), fill=255, width=max(2, round(0.26 * radius)))
    return body, ImageChops.multiply(body, marks)
