"""What draws the PDF on this machine: other versions may set other lines, or pack the same lines into other bytes."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import zlib
from functools import lru_cache
from importlib.metadata import version
from typing import Any

# library -> its file on Linux, macOS and Windows, and the function that tells its version
_SHARED = {
    "Pango": (("libpango-1.0.so.0", "libpango-1.0.0.dylib", "libpango-1.0-0.dll"), "pango_version_string"),
    "HarfBuzz": (("libharfbuzz.so.0", "libharfbuzz.0.dylib", "libharfbuzz-0.dll"), "hb_version_string"),
    "fontconfig": (("libfontconfig.so.1", "libfontconfig.1.dylib", "libfontconfig-1.dll"), "FcGetVersion"),
}


def load_weasyprint() -> Any:
    """Import WeasyPrint, which loads Pango at once.

    Raises:
        ImportError: it is not installed.
        OSError: it lacks a library; what it prints then is no part of an answer, so it is swallowed.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        return importlib.import_module("weasyprint")


def drawing_software() -> str:
    """Return WeasyPrint and what works beneath it with their versions, as the PDF names them; "" where it is missing.

    They are of the drawing, not of the audit, so that no record holds them.
    """
    try:
        weasyprint = load_weasyprint()
    except (ImportError, OSError):  # as where Pango is missing; it may be there when it is asked for again
        return ""
    return _with_versions(weasyprint.__version__)


@lru_cache(maxsize=1)
def _with_versions(weasyprint: str) -> str:
    import pikepdf

    named = {"WeasyPrint": weasyprint}
    named |= {name: found for name in _SHARED if (found := _shared_version(name))}
    named |= {"fontTools": version("fonttools"), "pikepdf": pikepdf.__version__}
    named |= {"qpdf": pikepdf.__libqpdf_version__, "zlib": zlib.ZLIB_RUNTIME_VERSION}
    return ", ".join(f"{name} {number}" for name, number in named.items())


def _shared_version(name: str) -> str:
    files, asked = _SHARED[name]
    for file in files:
        try:
            function = getattr(ctypes.CDLL(file), asked)
        except (OSError, AttributeError):
            continue
        if name == "fontconfig":  # one number: 21401 is 2.14.1
            number = int(function())
            return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
        function.restype = ctypes.c_char_p
        return str(function().decode("ascii"))
    return ""
