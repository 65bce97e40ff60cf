"""Thumbnails: those of the galleries as data addresses, of neighbours as base64, of the map as one sheet.

Everything together has to leave the HTML under 5 MB. Where the pictures are too heavy, those of the galleries are
encoded again, smaller step by step; where too little room is left, neighbours go without, and the map where there is
none for its sheet.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from PIL import Image

from koda.records import AuditRecord, SampleRecord
from koda.report.headline import shown_samples
from koda.report.text import shorten

CAPTION_LENGTH = 140
_FULL_LENGTH = 1000  # of a caption that can be opened
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")  # Pillow knows some that start programs
_MAX_SIDE = 1024  # px of a side; a larger picture is no thumbnail
_MAX_BYTES = 3_000_000  # bytes of all pictures; in base64, with the rest, the HTML stays under 5 MB
_TILE = 40  # px of a side of a picture in the sheet of the map
_SHEET_COLUMNS = 32
_NEIGHBOUR = 96  # px of the longer side
_LIGHTER_ENCODINGS = ((75, 160), (60, 160), (60, 112), (45, 80))  # each is (quality, px of the longer side)


@dataclass(frozen=True)
class Shot:
    """One sample as a gallery shows it; `href` is None where there is no picture."""

    sample: SampleRecord
    caption: str
    full: str
    href: str | None
    id: str | None  # that of the shared picture, where the same one is shown more than once


@dataclass(frozen=True)
class Sheet:
    """The pictures of the map's samples as one; `tiles` is key -> its number, row by row."""

    href: str
    width: int
    height: int
    columns: int
    tile: int
    tiles: dict[str, int]


@dataclass(frozen=True)
class Gallery:
    """The pictures of a report, by sample key."""

    pictures: dict[str, str]
    shared: dict[str, str]
    missing: int
    total: int
    neighbours: dict[str, str] = field(default_factory=dict)
    sheet: Sheet | None = None
    notes: list[str] = field(default_factory=list)

    def shot(self, sample: SampleRecord) -> Shot:
        """Return a sample with its picture and its caption, shortened for paper and for the screen."""
        return Shot(
            sample,
            shorten(sample.caption, CAPTION_LENGTH),
            shorten(sample.caption, _FULL_LENGTH),
            self.pictures.get(sample.key),
            self.shared.get(sample.key),
        )


def gallery(record: AuditRecord, thumbnails: Mapping[str, bytes]) -> Gallery:
    """Read the pictures that the record needs; what is no readable picture of a gallery counts as missing."""
    shown = Counter(s.key for f in record.findings for lobe in (f.positive, f.negative) for s in lobe.samples)
    shown.update(sample.key for sample in shown_samples(record))  # on the cover too
    jpegs = {key: jpeg for key in shown if (jpeg := _jpeg(thumbnails.get(key))) is not None}
    for quality, side in _LIGHTER_ENCODINGS:
        if sum(map(len, jpegs.values())) <= _MAX_BYTES:
            break
        jpegs = {key: min(jpeg, _encode(jpeg, quality, side), key=len) for key, jpeg in jpegs.items()}
    room = _MAX_BYTES - sum(map(len, jpegs.values()))
    notes = []
    sheet = _sheet(record, thumbnails, jpegs)
    if sheet is not None and len(sheet.href) * 3 // 4 > room:
        sheet = None
        notes.append("The samples of the map have no pictures in the HTML: the file would be over 5 MB.")
    room -= len(sheet.href) * 3 // 4 if sheet else 0
    near = {n.key for s in record.looks.neighbours for n in (*s.baseline, *s.candidate)} - set(jpegs)
    beside = {key: jpeg for key in sorted(near) if (jpeg := _jpeg(thumbnails.get(key))) is not None}
    beside = {key: min(jpeg, _encode(jpeg, 70, _NEIGHBOUR), key=len) for key, jpeg in beside.items()}
    if sum(map(len, beside.values())) > room:
        beside = {}
        notes.append("Neighbours outside the galleries have no pictures in the HTML: the file would be over 5 MB.")
    pictures = {key: _address(jpeg) for key, jpeg in jpegs.items()}
    several = [key for key in pictures if shown[key] > 1]
    return Gallery(
        pictures=pictures,
        shared={key: f"picture-{number}" for number, key in enumerate(several, 1)},
        missing=len(shown) - len(pictures),
        total=len(shown),
        neighbours={key: base64.b64encode(jpeg).decode("ascii") for key, jpeg in beside.items()},
        sheet=sheet,
        notes=notes,
    )


def _sheet(record: AuditRecord, thumbnails: Mapping[str, bytes], jpegs: Mapping[str, bytes]) -> Sheet | None:
    """Set the pictures of the map's samples that no gallery shows side by side in one."""
    points = record.metrics.map
    wanted = [key for key in dict.fromkeys(points.keys if points else []) if key not in jpegs]
    small = {key: jpeg for key in wanted if (jpeg := _jpeg(thumbnails.get(key))) is not None}
    if not small:
        return None
    columns = min(_SHEET_COLUMNS, len(small))
    rows = -(-len(small) // columns)
    sheet = Image.new("RGB", (columns * _TILE, rows * _TILE), (128, 128, 128))
    for number, jpeg in enumerate(small.values()):
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
            picture = image.convert("RGB")
            picture.thumbnail((_TILE, _TILE), Image.Resampling.LANCZOS)
        y, x = divmod(number, columns)
        free = ((_TILE - picture.width) // 2, (_TILE - picture.height) // 2)
        sheet.paste(picture, (x * _TILE + free[0], y * _TILE + free[1]))
    tiles = {key: number for number, key in enumerate(small)}
    return Sheet(_address(_saved(sheet, 65)), *sheet.size, columns=columns, tile=_TILE, tiles=tiles)


def _address(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


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
