"""Thumbnails: small JPEGs of the samples that a report shows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from koda.datasets import Pair, decode_image
from koda.errors import DataError
from koda.records import AuditRecord

_OF_NEIGHBOUR, _ON_MAP = 96, 40  # pixels of the longer side, of samples that no gallery shows


def sizes_of(record: AuditRecord, gallery: int) -> dict[str, int]:
    """Return the size of the thumbnail of every sample that a report shows: the largest that it is needed in.

    Args:
        record: of the audit.
        gallery: pixels of the longer side in a gallery.
    """
    looks, drawn = record.looks, record.metrics.map
    sizes = {key: min(gallery, _ON_MAP) for key in (drawn.keys if drawn else ())}
    sizes |= {
        near.key: min(gallery, _OF_NEIGHBOUR) for row in looks.neighbours for near in (*row.baseline, *row.candidate)
    }
    lobes = (lobe for finding in record.findings for lobe in (finding.positive, finding.negative))
    return sizes | {sample.key: gallery for lobe in lobes for sample in lobe.samples}


def make_thumbnails(pairs: Sequence[Pair], size: int) -> dict[str, bytes]:
    """Return key -> JPEG whose longer side is at most `size` pixels; small images are not enlarged.

    A picture that cannot be decoded any more is left out: the report says that it is missing.
    """
    with ThreadPoolExecutor(2) as pool:
        thumbnails = pool.map(lambda pair: _thumbnail(pair, size), pairs)
        return {pair.key: data for pair, data in zip(pairs, thumbnails, strict=True) if data is not None}


def _thumbnail(pair: Pair, size: int) -> bytes | None:
    try:
        image = decode_image(pair)
    except DataError:
        return None
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85, subsampling=0, optimize=True)
    return file.getvalue()
