"""The HTML report drawn again from the record: each of its words stands there, and no digest has to say so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path

from koda.audit.annotations import read_annotations
from koda.audit.drawing import stored_thumbnails
from koda.audit.folders import ANNOTATIONS, HTML, PDF, RECORD, is_listed, lacks_annotations, listed_pages
from koda.errors import KodaError, StoreError, reason_of
from koda.evidence.result import Evidence
from koda.records import Annotation, AuditRecord
from koda.report.gallery_pages import fitted
from koda.report.own_pictures import own_gallery, own_thumbnails, tells_apart
from koda.report.page_software import page_software
from koda.report.render import draw_gallery_pages, draw_page
from koda.report.thumbnails import Gallery, gallery
from koda.wording import counted, one_line, printable

DRAWN = "all of it, against what the record gives when it is drawn again"
_PICTURES = "its pictures"
_NAMED = re.compile(rb'<meta name="drawn-by" content="([^"]{1,400})">')
_HEAD = 8192  # bytes of a page, which says there what drew it
_SHOWN = 60  # characters of a page, where it differs
_SAME = "byte for byte the same"
_AROUND = "byte for byte the same, around the pictures that it has"
_NOT_HERE = (
    "what the audit stored of them is not here: it lies among the artifacts of the KODA_HOME where the audit ran"
)
_WHOSE = (
    "it does not tell whose its pictures are: keys of samples are spelled alike in it, or its templates are your own"
)


@dataclass(frozen=True)
class _Variant:
    """What a report may show beside its record: what people said, and whether it leads to a PDF."""

    annotations: tuple[Annotation, ...]
    with_pdf: bool


def check_drawn(folder: Path, record: AuditRecord, home: Path | None) -> Iterator[Evidence]:
    """Draw the HTML report of an audit again, with its pages of pictures, and compare the bytes.

    Args:
        folder: of the audit.
        record: of the audit.
        home: KODA_HOME, where the pictures of an audit are looked for that lies in no home; None: nowhere.
    """
    paths = [path for path in (folder / HTML, *listed_pages(folder)) if path.is_file()]
    data, comparable = {}, {}
    for path in paths:
        try:
            data[path.name] = path.read_bytes()
        except OSError as error:  # for which other checks of it have failed
            yield Evidence(path.name, DRAWN, "not verified", f"it cannot be read: {reason_of(error)}")
    for name, page in data.items():
        if (why := _why_not(page)) is None:
            comparable[name] = page
        else:
            yield Evidence(name, DRAWN, "not verified", why)
    if not comparable:
        return
    try:
        yield from _Check(folder, record, data, stored_thumbnails(home, folder)).all_of(comparable)
    except Exception as error:  # a record that contradicts itself raises whatever its drawing meets
        why = error.message if isinstance(error, KodaError) else f"{type(error).__name__}: {error}"
        for name in comparable:
            yield Evidence(name, DRAWN, "not verified", f"the record cannot be drawn here: {why}")


def _why_not(page: bytes) -> str | None:
    """Say why a page cannot be compared with one that is drawn here; None where it can."""
    found = _NAMED.search(page[:_HEAD])
    if found is None:
        return "it does not say what drew it, as those of an older koda do not"
    named, here = found[1].decode("utf-8", errors="replace"), page_software()
    if named == here:
        return None
    others = [part for part in named.split(", ") if part not in here.split(", ")] or [named]
    own = [part for part in here.split(", ") if part not in named.split(", ")] or [here]
    return f"{printable(', '.join(others))} drew it, and here is {', '.join(own)}, which may draw it otherwise"


@dataclass(frozen=True)
class _Check:
    folder: Path
    record: AuditRecord
    data: Mapping[str, bytes]
    stored: Mapping[str, bytes] | None

    def all_of(self, names: Mapping[str, bytes]) -> Iterator[Evidence]:
        """Compare each page of a name with what is drawn."""
        if HTML in names:
            yield from self._report()
        if pages := [name for name in names if name != HTML]:
            yield from self._pages(pages)

    def _report(self) -> Iterator[Evidence]:
        try:
            annotations = read_annotations(self.folder)
        except StoreError as error:
            why = f"{ANNOTATIONS}, which it shows, cannot be read: {error.message}"
            yield Evidence(HTML, DRAWN, "not verified", why)
            return
        listed = is_listed(self.folder, PDF)
        said = [annotations, ()] if annotations and lacks_annotations(self.folder) else [annotations]
        variants = [_Variant(*each) for each in product(said, (listed, not listed))]
        page, first = self.data[HTML], b""
        for drawn, variant, own in self._attempts(page, variants):
            if drawn == page:
                words = _SAME if own is None else _AROUND
                yield Evidence(HTML, DRAWN, "verified", _remark(variant, annotations, words))
                if own is not None:
                    yield from self._own_pictures(own, first)
                return
            first = first or drawn
        if first:
            yield Evidence(HTML, DRAWN, "FAILED", _difference(page, first))
        elif self._own(self._around(gallery(self.record, {}), variants[0])) is None:
            yield Evidence(HTML, DRAWN, "not verified", f"{_WHOSE}; {_NOT_HERE}")
        else:
            why = "it does not show pictures as koda's reports do: it was changed"
            yield Evidence(HTML, DRAWN, "FAILED", why)

    def _attempts(self, page: bytes, variants: Sequence[_Variant]) -> Iterator[tuple[bytes, _Variant, Gallery | None]]:
        """Draw the report with the stored pictures, and then around those that it has itself, which come along."""
        if self.stored is not None:
            for variant in variants:
                yield self._with_stored(self.stored, variant), variant, None
        if (own := self._own(page)) is not None:
            for is_whole, variant in product((True, False), variants):
                if (drawn := self._around_own(replace(own, is_whole=is_whole), variant)) is not None:
                    yield drawn, variant, own

    def _with_stored(self, stored: Mapping[str, bytes], variant: _Variant) -> bytes:
        return fitted(self.record, stored, lambda some: self._around(some, variant).decode("utf-8"))[0]

    def _around(self, pictures: Gallery, variant: _Variant) -> bytes:
        with_pdf, annotations = variant.with_pdf, variant.annotations
        return draw_page(self.record, pictures, with_pdf=with_pdf, annotations=annotations).encode("utf-8")

    def _around_own(self, pictures: Gallery, variant: _Variant) -> bytes | None:
        """Draw the report around pictures of its own; None where they are none that can be drawn."""
        try:
            return self._around(pictures, variant)
        except Exception:  # what somebody wrote into a page raises whatever the drawing meets
            self._around(gallery(self.record, {}), variant)  # raises too where it is the record that cannot be drawn
            return None

    def _own(self, page: bytes) -> Gallery | None:
        return own_gallery(self.record, page.decode("utf-8", errors="replace"), self._beside)

    @cached_property
    def _beside(self) -> dict[str, bytes]:
        """The pictures of all pages beside the report."""
        found: dict[str, bytes] = {}
        for name, page in self.data.items():
            if name != HTML:
                found = own_thumbnails(self.record, page.decode("utf-8", errors="replace")) | found
        return found

    def _own_pictures(self, own: Gallery, drawn: bytes) -> Iterator[Evidence]:
        """Say what is known of the pictures of a report that is not the one with those that are stored."""
        if not (own.pictures or own.neighbours or own.sheet):
            return
        if self.stored is None:
            yield Evidence(HTML, _PICTURES, "not verified", _NOT_HERE)
            return
        whole = self._own(drawn)
        if whole is None:
            return
        other = [key for key, shown in own.pictures.items() if whole.pictures.get(key) != shown]
        other += [key for key, shown in own.neighbours.items() if whole.neighbours.get(key) != shown]
        if other:
            why = f"those of {counted(len(other), 'sample')} are not the stored ones, such as {printable(other[0])}"
            yield Evidence(HTML, _PICTURES, "FAILED", why)
        elif own.sheet is not None and own.sheet != whole.sheet:
            yield Evidence(HTML, _PICTURES, "FAILED", "those of the map are not the stored ones")
        else:
            yield Evidence(HTML, _PICTURES, "verified", "the stored ones, but for some that it lacks")

    def _pages(self, names: Sequence[str]) -> Iterator[Evidence]:
        """Compare the pages of pictures, where need be around the pictures that all of them have."""
        if self.stored is None and not tells_apart(self.record):
            yield from (Evidence(name, DRAWN, "not verified", f"{_WHOSE}; {_NOT_HERE}") for name in names)
            return
        thumbnails = self._beside if self.stored is None else self.stored
        drawn = draw_gallery_pages(self.record, thumbnails)
        for name in names:
            if name not in drawn:
                yield Evidence(name, DRAWN, "FAILED", f"{RECORD} has no finding of which it could be a page")
            elif drawn[name] != self.data[name]:
                yield Evidence(name, DRAWN, "FAILED", _difference(self.data[name], drawn[name]))
            elif self.stored is None:
                yield Evidence(name, DRAWN, "verified", _AROUND)
                yield Evidence(name, _PICTURES, "not verified", _NOT_HERE)
            else:
                yield Evidence(name, DRAWN, "verified", _SAME)


def _remark(variant: _Variant, annotations: Sequence[Annotation], words: str) -> str:
    if variant.annotations == tuple(annotations):
        return words
    return f"{words}; it was drawn before {ANNOTATIONS}, and shows nothing of it: koda report ID draws it again"


def _difference(page: bytes, drawn: bytes) -> str:
    """Say where a page differs first from the one that is drawn, and what each has there."""
    at = next((at for at, (one, other) in enumerate(zip(page, drawn, strict=False)) if one != other), -1)
    if at < 0:
        at = min(len(page), len(drawn))
    line = page.count(b"\n", 0, at) + 1
    return (
        f"the same software draws another page of {RECORD}. The first difference is in line {line}: it has "
        f"{_excerpt(page, at)}, and the drawn one {_excerpt(drawn, at)}"
    )


def _excerpt(page: bytes, at: int) -> str:
    start = max(at - _SHOWN // 3, page.rfind(b"\n", 0, at) + 1)
    text = page[start : at + _SHOWN].partition(b"\n")[0].decode("utf-8", errors="replace")
    return f"'{one_line(text)}'" if start < len(page) else "nothing more"
