"""What a report says of its own record: the digest that HTML and PDF print, and the record attached to the PDF."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

from koda.audit.folders import HTML, MANIFEST, PDF, RECORD, is_listed
from koda.errors import reason_of
from koda.evidence.additions import check_additions
from koda.evidence.result import Evidence
from koda.records import AuditRecord
from koda.records.audit import RECORD_VERSION
from koda.records.page_names import PAGES

PRINTED = f"digest of {RECORD} that it prints"
_PROVENANCE = "provenance"  # in the title of the section that prints the digest
_SYSTEMS = ("/UF", "/F", "/DOS", "/Mac", "/Unix")  # the names that an attachment has, and the streams of it
_OTHER = f"it is of another record than {RECORD}; one of the two was changed, or the report was not drawn of it"


def check_reports(folder: Path, data: bytes, record: AuditRecord) -> Iterator[Evidence]:
    """Compare the reports of an audit with its record.

    Args:
        folder: of the audit.
        data: bytes of its `audit.json`.
        record: what they hold.
    """
    accepted = _forms(data, record)
    digests = {hashlib.sha256(form).hexdigest() for form in accepted}
    what = PRINTED
    unlisted = _unlisted(folder)
    for name in unlisted:  # readers take it for a page of the audit, and no digest of it is kept
        yield Evidence(name, f"that {MANIFEST} lists it", "FAILED", f"{MANIFEST} does not list it")
    if (html := folder / HTML).is_file():
        page, printed = _page(html, what, digests)
        yield printed
        for name in sorted(page.linked):
            if not (folder / name).is_file():
                yield Evidence(name, "that it is there", "FAILED", f"{HTML} leads to it, and it is not there")
    else:
        yield Evidence(HTML, what, "not verified", "there is no such file")
    for path in sorted(folder.glob(PAGES)):
        if path.name not in unlisted and path.is_file():  # one that is listed and no file has failed already
            yield _page(path, what, digests)[1]
    if not (folder / PDF).is_file():
        yield Evidence(PDF, what, "not verified", "there is no such file")
        return
    try:
        content = (folder / PDF).read_bytes()
    except OSError as error:
        yield Evidence(PDF, what, "FAILED", f"it cannot be read: {reason_of(error)}")
    else:
        yield from _check_pdf(content, what, accepted, digests)


def _unlisted(folder: Path) -> list[str]:
    """Return what stands in an audit's folder under the names of reports and pages, and is none that it lists."""
    there = {path.name for path in folder.glob(PAGES)} | {name for name in (HTML, PDF) if (folder / name).exists()}
    return sorted(name for name in there if not is_listed(folder, name))


def _forms(data: bytes, record: AuditRecord) -> list[bytes]:
    """Return the record's bytes; of a record of an older koda also as a newer one writes it, which draws it again."""
    return [data] if record.version == RECORD_VERSION else [data, record.to_json().encode()]


def _check_pdf(data: bytes, what: str, accepted: list[bytes], digests: set[str]) -> Iterator[Evidence]:
    import pikepdf

    try:
        with pikepdf.open(io.BytesIO(data)) as pdf:
            attached = _attached(pdf)
            text = _text_with_digest(pdf, digests)
            additions = check_additions(data, pdf)
    except Exception:  # a damaged PDF raises whatever its parser meets, in the words of a library
        yield Evidence(PDF, "that it can be read", "FAILED", "it is no PDF, or one that is damaged")
        return
    yield _printed(PDF, what, text, digests)
    what = f"the {RECORD} attached to it"
    if not attached:
        yield Evidence(PDF, what, "FAILED", "nothing of that name is attached")
    elif any(each not in accepted for each in attached):
        yield Evidence(PDF, what, "FAILED", f"it is not the {RECORD} beside it; one of the two was changed")
    else:
        yield Evidence(PDF, what, "verified", "byte for byte the file beside it")
    yield additions


def _attached(pdf: Any) -> list[bytes]:
    """Return what a PDF has attached under the name of the record, in any of the places where readers look.

    An attachment may hold one stream for each kind of system, of which readers choose as they like, and it may hang at
    a page, or twice under one name.
    """
    import pikepdf

    listed = [(name, each.obj) for name, each in pdf.attachments.items()]
    listed += [("", each) for each in pdf.Root.get("/AF", [])]
    listed += [("", each) for each in pdf.objects if isinstance(each, pikepdf.Dictionary) and "/EF" in each]
    return [
        stream.read_bytes()
        for name, each in listed
        if RECORD in (name, *(str(each.get(system, "")) for system in _SYSTEMS))
        for _, stream in each.EF.items()
    ]


def _text_with_digest(pdf: Any, digests: set[str]) -> str:
    """Return the text of pages as far as the first that prints one of the digests, the likeliest first."""
    found = ""
    for number in _likeliest_first(pdf):
        text = _text_of_page(pdf, number)
        found += text
        if any(digest in text for digest in digests):
            break
    return found


def _likeliest_first(pdf: Any) -> list[int]:
    """Order the numbers of pages: those that the bookmark of the provenance leads to, then the others from the end."""
    numbers = {page.obj.objgen: number for number, page in enumerate(pdf.pages)}
    with pdf.open_outline() as outline:
        marked = [(item.title, numbers.get(item.destination[0].objgen)) for item in outline.root if item.destination]
    first: list[int] = []
    for (title, start), (_, end) in pairwise([*marked, ("", len(numbers) - 1)]):
        if _PROVENANCE in title.lower() and start is not None and end is not None:
            first += range(start, end + 1)
    return [*first, *(number for number in reversed(range(len(numbers))) if number not in first)]


def _text_of_page(pdf: Any, number: int) -> str:
    """Return the text of a page without its spaces; pypdf reads a page alone in a fraction of what the whole takes."""
    import pikepdf
    from pypdf import PdfReader

    alone, data = pikepdf.new(), io.BytesIO()
    alone.pages.append(pdf.pages[number])
    alone.save(data)
    return re.sub(r"\s+", "", PdfReader(data).pages[0].extract_text())


def _printed(name: str, what: str, text: str, digests: set[str]) -> Evidence:
    if any(digest in text for digest in digests):
        return Evidence(name, what, "verified")
    return Evidence(name, what, "FAILED", f"it does not print that of the {RECORD} beside it: {_OTHER}")


class _Page(HTMLParser):
    """The text of a page without its markup and its scripts, and the pages of pictures that it leads to."""

    def __init__(self) -> None:
        super().__init__()
        self.linked: set[str] = set()
        self._pieces: list[str] = []
        self._script = 0

    @property
    def text(self) -> str:
        """The text without its spaces."""
        return re.sub(r"\s+", "", "".join(self._pieces))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note where a script or style begins, and where a link leads."""
        self._script += tag in ("script", "style")
        to = (dict(attrs).get("href") or "").partition("#")[0]
        if tag == "a" and fnmatchcase(to, PAGES) and "/" not in to:
            self.linked.add(to)

    def handle_endtag(self, tag: str) -> None:
        """Note where it ends."""
        self._script -= tag in ("script", "style") and self._script > 0

    def handle_data(self, data: str) -> None:
        """Keep the text that a reader sees."""
        if not self._script:
            self._pieces.append(data)


def _page(path: Path, what: str, digests: set[str]) -> tuple[_Page, Evidence]:
    """Read a page, and say whether it prints one of the digests."""
    page = _Page()
    try:
        page.feed(path.read_bytes().decode("utf-8", errors="replace"))
    except OSError as error:
        return page, Evidence(path.name, what, "FAILED", f"it cannot be read: {reason_of(error)}")
    except Exception:  # the parser of some Pythons asserts that no declaration is of an unknown kind
        why = "its markup is none that koda writes: it was changed, or is damaged"
        return _Page(), Evidence(path.name, what, "FAILED", why)
    return page, _printed(path.name, what, page.text, digests)
