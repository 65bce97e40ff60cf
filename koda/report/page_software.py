"""What draws the HTML: the same record and pictures give the same bytes where all of it is the same."""

from __future__ import annotations

import platform
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from PIL import features

from koda._version import __version__
from koda.report.environment import template_folder
from koda.storage import digest_file, digest_json

_LIBRARIES = ("Jinja2", "MarkupSafe", "Pillow", "PyYAML")


@lru_cache(maxsize=1)
def page_software() -> str:
    """Return what draws the HTML here, as each page names it: koda, its own files by digest, and what works beneath.

    Raises:
        PrerequisiteError: the templates are not installed.
    """
    named = [f"{name} {version(name)}" for name in _LIBRARIES]
    # of which the bytes of smaller pictures are; libjpeg-turbo says of itself which older libjpeg it stands for
    jpeg = features.version("libjpeg_turbo") or features.version("jpg")
    return (
        f"koda {__version__} ({_own_files()}), Python {platform.python_version()}, {', '.join(named)}, libjpeg {jpeg}"
    )


def _own_files() -> str:
    """Return the beginning of a digest over koda's code and templates, with the fonts that stand in each page."""
    code = Path(__file__).resolve().parent.parent
    folders = {"koda": (code, "*.py"), "templates": (template_folder(), "*")}
    digests = {
        f"{name}/{path.relative_to(folder).as_posix()}": digest_file(path)
        for name, (folder, pattern) in folders.items()
        for path in folder.rglob(pattern)
        if path.is_file()
    }
    return digest_json(digests)[:16]
