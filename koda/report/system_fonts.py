"""Fonts for what koda's own cannot draw: those that a team gives, then those of this machine, asked of fontconfig."""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path

from fontTools.ttLib import TTFont, TTLibError

from koda.errors import ConfigError

_LIBRARIES = ("libfontconfig.so.1", "libfontconfig.1.dylib", "libfontconfig-1.dll", "libfontconfig.so")
_SUFFIXES = {".ttf", ".otf", ".ttc", ".otc"}  # that a PDF can hold
_KINDS = "TrueType or OpenType"
_LOOKED_AT = 6  # fonts that have one character, of which the one with the most others is taken
_MOST_FONTS = 8  # of one report


def font_files(given: Sequence[str | Path]) -> tuple[Path, ...]:
    """Return the fonts that a team gives: files, and what lies in folders, each once.

    Raises:
        ConfigError: there is no such file or folder, no font in it, or a file that is none.
    """
    files: dict[Path, None] = {}
    for entry in map(Path, given):
        inside = [entry]
        if entry.is_dir():
            inside = sorted(path for path in entry.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
        if not inside or not entry.exists():
            what = "has no font in it" if entry.is_dir() else "is not there"
            raise ConfigError(f"report.fonts: {entry} {what}.", f"Name {_KINDS} files, or a folder of them.")
        for path in inside:
            if not code_points(path):
                raise ConfigError(f"report.fonts: {path} cannot be read as a font.", f"Name {_KINDS} files.")
            files[path] = None
    return tuple(files)


def fonts_for(characters: Collection[str], given: Sequence[Path] = ()) -> tuple[Path, ...]:
    """Return the font files that draw the most of some characters: of those given, then of this machine's.

    The choice depends on the fonts alone, not on the order in which the machine lists them. Of the machine's there are
    none where it has no fontconfig.
    """
    left = {ord(char) for char in characters}
    chosen: list[Path] = []
    for path in sorted(given, key=lambda path: -len(left & code_points(path))):
        if drawn := left & code_points(path):
            chosen.append(path)
            left -= drawn
    with _configuration() if left else nullcontext() as config:
        while left and len(chosen) < _MOST_FONTS:
            first = min(left)
            left.discard(first)
            if config is None:
                break
            best: Path | None = None
            for path in _with_character(config, first)[:_LOOKED_AT]:
                drawn = left & code_points(path)
                if first in code_points(path) and (best is None or len(drawn) > len(left & code_points(best))):
                    best = path
                    if drawn == left:
                        break
            if best is not None:
                chosen.append(best)
                left -= code_points(best)
    return tuple(chosen)


@lru_cache(maxsize=64)
def code_points(path: Path) -> frozenset[int]:
    """Return the code points that a font file draws; none where it cannot be read."""
    try:
        with TTFont(path, lazy=True, fontNumber=0) as font:  # a collection is one in many shapes
            return frozenset(font.getBestCmap() or ())
    except (OSError, TTLibError, KeyError):
        return frozenset()


def family_of(path: Path) -> str:
    """Return the name of a font's family."""
    with TTFont(path, lazy=True, fontNumber=0) as font:
        return str(font["name"].getBestFamilyName() or path.stem)


@contextmanager
def _configuration() -> Iterator[int | None]:
    """Load the fonts of this machine as its user sees them; None without fontconfig."""
    library = _library()
    config = None if library is None else library.FcInitLoadConfigAndFonts()
    try:
        yield config
    finally:
        if library is not None and config:
            library.FcConfigDestroy(config)


def _with_character(config: int, code_point: int) -> list[Path]:
    """Return the files of outline fonts that have a character, sans serif and regular ones first."""
    library = _library()
    assert library is not None  # there is a configuration
    pattern = library.FcNameParse(f":charset={code_point:x}:outline=true:color=false".encode())
    objects = library.FcObjectSetCreate()
    library.FcObjectSetAdd(objects, b"file")
    found = library.FcFontList(config, pattern, objects)
    files = set()
    try:
        for place in range(found.contents.nfont if found else 0):
            value = ctypes.c_char_p()
            if library.FcPatternGetString(found.contents.fonts[place], b"file", 0, ctypes.byref(value)) == 0:
                files.add(Path((value.value or b"").decode("utf-8", "surrogateescape")))
    finally:
        if found:
            library.FcFontSetDestroy(found)
        library.FcObjectSetDestroy(objects)
        library.FcPatternDestroy(pattern)
    return sorted((path for path in files if path.suffix.lower() in _SUFFIXES), key=_preference)


def _preference(path: Path) -> tuple[bool, bool, str, str]:
    name = path.stem.lower()
    plain = not any(word in name for word in ("bold", "italic", "oblique", "light", "thin", "black", "condensed"))
    sans = "serif" not in name and "mono" not in name
    return not plain, not sans, path.name, str(path)


class _FontSet(ctypes.Structure):
    _fields_ = (
        ("nfont", ctypes.c_int),
        ("sfont", ctypes.c_int),
        ("fonts", ctypes.POINTER(ctypes.c_void_p)),
    )


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    """Load fontconfig, which Pango needs too; None where it is not there."""
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        pointer, text = ctypes.c_void_p, ctypes.c_char_p
        signatures = {
            "FcInitLoadConfigAndFonts": (pointer,),
            "FcNameParse": (pointer, text),
            "FcObjectSetCreate": (pointer,),
            "FcObjectSetAdd": (ctypes.c_int, pointer, text),
            "FcFontList": (ctypes.POINTER(_FontSet), pointer, pointer, pointer),
            "FcPatternGetString": (ctypes.c_int, pointer, text, ctypes.c_int, ctypes.POINTER(text)),
            "FcFontSetDestroy": (None, ctypes.POINTER(_FontSet)),
            "FcObjectSetDestroy": (None, pointer),
            "FcPatternDestroy": (None, pointer),
            "FcConfigDestroy": (None, pointer),
        }
        for function, (result, *arguments) in signatures.items():
            getattr(library, function).restype = result
            getattr(library, function).argtypes = arguments
        return library
    return None
