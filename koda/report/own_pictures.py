"""The pictures of a report as it shows them itself, for one that is to be drawn again around just these."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from koda.records import AuditRecord, Finding, SampleRecord
from koda.report import text
from koda.report.former import JPEG, Reader, jpeg_of, pictures_in
from koda.report.gallery_pages import MOST_BYTES
from koda.report.map_view import known_keys
from koda.report.thumbnails import Gallery, Sheet, in_order

_KNOWN = re.compile(r'<script type="application/json" id="known">(.*?)</script>', re.DOTALL)
_PAGED = ' data-page="gallery-'
_SHEET = "#sheet"
_BEGINNING = b"\xff\xd8"  # of a JPEG


def own_gallery(record: AuditRecord, page: str, beside: Collection[str]) -> Gallery | None:
    """Return the pictures of a `report.html`; None where it does not say whose they are, or where they are no JPEG.

    Args:
        record: of the audit.
        page: the report.
        beside: keys of the samples whose pictures are on pages beside it.
    """
    names = _keys_by_name(record)
    known = _KNOWN.search(page)
    if names is None or known is None:
        return None
    reader = Reader()
    try:
        reader.feed(page)
        reader.close()
        data = json.loads(known[1])
        order = [names[name] for name in data["keys"]]
        neighbours = {order[int(at)]: str(jpeg) for at, jpeg in data["pictures"].items()}
        sheet = _sheet(data.get("sheet"), order, reader.shared.pop(_SHEET[1:], ""))
        frames = [(names[key], source) for key, source in reader.sources if source != _SHEET]
        shared = {key: source[1:] for key, source in frames if source.startswith("#")}
        pictures = {key: reader.shared[source[1:]] if key in shared else source for key, source in frames}
        small = [f"{JPEG}{jpeg}" for jpeg in neighbours.values()]
    except Exception:  # a changed page raises whatever its parsers meet
        return None
    if not all(map(_is_jpeg, (*pictures.values(), *small, *([sheet.href] if sheet else [])))):
        return None  # another address, of which koda writes none
    is_paged = _PAGED in page
    shown = {sample.key for f in record.findings for lobe in (f.positive, f.negative) for sample in lobe.samples}
    elsewhere = frozenset(key for key in beside if key in shown and key not in pictures) if is_paged else frozenset()
    return Gallery(
        pictures=pictures,
        shared=dict(sorted(shared.items(), key=lambda entry: _number(entry[1]))),
        missing=len(shown) - len(pictures) - len(elsewhere),
        total=len(shown),
        neighbours=neighbours,
        sheet=sheet,
        elsewhere=elsewhere,
        is_paged=is_paged,
        is_over=len(page.encode("utf-8", errors="replace")) > MOST_BYTES,
    )


def tells_apart(record: AuditRecord) -> bool:
    """Tell whether a page spells the key of each sample as that of no other, so that its pictures are known by them."""
    return _keys_by_name(record) is not None


def own_thumbnails(record: AuditRecord, page: str) -> dict[str, bytes]:
    """Return sample key -> JPEG of the pictures of a page beside a report."""
    names = _keys_by_name(record) or {}
    try:
        return {names[name]: jpeg for name, jpeg in pictures_in(page).items() if name in names}
    except Exception:  # a changed page raises whatever its parser meets
        return {}


def _sheet(said: Mapping[str, Any] | None, order: list[str], href: str) -> Sheet | None:
    if said is None:
        return None
    columns, tile, tiles = said["columns"], said["tile"], said["tiles"]
    if not isinstance(tiles, dict) or not all(isinstance(n, int) for n in (columns, tile, *tiles.values())):
        raise TypeError("no sheet of koda's")
    rows = -(-len(tiles) // columns)
    placed = {order[int(at)]: number for at, number in tiles.items()}
    return Sheet(href, columns * tile, rows * tile, columns=columns, tile=tile, tiles=placed)


def _is_jpeg(source: str) -> bool:
    return (jpeg_of(source) or b"").startswith(_BEGINNING)


def _keys_by_name(record: AuditRecord) -> dict[str, str] | None:
    """Return the keys of a record's samples by how a page spells them; None where it spells two of them alike."""
    keys = known_keys(record, (sample.key for f in record.findings for sample in _samples(f)))
    names = {text.clean(key): key for key in keys}
    return names if len(names) == len(keys) else None


def _samples(finding: Finding) -> list[SampleRecord]:
    return [sample for lobe in (finding.positive, finding.negative) for sample in in_order(lobe)]


def _number(name: str) -> int:
    digits = name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else 0
