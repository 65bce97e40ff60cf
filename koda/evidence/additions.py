"""What koda puts in no PDF: fields, actions, marks on pages, other attachments, and changes after the end."""

from __future__ import annotations

from collections.abc import Iterator
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
    what = "that nothing was added to it"
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
    if any(key in pdf.Root for key in _ACTIONS) or "/JavaScript" in pdf.Root.get("/Names", {}):
        yield "actions that a reader carries out"
    if others := sorted(set(pdf.attachments) - {RECORD}):
        yield f"the attachment {printable(others[0])}"
    for page in pdf.pages:
        if "/AA" in page:
            yield "actions that a reader carries out"
        for mark in page.get("/Annots", []):
            if str(mark.get("/Subtype")) != "/Link":
                yield f"marks on pages ({printable(str(mark.get('/Subtype')))[1:]})"
            elif "/A" in mark and str(mark.A.get("/S")) not in _PLACES:
                yield "actions that a reader carries out"
