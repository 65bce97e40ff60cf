"""The report in the folder of an audit, drawn again from its record, the thumbnails and what people said since."""

from __future__ import annotations

import contextlib
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from koda.audit.annotations import read_annotations
from koda.audit.folders import (
    ANNOTATIONS,
    ARTIFACTS,
    HTML,
    PDF,
    RECORD,
    SIGNED,
    checked_bytes,
    home_of,
    is_listed,
    listed_pages,
    replace_files,
)
from koda.audit.plan import RECORDS
from koda.errors import StoreError
from koda.records import Annotation, Annotations, AuditRecord
from koda.storage import ArtifactStore, digest_once, write_atomically
from koda.storage.marks import Mark


def draw_with_annotations(
    record: AuditRecord, thumbnails: Mapping[str, bytes], folder: Path, *, pdf: bool
) -> list[str]:
    """Draw the report in an audit's folder with the annotations that lie there; return notes on how it came out.

    Args:
        record: of the audit.
        thumbnails: sample key -> JPEG bytes.
        folder: of the audit; the caller holds its lock.
        pdf: whether to make the PDF.

    Raises:
        StoreError: the annotations are damaged, or nothing can be written.
    """
    return draw(record, thumbnails, read_annotations(folder), folder, pdf=pdf)


def draw(
    record: AuditRecord,
    thumbnails: Mapping[str, bytes],
    annotations: Sequence[Annotation],
    folder: Path,
    *,
    pdf: bool,
    chain: Annotations | None = None,
) -> list[str]:
    """Draw a report beside a folder, and put it there in place of the former one; return notes on how it came out.

    Args:
        record, thumbnails, folder, pdf: as for :func:`draw_with_annotations`.
        annotations: that it shows.
        chain: annotations that take the place of those in the folder, together with the report.

    Raises:
        StoreError: the manifest of the folder is damaged, or nothing can be written.
    """
    from koda.report import render  # with the templates' libraries, which those who only read audits do without

    with tempfile.TemporaryDirectory(prefix="koda-report-") as scratch:
        drawn = render(record, thumbnails, Path(scratch), pdf=pdf, annotations=annotations)
        former = (folder / HTML, folder / PDF, *listed_pages(folder))
        new: dict[str, Path | None] = {path.name: None for path in former if path.is_file()}
        new |= {path.name: path for path in Path(scratch).iterdir()}
        if chain is not None:
            new[ANNOTATIONS] = Path(scratch) / ANNOTATIONS
            write_atomically(Path(scratch) / ANNOTATIONS, chain.to_json().encode())
        replace_files(folder, new)
    notes = list(drawn.notes)
    if (folder / SIGNED).is_dir():
        notes.append(
            f"What lies in {folder / SIGNED} was signed before, and its signatures are not of these files: sign again "
            f"with koda sign {shlex.quote(str(folder))} --key PRIVATE."
        )
    return notes


def read_thumbnails(records: Path) -> dict[str, bytes]:
    """Return sample key -> JPEG of what the record step left in a folder."""
    columns = pq.ParquetFile(records / "thumbnails.parquet").read().to_pydict()
    return dict(zip(columns["key"], columns["jpeg"], strict=True))


def stored_thumbnails(home: Path | None, folder: Path) -> dict[str, bytes] | None:
    """Return the thumbnails that an audit left among the artifacts of its home or of another; None where it has none.

    Args:
        home: KODA_HOME; None to look in that of the folder alone.
        folder: of the audit, which may lie elsewhere.
    """
    digest = digest_once(folder / RECORD)
    for place in dict.fromkeys(filter(None, (home_of(folder, ARTIFACTS), home))):
        store = ArtifactStore(place / ARTIFACTS)
        for artifact in (store.root / RECORDS).glob("[!.]*"):
            with contextlib.suppress(OSError, ValueError, StoreError):  # unfinished or damaged: another may do
                entry = Mark.read(artifact).files.get(RECORD)
                if entry is not None and entry.sha256 == digest:
                    return store.read(RECORDS, artifact.name, read_thumbnails)
    return None


def find_thumbnails(home: Path, folder: Path) -> tuple[dict[str, bytes], list[str]]:
    """Find the thumbnails of an audit: among the artifacts of its home or of another, else in its former report.

    Args:
        home: KODA_HOME.
        folder: of the audit, which may lie elsewhere.

    Returns:
        Sample key -> JPEG bytes, and notes on where they are from.
    """
    from koda.report.former import pictures_in

    if (stored := stored_thumbnails(home, folder)) is not None:
        return stored, []
    found: dict[str, bytes] = {}
    for path in (*listed_pages(folder), folder / HTML):  # the pages have the larger pictures
        with contextlib.suppress(OSError, ValueError, StoreError):  # damaged: the others have theirs
            if is_listed(folder, path.name):
                found = pictures_in(checked_bytes(path).decode("utf-8")) | found
    if not found:
        return {}, []  # the report says itself how many pictures it lacks
    return found, [f"The pictures are those of the former {HTML}: {home} has no artifact of this record."]
