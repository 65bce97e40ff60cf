"""The pictures of a report that was drawn before, for one that is drawn where its thumbnails are gone."""

from __future__ import annotations

import base64
import binascii
from html.parser import HTMLParser

JPEG = "data:image/jpeg;base64,"


def pictures_in(html: str) -> dict[str, bytes]:
    """Return sample key -> JPEG of the galleries of a `report.html`; what is no such picture is passed over."""
    reader = Reader()
    reader.feed(html)
    reader.close()
    found: dict[str, bytes] = {}
    for key, source in reader.sources:
        data = jpeg_of(reader.shared.get(source[1:], "") if source.startswith("#") else source)
        if data is not None:
            found.setdefault(key, data)
    return found


def jpeg_of(source: str) -> bytes | None:
    """Return the JPEG of a data address; None where it is another address."""
    if not source.startswith(JPEG):
        return None
    try:
        return base64.b64decode(source[len(JPEG) :], validate=True)
    except binascii.Error:
        return None


class Reader(HTMLParser):
    """Which picture stands within the frame of which sample; one shown several times is an SVG image with an id."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[tuple[str, str]] = []
        self.shared: dict[str, str] = {}
        self._key = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of a frame, a shared picture, or a picture in a frame."""
        values = dict(attrs)
        source = values.get("src") or values.get("href") or ""
        self._key = values.get("data-key") or self._key
        if tag == "image" and values.get("id"):
            self.shared[str(values["id"])] = source
        elif tag in ("img", "use") and self._key and source:
            self.sources.append((self._key, source))

    def handle_endtag(self, tag: str) -> None:
        """Leave a frame."""
        if tag == "figure":
            self._key = ""
