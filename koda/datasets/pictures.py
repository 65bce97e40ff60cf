"""From the bytes of an image file to an RGB picture: what is scaled, composed or turned, and what is refused.

open_clip trains on ``PIL.Image.open(...).convert("RGB")``. Where that keeps the picture, the same is done here. Where
it loses it (16 bits are clipped to white, fractions are cut to black, what is transparent shows whatever colour lies
under it) the picture is scaled or composed, and the change is named so that it can be counted.
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from koda.datasets.blobs import reason_of
from koda.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 178_956_970  # Pillow's own limit for a decompression bomb
# Pillow knows more: EPS starts Ghostscript, others take any bytes for a picture or hold none. MPO comes with JPEG.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM", "QOI", "ICO")

SCALED_16_BIT = "16 bit scaled"
SCALED_FLOAT = "float scaled"
COMPOSED = "alpha composed"
DROPPED = "alpha dropped"
TURNED = "turned by EXIF"
NOT_TURNED = "EXIF orientation not applied"
FIRST_FRAME = "first of several frames taken"

_ORIENTATION = 0x0112
# what makes a picture upright again, by its orientation
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # TIFF tags
_WHITE_IS_ZERO = 0
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTH = 24  # where IHDR has the bits of a sample
_GREYS_16 = ("I;16", "I;16L", "I;16B", "I;16N")
_GREYS_16_AS_I = ("PPM", "PNG")  # formats whose 16 bits Pillow, or an older one, holds as 32


@dataclass(frozen=True, slots=True)
class View:
    """How a file is made a picture, for both models and the report alike.

    Args:
        exif: whether the picture is turned as its EXIF orientation says; open_clip's training does not turn it.
        background: colour that shows through transparent parts; "none" drops the alpha channel, as open_clip does.
    """

    exif: Literal["apply", "ignore"] = "ignore"
    background: str = "white"


AS_CONFIGURED_BY_DEFAULT = View()
AS_A_VIEWER_SHOWS_IT = View(exif="apply")


@dataclass(frozen=True)
class Picture:
    """A picture in RGB, and what of it is not as it lies in the file: kinds that can be counted."""

    image: Image
    altered: tuple[str, ...] = ()


def open_picture(data: bytes, view: View = AS_A_VIEWER_SHOWS_IT) -> Picture:
    """Decode the bytes of an image file to RGB, and name what was altered.

    Raises:
        DataError: the image is corrupt, truncated, too large, in a format that is not read, or of values that nobody
            knows the black and white of.
    """
    from PIL import Image as PillowImage
    from PIL import ImageFile, UnidentifiedImageError

    # WeasyPrint, once imported, has Pillow fill up truncated images in silence for the whole process
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PillowImage.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DataError(f"the image is too large: {image.width} x {image.height} pixels")
                return _picture(image, data, view)
    except PillowImage.DecompressionBombError as error:
        raise DataError("the image is too large: it looks like a decompression bomb") from error
    except UnidentifiedImageError as error:
        if data.lstrip()[:4] == b"%!PS" or data[:4] == b"\xc5\xd0\xd3\xc6":
            raise DataError("the image cannot be decoded: it is EPS, which is a program and is not run") from error
        raise DataError(
            "the image cannot be decoded: not an image file, or in a format that koda does not read "
            f"({', '.join(FORMATS)} are read)"
        ) from error
    except DataError:
        raise
    except Exception as error:  # the decoders of damaged files raise whatever they stumble over
        raise DataError(f"the image cannot be decoded: {reason_of(error)}") from error


def _picture(image: Image, data: bytes, view: View) -> Picture:
    from PIL import Image as PillowImage

    depth = _depth(image, data)  # Pillow forgets the tags of a TIFF once it is loaded
    inverted = image.format == "TIFF" and _tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO
    turned = image.format == "TIFF" and _tag(image, _ORIENTATION) in _TURNS  # on loading, by Pillow itself
    altered: list[str] = [TURNED] if turned else []
    image.load()
    if image.mode in _GREYS_16 or (image.mode == "I" and image.format in _GREYS_16_AS_I):
        rgb, alpha = _scaled_16_bit(image, depth, inverted)
        altered.append(SCALED_16_BIT)
    elif image.mode == "F":
        rgb, alpha = _scaled_float(image, inverted), None
        altered.append(SCALED_FLOAT)
    elif image.mode == "I":
        raise DataError("the image cannot be shown: signed or 32-bit integers, whose black and white are not known")
    else:
        if depth == 16:  # which Pillow scales by itself in pictures of several channels
            altered.append(SCALED_16_BIT)
        rgb, alpha = _eight_bit(image, depth)
    if alpha is not None and (seen := alpha.getextrema()) != (255, 255):
        altered.append(DROPPED if view.background == "none" else COMPOSED)
        if view.background != "none":
            if seen == (0, 0):
                raise DataError("the image cannot be shown: it is transparent all over")
            rgb = _composed(rgb, alpha, view.background)
    if (turn := _TURNS.get(_orientation(image))) is not None:
        altered.append(TURNED if view.exif == "apply" else NOT_TURNED)
        if view.exif == "apply":
            rgb = rgb.transpose(PillowImage.Transpose[turn])
    if image.format != "MPO" and _is_animated(image):  # the other frames of an MPO are previews of the first
        altered.append(FIRST_FRAME)
    rgb.info = {}  # what the file says of itself holds no longer
    return Picture(rgb, tuple(altered))


def _scaled_16_bit(image: Image, depth: int, inverted: bool) -> tuple[Image, Image | None]:
    """Return a grey picture of 9 to 16 bits in 8, and its alpha where one value of it is transparent."""
    from PIL import Image as PillowImage

    most = 2**depth - 1 if image.format == "TIFF" and 8 < depth < 16 else 65535
    levels = np.minimum((np.arange(65536) * 255 + most // 2) // most, 255).astype(np.uint8)  # of each value
    values = np.asarray(image)  # (h, w)
    grey = np.take(255 - levels if inverted else levels, values, mode="clip")  # (h, w)
    clear = image.info.get("transparency")
    alpha = PillowImage.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)) if clear is not None else None
    return PillowImage.fromarray(grey).convert("RGB"), alpha


def _scaled_float(image: Image, inverted: bool) -> Image:
    """Return a picture of fractions, 0 black and 1 white, in 8 bits."""
    from PIL import Image as PillowImage

    values = np.asarray(image, dtype=np.float32)  # (h, w)
    least, most = float(values.min()), float(values.max())
    if not (math.isfinite(least) and math.isfinite(most)):
        raise DataError("the image cannot be shown: it has values that are not numbers")
    if least < 0 or most > 1:
        raise DataError(
            f"the image cannot be shown: fractional values from {least:g} to {most:g}, where 0 is black and 1 is white"
        )
    grey = (values * 255 + 0.5).astype(np.uint8)  # (h, w)
    return PillowImage.fromarray(255 - grey if inverted else grey).convert("RGB")


def _eight_bit(image: Image, depth: int) -> tuple[Image, Image | None]:
    """Return what Pillow makes of a picture of 8 bits, and its alpha where it has some."""
    clear = image.info.get("transparency")
    if clear is not None and image.format == "PNG":
        if depth == 16:
            raise DataError("the image cannot be shown: one of its 16-bit colours is transparent, and is not kept")
        if image.mode == "L" and depth < 8 and isinstance(clear, int):  # Pillow spreads the values, and not this one
            image.info["transparency"] = clear * 255 // (2**depth - 1)
    if image.mode == "La":
        image = image.convert("LA")
    if not image.has_transparency_data:
        return image.convert("RGB"), None
    whole = image.convert("RGBA")
    return whole.convert("RGB"), whole.getchannel("A")


def _composed(rgb: Image, alpha: Image, background: str) -> Image:
    """Return a picture on a ground of one colour."""
    from PIL import Image as PillowImage

    ground = PillowImage.new("RGB", rgb.size, background)
    ground.paste(rgb, mask=alpha)
    return ground


def _depth(image: Image, data: bytes) -> int:
    """Return the bits of a sample, as PNG and TIFF say them; 8 elsewhere."""
    if image.format == "PNG" and data.startswith(_PNG):
        return data[_PNG_DEPTH]
    bits = _tag(image, _BITS_PER_SAMPLE) if image.format == "TIFF" else None
    if isinstance(bits, tuple):
        bits = max(bits, default=None)
    return bits if isinstance(bits, int) else 8


def _tag(image: Image, tag: int) -> object:
    return getattr(image, "tag_v2", {}).get(tag)


def _orientation(image: Image) -> int:
    """Return the EXIF orientation; 1, upright, where there is none that can be read."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF is no damage to the picture
        return 1
    return found if isinstance(found, int) else 1


def _is_animated(image: Image) -> bool:
    """Tell whether a file holds more pictures; damage in those does not concern the first."""
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # the decoders of damaged files raise whatever they stumble over
        return False
