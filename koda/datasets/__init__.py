"""Image-caption pairs from wherever a team keeps them.

A row that cannot be used becomes a recorded :class:`Rejection`; the pairs and the rejections add up to the
rows of the source.
"""

from __future__ import annotations

from koda.datasets.base import Pair, PairDataset, Rejection, Row, check_rejections, count_kinds
from koda.datasets.blobs import Blob
from koda.datasets.digests import ImageDigests
from koda.datasets.images import decode_bytes, decode_image, decode_picture, read_image
from koda.datasets.reading import format_of, read_dataset
from koda.datasets.subsample import subsample

__all__ = [
    "Blob",
    "ImageDigests",
    "Pair",
    "PairDataset",
    "Rejection",
    "Row",
    "check_rejections",
    "count_kinds",
    "decode_bytes",
    "decode_image",
    "decode_picture",
    "format_of",
    "read_dataset",
    "read_image",
    "subsample",
]
