"""Thumbnails of the galleries: checked, set as data addresses, each embedded once."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image

from koda.records import AuditRecord, SampleRecord
from koda.report.headline import shown_samples
from koda.report.text import shorten

CAPTION_LENGTH = 140
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")  # Pillow knows some that start programs
_MAX_SIDE = 1024  # px of a side; a larger picture is no thumbnail
_MAX_BYTES = 3_200_000  # bytes of all pictures; in base64, with the rest, the HTML stays under 5 MB
_LIGHTER_ENCODINGS = ((75, 160), (60, 160), (60, 112), (45, 80))  # each is (quality, px of the longer side)


@dataclass(frozen=True)
class Shot:
    """One sample as a gallery shows it; `href` is None where there is no picture."""

    sample: SampleRecord
    caption: str
    href: str | None
    id: str | None  # that of the shared picture, where the same one is shown more than once


@dataclass(frozen=True)
class Gallery:
    """The pictures of a report, by sample key."""

    pictures: dict[str, str]
    shared: dict[str, str]
    missing: int
    total: int

    def shot(self, sample: SampleRecord) -> Shot:
        """Return a sample with its picture and its shortened caption."""
        return Shot(
            sample, shorten(sample.caption, CAPTION_LENGTH), self.pictures.get(sample.key), self.shared.get(sample.key)
        )


def gallery(record: AuditRecord, thumbnails: Mapping[str, bytes]) -> Gallery:
    """Read the pictures that the galleries of the record need; what is no readable picture counts as missing.

    Where they are too heavy together, they are encoded again, smaller step by step, so that a browser opens the report.
    """
    shown = Counter(s.key for f in record.findings for lobe in (f.positive, f.negative) for s in lobe.samples)
    shown.update(sample.key for sample in shown_samples(record))  # on the cover too
    jpegs = {key: jpeg for key in shown if (jpeg := _jpeg(thumbnails.get(key))) is not None}
    for quality, side in _LIGHTER_ENCODINGS:
        if sum(map(len, jpegs.values())) <= _MAX_BYTES:
            break
        jpegs = {key: min(jpeg, _encode(jpeg, quality, side), key=len) for key, jpeg in jpegs.items()}
    pictures = {key: "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii") for key, jpeg in jpegs.items()}
    several = [key for key in pictures if shown[key] > 1]
    return Gallery(
        pictures=pictures,
        shared={key: f"picture-{number}" for number, key in enumerate(several, 1)},
        missing=len(shown) - len(pictures),
        total=len(shown),
    )


def _jpeg(data: bytes | None) -> bytes | None:
    """Return the bytes of a picture that decodes as a JPEG in RGB or grey, or None.

    A picture in another form is encoded again: archived PDF and browsers differ in what they make of it.
    """
    if not data:
        return None
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if max(image.size) > _MAX_SIDE:
                return None
            image.load()
            if image.format == "JPEG" and image.mode in ("RGB", "L"):
                return data
            return _saved(image, 85)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def _encode(jpeg: bytes, quality: int, side: int) -> bytes:
    with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        return _saved(image, quality)


def _saved(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    image.convert("RGB").save(out, "JPEG", quality=quality, optimize=True)
    return out.getvalue()
