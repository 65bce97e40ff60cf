"""The picture of a pair: its bytes, checked against those that were read before, decoded as the data set says."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from koda.datasets.base import Pair
from koda.datasets.blobs import reason_of
from koda.datasets.pictures import AS_A_VIEWER_SHOWS_IT, Picture, View, open_picture
from koda.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

# by suffix, the commonest first: where a sample has two images the first is taken
IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "jfif", "ppm")


def read_image(pair: Pair) -> bytes:
    """Return the bytes of a pair's image.

    Raises:
        DataError: they cannot be read, or are not those that were read before.
    """
    if pair.image is None:
        raise DataError("there is no image")
    try:
        data = pair.image.read()
    except Exception as error:  # a store behind a URL has errors of its own
        raise DataError(f"the image cannot be read: {reason_of(error)}") from error
    if hashlib.sha256(data).hexdigest() != pair.image_digest:
        raise DataError("the image changed while the audit ran")
    return data


def decode_picture(pair: Pair) -> Picture:
    """Decode a pair's image to RGB as the data set has it shown, and name what was altered.

    Raises:
        DataError: the image cannot be shown, or changed since it was read.
    """
    return open_picture(read_image(pair), pair.view)


def decode_image(pair: Pair) -> Image:
    """Decode a pair's image to RGB as the data set has it shown.

    Raises:
        DataError: the image cannot be shown, or changed since it was read.
    """
    return decode_picture(pair).image


def decode_bytes(data: bytes, view: View = AS_A_VIEWER_SHOWS_IT) -> Image:
    """Decode the bytes of an image to RGB; by default as a viewer shows it, turned as its EXIF says and on white.

    Raises:
        DataError: the image is corrupt, truncated, too large, or nothing that can be shown.
    """
    return open_picture(data, view).image
