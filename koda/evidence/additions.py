"""What koda puts in no PDF: fields, actions, marks on pages, other attachments, and changes after the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from koda.audit.folders import PDF, RECORD
from koda.evidence.result import Evidence
from koda.wording import printable

_END = b"startxref"  # once in a file that was written in one go
_LAST = b"%%EOF"
_ACTIONS = ("/OpenAction", "/AA")
_PLACES = ("/URI", "/GoTo")  # actions that only lead somewhere


def check_additions(data: bytes, pdf: Any) -> Evidence:
    """Look for what was added to a PDF of koda's.

    Args:
        data: its bytes.
        pdf: what they hold.
    """
    what = "that it holds pages, links and the record alone"
    found = list(dict.fromkeys(_additions(data, pdf)))
    if not found:
        return Evidence(PDF, what, "verified", "no fields, actions, marks, other attachments or later changes")
    return Evidence(PDF, what, "FAILED", f"it holds {', '.join(found)}, which koda puts in no {PDF}: it was changed")


def _additions(data: bytes, pdf: Any) -> Iterator[str]:
    if data.count(_END) > 1:
        yield "changes that were added after its end"
    elif not data.rstrip(b"\r\n").endswith(_LAST):
        yield "something after its end"
    if "/AcroForm" in pdf.Root:
        kinds = {str(field.get("/FT")) for field in pdf.Root.AcroForm.get("/Fields", [])}
        yield "signature fields" if "/Sig" in kinds else "form fields"
    with pdf.open_outline() as outline:
        of_bookmarks = [item.action for item in _items(outline.root) if item.action is not None]
    named = "/JavaScript" in pdf.Root.get("/Names", {})
    if named or any(key in pdf.Root for key in _ACTIONS) or not all(map(_only_leads, of_bookmarks)):
        yield "actions that a reader carries out"
    if others := sorted(set(pdf.attachments) - {RECORD}):
        yield f"the attachment {printable(others[0])}"
    for page in pdf.pages:
        if "/AA" in page:
            yield "actions that a reader carries out"
        for mark in page.get("/Annots", []):
            if str(mark.get("/Subtype")) != "/Link":
                yield f"marks on pages ({printable(str(mark.get('/Subtype')))[1:]})"
            elif "/AA" in mark or not _only_leads(mark.get("/A", {"/S": _PLACES[0]})):
                yield "actions that a reader carries out"


def _only_leads(action: Any) -> bool:
    """Tell whether an action leads somewhere, and no other follows on it."""
    return str(action.get("/S")) in _PLACES and "/Next" not in action


def _items(items: Sequence[Any]) -> Iterator[Any]:
    """Give bookmarks with all that are below them."""
    for item in items:
        yield item
        yield from _items(item.children)
