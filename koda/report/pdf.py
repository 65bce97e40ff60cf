"""HTML to PDF: tagged, archivable, and the same bytes for the same record."""

from __future__ import annotations

import gc
import logging
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from koda.errors import KodaError, PrerequisiteError
from koda.report.drawing_software import drawing_software, load_weasyprint
from koda.report.fonts import fontconfig
from koda.report.pdf_finishing import finish
from koda.report.renderer import settings, with_directions

VARIANT = "pdf/a-3a"
_LOCK = threading.Lock()


def write_pdf(html: str, fonts: Path, attachment: bytes, moment: datetime, more_fonts: Sequence[Path] = ()) -> bytes:
    """Return the PDF of a self-contained HTML document.

    Args:
        html: the document; anything it refers to outside itself stops the rendering.
        fonts: folder of the only fonts that are used, beside ``more_fonts``.
        attachment: the audit record, attached as ``audit.json``.
        moment: date of the document and the attachment (UTC), so that no clock is read.
        more_fonts: files of fonts for what those lack.

    Raises:
        PrerequisiteError: WeasyPrint, or the Pango library it needs, is not installed.
        KodaError: the document refers to something outside itself.
    """
    with _LOCK, _only_fonts_of(fonts, more_fonts, moment):
        weasyprint, fetcher, font_configuration = _renderer()
        data_only = fetcher(allowed_protocols={"data"}, allow_redirects=False, fail_on_errors=True)
        attached = weasyprint.Attachment(
            string=attachment,
            name="audit.json",
            description="The audit record this report was drawn from",
            created=moment,
            modified=moment,
            relationship="Source",
            url_fetcher=data_only,
        )
        try:
            with settings():
                document = weasyprint.HTML(string=with_directions(html), base_url=None, url_fetcher=data_only)
                pdf: bytes = document.write_pdf(
                    finisher=_forget_layout,
                    font_config=font_configuration(),
                    pdf_variant=VARIANT,
                    pdf_tags=True,
                    pdf_identifier=False,  # the finishing step gives the file one
                    attachments=[attached],
                    uncompressed_pdf=True,  # the finishing step reads and compresses all of it anyway
                )
                return finish(pdf, drawing_software())
        except weasyprint.urls.FatalURLFetchingError as error:  # not an Exception, so nothing above would catch it
            raise KodaError(f"The PDF was not made, since its source refers outside itself: {error}.") from error


def _forget_layout(document: Any, _: Any) -> None:
    """Drop the boxes of all pages before the file is written: they are most of the memory, and in cycles."""
    document.pages.clear()
    gc.collect(0)  # nothing was collected while they were made, so that all of them are young


def _renderer() -> tuple[Any, Any, Any]:
    try:
        weasyprint = load_weasyprint()
        from weasyprint.text.fonts import FontConfiguration
        from weasyprint.urls import URLFetcher
    except (ImportError, OSError) as error:  # cffi raises OSError for a missing shared library
        raise PrerequisiteError(
            f"No PDF was made: WeasyPrint cannot be loaded ({str(error).splitlines()[0]}).",
            "Install the Pango library: apt-get install libpango-1.0-0 libpangoft2-1.0-0 (macOS: brew install pango).",
        ) from error
    for name in ("weasyprint", "fontTools"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return weasyprint, URLFetcher, FontConfiguration


@contextmanager
def _only_fonts_of(folder: Path, more: Sequence[Path], moment: datetime) -> Iterator[None]:
    """Let fontconfig know one folder of fonts and some files; it reads the variable whenever a configuration is loaded.

    A setting of the user's own does not win: with other fonts the same record would give other pages. fontTools,
    which cuts the fonts down, dates each by SOURCE_DATE_EPOCH or the clock.
    """
    names = ("FONTCONFIG_FILE", "FONTCONFIG_PATH", "FONTCONFIG_SYSROOT", "SOURCE_DATE_EPOCH")
    before = {name: os.environ.get(name) for name in names}
    with tempfile.TemporaryDirectory(prefix="koda-fonts-") as scratch:
        file = Path(scratch) / "fonts.conf"
        beside = Path(scratch) / "more"
        beside.mkdir()
        for number, path in enumerate(more):
            (beside / f"{number}{path.suffix}").symlink_to(path)
        file.write_text(fontconfig((folder, beside), Path(scratch) / "cache"), encoding="utf-8")
        try:
            for name in before:
                os.environ.pop(name, None)
            os.environ["FONTCONFIG_FILE"] = str(file)
            os.environ["SOURCE_DATE_EPOCH"] = str(int(moment.timestamp()))
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
