"""Pages beside the HTML report, one a finding, for pictures that would bring it over 5 MB; linked both ways."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from koda.records import AuditRecord, Finding
from koda.records.page_names import page_name
from koda.report import environment, text, view
from koda.report.page_software import page_software
from koda.report.thumbnails import Gallery, gallery, unshrunk
from koda.wording import agreeing

MOST_BYTES = 5_000_000  # of the report
_FIRST = (6, 0)  # pictures of each lobe that the report itself shows, if they fit with all others
_CAPTION = 400  # characters of what is said of a neighbour


@dataclass(frozen=True)
class NearPicture:
    """A picture of a sample that is near those of a finding."""

    key: str
    caption: str
    href: str


def fitted(
    record: AuditRecord, thumbnails: Mapping[str, bytes], draw: Callable[[Gallery], str]
) -> tuple[bytes, Gallery]:
    """Draw the HTML report with all of its pictures, or, where it would be over 5 MB, with the first of each lobe.

    Where no finding has a picture, which a page of its own could show, those of the map and of neighbours are left out.

    Args:
        record: of the audit.
        thumbnails: sample key -> JPEG bytes.
        draw: makes the report with some pictures.
    """
    pictures = gallery(record, thumbnails)
    if pictures.is_whole and len(page := draw(pictures).encode("utf-8")) <= MOST_BYTES:
        return page, pictures
    can_be_paged = pictures.total > pictures.missing
    for first in _FIRST if can_be_paged else ():
        pictures = gallery(record, thumbnails, first=first)
        if first and not pictures.is_whole:
            continue
        page = draw(pictures).encode("utf-8")
        if len(page) <= MOST_BYTES:
            return page, pictures
    # long captions leave no room for the pictures of map and neighbours
    pictures = gallery(record, thumbnails, most=0, first=0 if can_be_paged else None)
    if len(page := draw(pictures).encode("utf-8")) > MOST_BYTES:
        pictures = replace(pictures, is_over=True)
        page = draw(pictures).encode("utf-8")  # which says it
    return page, pictures


def notes_on(record: AuditRecord, pictures: Gallery) -> list[str]:
    """Say that pictures are on pages of their own, which the report lacks, and that it is over 5 MB all the same."""
    notes = []
    points = record.metrics.map
    if pictures.is_paged:
        number = text.plural(len(record.findings), "page")
        notes.append(
            f"With all of its pictures report.html would be over 5 MB: {number} beside it, one a finding, "
            f"{agreeing(len(record.findings), 'has', 'have')} them."
        )
        if pictures.sheet is None and not pictures.is_whole and points is not None and points.keys:
            notes.append(
                "Samples of the map that no gallery shows have no picture in report.html, for the same reason."
            )
    elif not pictures.is_whole:
        notes.append("Samples of the map and neighbours have no picture in report.html, which would be over 5 MB.")
    if pictures.is_over:
        notes.append("report.html is over 5 MB by its texts alone, such as captions and metadata.")
    return notes


def pages(
    record: AuditRecord, thumbnails: Mapping[str, bytes], findings: Sequence[Finding], folder: Path
) -> Iterator[tuple[str, bytes]]:
    """Draw a page of each finding, with its pictures as they are; return names and bytes.

    Args:
        record: of the audit.
        thumbnails: sample key -> JPEG bytes.
        findings: in the order of the report.
        folder: of the templates.
    """
    style = environment.style(folder, "html")
    template = environment.environment(folder).get_template("gallery.html.j2")
    names = [("", ""), *((page_name(f.subset), view.numbered(f.subset)) for f in findings), ("", "")]
    digest = hashlib.sha256(record.to_json().encode("utf-8")).hexdigest()
    for place, finding in enumerate(findings):
        pictures = unshrunk(record, thumbnails, finding)
        shown = view.view(record, finding, pictures)
        page = template.render(
            record=record,
            target="html",
            v=shown,
            near=list(_near(record, finding, pictures)),
            before=names[place],
            after=names[place + 2],
            style=style,
            csp=environment.policy(style, ""),
            record_digest=digest,
            drawn_by=page_software(),
        )
        yield page_name(finding.subset), page.encode("utf-8")


def _near(record: AuditRecord, finding: Finding, pictures: Gallery) -> Iterator[NearPicture]:
    """Return the neighbours of the samples of a finding that have a picture and are not among these themselves."""
    shown = {sample.key for lobe in (finding.positive, finding.negative) for sample in lobe.samples}
    near = chain.from_iterable((*s.baseline, *s.candidate) for s in record.looks.neighbours if s.key in shown)
    said = {s.key: s.caption for f in record.findings for lobe in (f.positive, f.negative) for s in lobe.samples}
    said |= {key: sample.caption for key, sample in record.looks.samples.items()}
    for key in dict.fromkeys(neighbour.key for neighbour in near):
        if key not in shown and key in pictures.pictures:
            yield NearPicture(key, text.shorten(said.get(key), _CAPTION), pictures.pictures[key])
