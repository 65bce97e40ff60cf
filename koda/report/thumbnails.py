"""Thumbnails: those of the galleries as data addresses, of neighbours as base64, of the map as one sheet.

Everything together has to leave the HTML under 5 MB. Pictures that are too heavy for that are compressed further. Where
they would have to get smaller too, a page of each finding has them as they are (:mod:`koda.report.gallery_pages`), and
the HTML shows the first of each lobe; the PDF, which has no pages beside it, shows all of them, smaller step by step.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from PIL import Image

from koda.records import AuditRecord, Finding, LobeRecord, SampleRecord
from koda.report.headline import shown_samples
from koda.report.text import shorten

CAPTION_LENGTH = 140
_FULL_LENGTH = 1000  # of a caption that can be opened
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")  # Pillow knows some that start programs
_MAX_SIDE = 1024  # px of a side; a larger picture is no thumbnail
_MOST_BYTES = 3_000_000  # of all pictures; in base64, with the rest, the HTML stays under 5 MB
PICKS = ("top", "member", "near miss")  #: what samples of a gallery were chosen as, in the order in which they stand
_TILE = 40  # px of a side of a picture in the sheet of the map
_SHEET_COLUMNS = 32
_NEIGHBOUR = 96  # px of the longer side
_ON_THE_PAGE = (60, 112)  # quality and px of what is shown where a page of its own has the picture as it is
_WIDTH = 160  # px of the longer side of a picture that is large enough to be looked at
_LIGHTER_ENCODINGS = ((75, _WIDTH), (60, _WIDTH), (60, 112), (45, 80))  # each is (quality, px of the longer side)


@dataclass(frozen=True)
class Shot:
    """One sample as a gallery shows it; `href` is None where there is no picture."""

    sample: SampleRecord
    caption: str
    full: str
    href: str | None
    id: str | None  # that of the shared picture, where the same one is shown more than once
    is_elsewhere: bool = False  # on the page of its finding


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
    """The pictures of a report, by sample key.

    Args:
        pictures: key -> data address.
        shared: key -> id, of those shown more than once.
        missing, total: samples in galleries whose picture cannot be read, and all of them.
        neighbours: key -> base64 of a small picture, of neighbours that no gallery shows.
        sheet: of the map.
        elsewhere: samples whose picture is on the page of their finding alone.
        is_paged: whether there is a page of each finding with its pictures as they are.
        is_whole: whether there is room for all that is asked for.
        is_over: whether the report is over 5 MB with these, few as they are.
    """

    pictures: dict[str, str]
    shared: dict[str, str]
    missing: int
    total: int
    neighbours: dict[str, str] = field(default_factory=dict)
    sheet: Sheet | None = None
    elsewhere: frozenset[str] = frozenset()
    is_paged: bool = False
    is_whole: bool = True
    is_over: bool = False

    def shot(self, sample: SampleRecord) -> Shot:
        """Return a sample with its picture and its caption, shortened for paper and for the screen."""
        return Shot(
            sample,
            shorten(sample.caption, CAPTION_LENGTH),
            shorten(sample.caption, _FULL_LENGTH),
            self.pictures.get(sample.key),
            self.shared.get(sample.key),
            sample.key in self.elsewhere,
        )


def gallery(
    record: AuditRecord,
    thumbnails: Mapping[str, bytes],
    *,
    most: int = _MOST_BYTES,
    first: int | None = None,
    shrink: bool = False,
) -> Gallery:
    """Read the pictures that the record needs; what is no readable picture of a gallery counts as missing.

    Args:
        record: of the audit.
        thumbnails: sample key -> JPEG bytes.
        most: bytes of all pictures.
        first: pictures of each lobe, the others being on pages of their own; None: all of them.
        shrink: whether pictures that are too heavy also get smaller than 160 px.
    """
    shown = Counter(s.key for f in record.findings for lobe in (f.positive, f.negative) for s in lobe.samples)
    cover = [sample.key for sample in shown_samples(record)]
    shown.update(cover)
    known = {key: jpeg for key in shown if (jpeg := _jpeg(thumbnails.get(key))) is not None}
    jpegs = known
    if first is None:
        for quality, side in _LIGHTER_ENCODINGS:
            if sum(map(len, jpegs.values())) <= most or (side < _WIDTH and not shrink):
                break
            jpegs = {key: min(jpeg, _encode(jpeg, quality, side), key=len) for key, jpeg in jpegs.items()}
    else:
        lobes = [lobe for f in record.findings for lobe in (f.positive, f.negative)]
        kept = dict.fromkeys([*cover, *(s.key for lobe in lobes for s in in_order(lobe)[:first])])
        jpegs = {key: min(known[key], _encode(known[key], *_ON_THE_PAGE), key=len) for key in kept if key in known}
    room = most - sum(map(len, jpegs.values()))
    is_whole = room >= 0
    sheet = _sheet(record, thumbnails, jpegs)
    if sheet is not None and len(sheet.href) * 3 // 4 > room:
        sheet, is_whole = None, False
    room -= len(sheet.href) * 3 // 4 if sheet else 0
    beside = {key: base64.b64encode(jpeg).decode("ascii") for key, jpeg in _beside(record, thumbnails, jpegs).items()}
    if sum(map(len, beside.values())) * 3 // 4 > room:
        beside, is_whole = {}, False
    pictures = {key: _address(jpeg) for key, jpeg in jpegs.items()}
    several = [key for key in pictures if shown[key] > 1]
    return Gallery(
        pictures=pictures,
        shared={key: f"picture-{number}" for number, key in enumerate(several, 1)},
        missing=len(shown) - len(known),
        total=len(shown),
        neighbours=beside,
        sheet=sheet,
        elsewhere=frozenset(known) - frozenset(pictures),
        is_paged=first is not None,
        is_whole=is_whole,
    )


def unshrunk(record: AuditRecord, thumbnails: Mapping[str, bytes], finding: Finding) -> Gallery:
    """Read the pictures of one finding as they are, with those of the neighbours of its samples."""
    shown = [sample.key for lobe in (finding.positive, finding.negative) for sample in lobe.samples]
    near = [n.key for s in record.looks.neighbours if s.key in set(shown) for n in (*s.baseline, *s.candidate)]
    known = {key: _address(jpeg) for key in (*shown, *near) if (jpeg := _jpeg(thumbnails.get(key))) is not None}
    return Gallery(pictures=known, shared={}, missing=0, total=len(shown))


def in_order(lobe: LobeRecord) -> list[SampleRecord]:
    """Return the samples of a lobe as its gallery has them: by what they were chosen as, held-out ones first."""
    return sorted(lobe.samples, key=lambda sample: (PICKS.index(sample.pick), sample.split != "confirmation"))


def _beside(record: AuditRecord, thumbnails: Mapping[str, bytes], jpegs: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return small pictures of neighbours that no gallery shows."""
    near = {n.key for s in record.looks.neighbours for n in (*s.baseline, *s.candidate)} - set(jpegs)
    whole = {key: jpeg for key in sorted(near) if (jpeg := _jpeg(thumbnails.get(key))) is not None}
    return {key: min(jpeg, _encode(jpeg, 70, _NEIGHBOUR), key=len) for key, jpeg in whole.items()}


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
