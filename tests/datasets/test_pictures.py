"""Pictures of every depth, mode and orientation: shown as they are, or refused for a stated reason."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from koda.config import DataConfig
from koda.datasets import decode_bytes, decode_picture, read_dataset
from koda.datasets.pictures import View, open_picture
from koda.errors import DataError
from tests.datasets.layouts import png

RAMP = np.tile(np.arange(256, dtype=np.uint8), (8, 1))  # (8, 256)
RGB = np.dstack([RAMP] * 3)  # (8, 256, 3)
DEEP = RAMP.astype(np.uint16) * 257  # (8, 256), the same ramp in 16 bits


def saved(picture: Image.Image | np.ndarray[Any, Any], kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(file, kind, **options)
    return file.getvalue()


def raw_png(samples: np.ndarray[Any, Any], colour_type: int, *, depth: int = 16, clear: bytes = b"") -> bytes:
    """A PNG of depths that Pillow does not write; samples are big-endian, (h, w, channels) or packed rows."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width * max(1, 8 // depth), height, depth, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    parts = [chunk(b"IHDR", header), chunk(b"tRNS", clear) if clear else b"", chunk(b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def deep(*channels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.dstack(channels).astype(">u2")


def clear_with_a_square(under: tuple[int, int, int] = (0, 0, 0)) -> Image.Image:
    """A red square in a transparent picture whose transparent pixels have a colour that nobody is to see."""
    picture = Image.new("RGBA", (8, 8), (*under, 0))
    picture.paste((255, 0, 0, 255), (2, 2, 6, 6))
    return picture


OPAQUE = np.full_like(DEEP, 65535)
SQUARE = np.full((8, 8, 3), 255)
SQUARE[2:6, 2:6] = (255, 0, 0)


@pytest.mark.parametrize(
    ("data", "altered"),
    [
        pytest.param(saved(DEEP, "PNG"), "16 bit scaled", id="16-bit grey PNG"),
        pytest.param(saved(DEEP, "TIFF"), "16 bit scaled", id="16-bit grey TIFF"),
        pytest.param(
            saved(Image.frombytes("I;16B", (256, 8), DEEP.astype(">u2").tobytes()), "TIFF"),
            "16 bit scaled",
            id="16-bit big-endian TIFF",
        ),
        pytest.param(
            saved(65535 - DEEP, "TIFF", tiffinfo={262: 0}), "16 bit scaled", id="16-bit TIFF in which white is zero"
        ),
        pytest.param(saved(DEEP, "JPEG2000"), "16 bit scaled", id="16-bit JPEG 2000"),
        pytest.param(saved(DEEP, "PPM"), "16 bit scaled", id="16-bit PGM"),
        pytest.param(raw_png(deep(DEEP, DEEP, DEEP), 2), "16 bit scaled", id="16-bit RGB PNG"),
        pytest.param(raw_png(deep(DEEP, DEEP, DEEP, OPAQUE), 6), "16 bit scaled", id="16-bit RGBA PNG"),
        pytest.param(raw_png(deep(DEEP, OPAQUE), 4), "16 bit scaled", id="16-bit grey and alpha PNG"),
        pytest.param(saved((RAMP / 255).astype(np.float32), "TIFF"), "float scaled", id="float TIFF"),
        pytest.param(saved(RAMP, "PNG"), "", id="8-bit grey PNG"),
        pytest.param(saved(RGB, "TIFF"), "", id="RGB TIFF"),
        pytest.param(saved(Image.fromarray(RAMP).convert("P"), "PNG"), "", id="palette PNG"),
        pytest.param(saved(Image.fromarray(RGB).convert("RGBA"), "PNG"), "", id="opaque RGBA PNG"),
        pytest.param(saved(Image.fromarray(RGB).convert("CMYK"), "TIFF"), "", id="CMYK TIFF"),
        pytest.param(saved(Image.fromarray(RGB).convert("CMYK"), "JPEG", quality=100), "", id="CMYK JPEG"),
    ],
)
def test_a_ramp_from_black_to_white_is_one_at_every_depth(data: bytes, altered: str) -> None:
    picture = open_picture(data)
    assert picture.image.mode == "RGB"
    assert np.abs(np.asarray(picture.image).astype(int) - RGB).max() <= 2
    assert picture.altered == ((altered,) if altered else ())


def test_twelve_bits_reach_from_black_to_white() -> None:
    tags = struct.pack("<HHIHH", 258, 3, 1, 12, 0)
    data = saved(np.zeros((1, 2), np.uint16), "TIFF")
    place = data.index(struct.pack("<HHI", 258, 3, 1))
    data = bytearray(data[:place] + tags + data[place + 12 :])
    strip = struct.unpack("<I", data[(at := data.index(struct.pack("<HHI", 273, 4, 1))) + 8 : at + 12])[0]
    data[strip : strip + 3] = bytes([0x00, 0x0F, 0xFF])  # 0 and 4095
    assert np.asarray(decode_bytes(bytes(data)))[0, :, 0].tolist() == [0, 255]


def test_one_bit_is_black_and_white() -> None:
    two = Image.fromarray(RAMP).point(lambda value: 255 * (value > 127), "1")
    for data in (saved(two, "PNG"), saved(two, "TIFF", compression="group4"), saved(two, "BMP")):
        assert np.array_equal(np.asarray(decode_bytes(data)), np.where(RGB > 127, 255, 0))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "GIF", "JPEG2000"])
def test_what_is_transparent_shows_the_background(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    for under in ((0, 0, 0), (0, 200, 0)):
        picture = open_picture(saved(clear_with_a_square(under), kind, **options))
        assert np.array_equal(np.asarray(picture.image), SQUARE) and picture.altered == ("alpha composed",)


def test_transparency_of_palettes_and_of_single_colours_shows_the_background() -> None:
    assert np.array_equal(np.asarray(decode_bytes(saved(clear_with_a_square().quantize(), "PNG"))), SQUARE)
    grey = np.array([[0, 90]], np.uint8)
    files = [
        saved(grey, "PNG", transparency=0),
        saved(np.dstack([grey] * 3), "PNG", transparency=(0, 0, 0)),
        saved(np.array([[0, 90 * 257]], np.uint16), "PNG", transparency=0),
        raw_png(np.array([[0x36]], np.uint8), 0, depth=4, clear=b"\0\3"),
    ]
    for data in files:
        picture = open_picture(data)
        assert np.asarray(picture.image)[0, 0].tolist() == [255] * 3 and "alpha composed" in picture.altered
        assert np.asarray(picture.image)[0, 1].tolist() in ([90] * 3, [102] * 3)


def test_the_background_is_a_setting_and_none_drops_the_alpha_channel_as_training_does() -> None:
    data = saved(clear_with_a_square((0, 200, 0)), "PNG")
    assert open_picture(data, View(background="#0000ff")).image.getpixel((0, 0)) == (0, 0, 255)
    dropped = open_picture(data, View(background="none"))
    assert dropped.image.getpixel((0, 0)) == (0, 200, 0) and dropped.altered == ("alpha dropped",)
    with pytest.raises(ValueError, match="background"):
        DataConfig(path="x", background="url(x)")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_exif_says_where_that_is_asked_for(kind: str, orientation: int) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :16] = 255  # white in the corner that comes first
    exif = Image.Exif()
    exif[0x112] = orientation
    data = saved(pixels, kind, exif=exif)
    seen = open_picture(data)
    place = {1: (4, 4), 2: (28, 4), 3: (28, 12), 4: (4, 12), 5: (4, 4), 6: (12, 4), 7: (12, 28), 8: (4, 28)}
    assert seen.image.size == ((32, 16) if orientation < 5 else (16, 32))
    assert min(seen.image.getpixel(place[orientation])) > 240
    lying = open_picture(data, View(exif="ignore"))
    assert lying.image.size == (32, 16) and min(lying.image.getpixel((4, 4))) > 240
    assert (seen.altered, lying.altered) == (
        ((), ()) if orientation == 1 else (("turned by EXIF",), ("EXIF orientation not applied",))
    )


def test_damaged_exif_is_no_damage_to_the_picture() -> None:
    picture = open_picture(saved(RGB, "JPEG", exif=b"Exif\0\0garbage"))
    assert picture.image.size == (256, 8) and picture.altered == ()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_is_taken_and_said_to_be(kind: str) -> None:
    data = saved(Image.new("RGB", (4, 4), "red"), kind, save_all=True, append_images=[Image.new("RGB", (4, 4))])
    picture = open_picture(data)
    assert picture.altered == ("first of several frames taken",) and picture.image.getpixel((1, 1))[0] > 200


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(saved(np.full((2, 2), 3.5, np.float32), "TIFF"), "from 3.5 to 3.5", id="fractions above 1"),
        pytest.param(saved(np.full((2, 2), np.nan, np.float32), "TIFF"), "not numbers", id="NaN"),
        pytest.param(saved(np.full((2, 2), 7, np.int32), "TIFF"), "32-bit integers", id="32-bit integers"),
        pytest.param(saved(Image.new("RGBA", (2, 2)), "PNG"), "transparent all over", id="nothing to see"),
        pytest.param(
            raw_png(deep(DEEP, DEEP, DEEP), 2, clear=b"\0\1\0\1\0\1"), "16-bit colours", id="a clear 16-bit colour"
        ),
        pytest.param(saved(RGB, "EPS"), "EPS, which is a program", id="EPS"),
        pytest.param(saved(RGB, "TGA"), "not an image file", id="a format that takes any bytes"),
        pytest.param(saved(RGB, "JPEG")[:300], "cannot be decoded", id="truncated JPEG"),
        pytest.param(saved(RGB, "BMP")[:300], "cannot be decoded", id="truncated BMP"),
        pytest.param(b"", "cannot be decoded", id="nothing"),
    ],
)
def test_what_cannot_be_shown_rightly_is_refused_for_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        open_picture(data)


def test_eps_under_the_name_of_a_picture_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gs = tmp_path / "bin" / "gs"
    gs.parent.mkdir()
    gs.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    gs.chmod(0o755)
    monkeypatch.setenv("PATH", f"{gs.parent}")
    (tmp_path / "a.png").write_bytes(saved(RGB, "EPS"))
    (tmp_path / "a.txt").write_text("a ramp")
    with pytest.raises(DataError, match="EPS"):
        decode_picture(read_dataset(DataConfig(path=str(tmp_path))).pairs[0])
    assert not (tmp_path / "started").exists()


def test_the_data_set_says_how_its_pictures_are_shown(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    (tmp_path / "a.jpg").write_bytes(saved(RGB, "JPEG", exif=exif))
    (tmp_path / "a.txt").write_text("a ramp")
    digests = set()
    for stated, size in [({}, (256, 8)), ({"exif": "apply"}, (8, 256)), ({"background": "black"}, (256, 8))]:
        dataset = read_dataset(DataConfig(path=str(tmp_path), **stated))
        digests.add(dataset.digest)
        assert decode_picture(dataset.pairs[0]).image.size == size
    assert len(digests) == 3  # other pictures, other embeddings


def test_a_plain_picture_is_what_open_clip_trains_on() -> None:
    data = png(np.random.default_rng(0).integers(0, 255, (6, 5, 3)))
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(decode_bytes(data)), np.asarray(image.convert("RGB")))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An image file with some bytes changed, taken out or cut off."""
    data = bytearray(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        how = draw(st.sampled_from(["change", "remove", "cut"]))
        data[place : place + 1 if how == "change" else place + 9 if how == "remove" else None] = (
            draw(st.binary(min_size=1, max_size=1)) if how == "change" else b""
        )
    return bytes(data)


FILES = [
    *(saved(RGB, kind) for kind in ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "AVIF", "JPEG2000")),
    saved(DEEP, "PNG", transparency=257),
    saved(DEEP, "TIFF"),
    saved((RAMP / 255).astype(np.float32), "TIFF"),
    saved(clear_with_a_square().quantize(), "PNG"),
]


def test_any_bytes_are_a_picture_in_rgb_or_refused_in_words() -> None:
    def check(data: bytes) -> None:
        try:
            assert open_picture(data).image.mode == "RGB"
        except DataError as error:
            assert error.message.startswith("the image ")

    run = given(damaged() | st.binary(max_size=40))(check)
    examples = int(os.environ.get("KODA_FUZZ_EXAMPLES", "100"))
    settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))(run)()
