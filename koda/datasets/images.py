"""Decoding: the bytes of a pair to an RGB picture, or the reason why not."""

from __future__ import annotations

import hashlib
import io
import warnings
from typing import TYPE_CHECKING

from koda.datasets.base import Pair
from koda.datasets.blobs import reason_of
from koda.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

# by suffix, the commonest first: where a sample has two images the first is taken
IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "jfif", "ppm")
MAX_PIXELS = 178_956_970  # Pillow's own limit for a decompression bomb


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


def decode_image(pair: Pair) -> Image:
    """Decode a pair's image to RGB.

    Raises:
        DataError: the image is corrupt, truncated, too large, or changed since it was read.
    """
    return decode_bytes(read_image(pair))


def decode_bytes(data: bytes) -> Image:
    """Decode the bytes of an image to RGB.

    Raises:
        DataError: the image is corrupt, truncated or too large.
    """
    from PIL import Image as PillowImage
    from PIL import ImageFile, UnidentifiedImageError

    # WeasyPrint, once imported, has Pillow fill up truncated images in silence for the whole process
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PillowImage.open(io.BytesIO(data)) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DataError(f"the image is too large: {image.width} x {image.height} pixels")
                image.load()
                return image.convert("RGB")
    except PillowImage.DecompressionBombError as error:
        raise DataError("the image is too large: it looks like a decompression bomb") from error
    except UnidentifiedImageError as error:
        raise DataError("the image cannot be decoded: not an image file that Pillow knows") from error
    except DataError:
        raise
    except Exception as error:  # the decoders of damaged files raise whatever they stumble over
        raise DataError(f"the image cannot be decoded: {reason_of(error)}") from error
