"""What all made-up records share: names, digests and drawn pictures."""

from __future__ import annotations

import colorsys
import hashlib
import io
import random

from PIL import Image, ImageDraw

BASELINE, CANDIDATE = "ViT-B-32 step 8000", "ViT-B-32 step 9000"
TOPICS = [
    ("lost", "purple", "blue", "umbrella"),
    ("lost", "night", "day", "street sign"),
    ("lost", "two", "three", "cup"),
    ("lost", "striped", "dotted", "shirt"),
    ("gained", "left of", "right of", "bench"),
    ("gained", "drawing", "photo", "dog"),
]


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def picture(seed: int, size: tuple[int, int] = (160, 120), noise: float = 0.0) -> bytes:
    """Draw a soft background with shapes on it; about what a thumbnail of a photograph weighs."""
    rng = random.Random(seed)
    hue = rng.random()
    image = Image.linear_gradient("L").resize(size)
    tint = tuple(int(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.45, 0.9))
    canvas = Image.composite(Image.new("RGB", size, tint), Image.new("RGB", size, (245, 243, 238)), image)
    draw = ImageDraw.Draw(canvas)
    for _ in range(9):
        x, y, r = rng.randrange(size[0]), rng.randrange(size[1]), rng.randrange(6, 30)
        colour = tuple(
            int(255 * c) for c in colorsys.hsv_to_rgb((hue + rng.random() * 0.3) % 1, 0.7, 0.4 + 0.6 * rng.random())
        )
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)((x - r, y - r, x + r, y + r), fill=colour)
    if noise:
        grain = Image.frombytes("L", size, rng.randbytes(size[0] * size[1]))
        canvas = Image.blend(canvas, grain.convert("RGB"), noise)
    out = io.BytesIO()
    canvas.save(out, "JPEG", quality=82)
    return out.getvalue()
