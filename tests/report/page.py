"""A rendered page as the tests read it, and records that make small ones."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from koda.records import AuditRecord
from koda.report import RenderedReport, render
from tests.report import factory

PACKAGE = Path(__file__).resolve().parents[2] / "koda"


def has_pango() -> bool:
    try:
        import weasyprint  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


needs_pango = pytest.mark.skipif(not has_pango(), reason="Pango is not installed")
FORBIDDEN = (
    r"\bbetter\b", r"\bsafer\b", r"\bfairer\b", r"\bunbiased\b", r"\bcomplian", r"\bcertif", r"\bprove[sdn]?\b",
    r"\bproof\b", r"explains? why", r"\bno differences?\b", r"\bworse\b", r"\bguarantee",
)  # fmt: skip
HOSTILE = [
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "</style></script></title>{{ 7 * 7 }}{% raw %}",
    "a\x00b\x1b[31m\x07\x9f",
    "\u202egnitirw sdrawkcab\u2066 \u200f",
    "x" * 10_000,
    "日本語のキャプション",
    "صورة قطة على الطاولة",
    "चित्र में एक बिल्ली",
    "👩‍👩‍👧 family 🏳️‍🌈",
    "z" + "\u0301" * 300,
    "",
    None,
    "word " * 2_000,
    "\ufffe\uffff\U0010ffff",
    "\"' onmouseover='alert(1)' & &amp; &#60;script&#62;",
    "line\none\r\ttwo\u2028three",
    "file:///etc/passwd url(http://example.org/x.png)",
]


class Page(HTMLParser):
    """What the tests look at in an HTML file."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.inside: list[str] = []
        self.content: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.inside.append("data" if dict(attrs).get("type") == "application/json" else tag)
        if tag == "nav" and dict(attrs).get("class") == "sidebar":  # says again what the page says
            self.inside.append("sidebar")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style") or (tag == "nav" and self.inside):
            self.inside.pop()

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.content[self.inside[-1]] = self.content.get(self.inside[-1], "") + data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def named(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


def known(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(page.content["data"])
    return found


def page_of(
    record: AuditRecord, folder: Path, thumbnails: dict[str, bytes] | None = None
) -> tuple[Page, RenderedReport]:
    made = render(record, factory.thumbnails(record) if thumbnails is None else thumbnails, folder, pdf=False)
    return Page(made.html.read_text(encoding="utf-8")), made


def with_captions(record: AuditRecord, captions: list[str | None]) -> AuditRecord:
    """Give the samples of every gallery the captions, in turn."""

    def lobe(old: Any) -> Any:
        samples = [s.model_copy(update={"caption": captions[i % len(captions)]}) for i, s in enumerate(old.samples)]
        return old.model_copy(update={"samples": samples})

    findings = [
        f.model_copy(update={"positive": lobe(f.positive), "negative": lobe(f.negative)}) for f in record.findings
    ]
    return record.model_copy(update={"findings": findings})


def small(**changes: Any) -> AuditRecord:
    return factory.record(2, gallery=3, map_points=40, **changes)
