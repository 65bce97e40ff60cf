"""Audits that are taken up again after they ended: the report drawn once more, and what people say added to it.

Neither models nor data nor the database are needed: the record and the thumbnails beside it are all.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from koda.audit.annotations import Statement, read_annotations, with_statement
from koda.audit.drawing import draw, find_thumbnails
from koda.audit.folders import (
    ARTIFACTS,
    AUDITS,
    HTML,
    MANIFEST,
    PDF,
    RECORD,
    home_of,
    is_listed,
    listed_pages,
    put_back_signatures,
    read_record,
    sweep,
)
from koda.audit.publishing import find_published
from koda.errors import ConfigError
from koda.records import Annotation, AuditRecord
from koda.storage import ArtifactStore, digest_once, write_atomically
from koda.storage.writing import explain_os_errors


@dataclass(frozen=True)
class Redrawn:
    """A report that was drawn again.

    Args:
        id: of the audit.
        html, pdf: the files; there may be no PDF.
        notes: what its reader should know of how it came out.
        annotations: what it says that people said, the oldest first.
    """

    id: str
    html: Path
    pdf: Path | None
    notes: list[str] = field(default_factory=list)
    annotations: tuple[Annotation, ...] = ()


def redraw(home: Path, name: str, out: Path | None = None, *, pdf: bool = True) -> Redrawn:
    """Draw the report of an audit again.

    Args:
        home: KODA_HOME.
        name: id of an audit in it, the beginning of one, or the path of an audit's folder or of a file in it.
        out: folder that gets the report and copies of the audit's other files; None: the audit's own folder, whose
            report is replaced.
        pdf: whether to make the PDF; without it a former one goes, since it would contradict the HTML.

    Raises:
        ConfigError: no such audit, or a folder that holds another one.
        DataError: a record of a newer koda.
        StoreError: record or annotations are damaged, or nothing can be written.
    """
    folder = find_published(home, name).resolve()
    if out is not None and out.resolve() != folder:
        return _redraw_elsewhere(home, folder, out.absolute(), pdf)
    with held(folder):
        record, annotations = _read(folder)
        thumbnails, notes = find_thumbnails(home, folder)
        if not pdf and (folder / PDF).is_file():
            notes.append(f"The former {PDF} is taken away: it would say other things than the new {HTML}.")
        notes += draw(record, thumbnails, annotations, folder, pdf=pdf)
    return _redrawn(record, folder, notes, annotations)


def annotate(home: Path, name: str, said: Statement) -> Redrawn:
    """Add a statement to what was said of an audit, and draw its report again; figures and verdict stay.

    Args:
        home: KODA_HOME.
        name: of the audit, as for :func:`redraw`.
        said: the statement.

    Raises:
        ConfigError: no such audit, or a statement that does not fit it.
        DataError: a record of a newer koda.
        StoreError: record or annotations are damaged, or nothing can be written.
    """
    folder = find_published(home, name).resolve()
    with held(folder):
        record, _ = _read(folder)
        chain = with_statement(folder, record, said, datetime.now(UTC))
        thumbnails, notes = find_thumbnails(home, folder)
        notes += draw(record, thumbnails, chain.entries, folder, pdf=is_listed(folder, PDF), chain=chain)
    return _redrawn(record, folder, notes, tuple(chain.entries))


def _read(folder: Path) -> tuple[AuditRecord, tuple[Annotation, ...]]:
    if not (folder / RECORD).is_file():
        raise ConfigError(
            f"{folder} is not the folder of an audit: it has no {RECORD}.", "Give an audit's id, or its folder."
        )
    return read_record(folder / RECORD), read_annotations(folder)


def _redrawn(record: AuditRecord, folder: Path, notes: list[str], annotations: tuple[Annotation, ...]) -> Redrawn:
    made = folder / PDF
    return Redrawn(record.id, folder / HTML, made if made.is_file() else None, notes, annotations)


def _redraw_elsewhere(home: Path, folder: Path, out: Path, pdf: bool) -> Redrawn:
    record, annotations = _read(folder)
    thumbnails, notes = find_thumbnails(home, folder)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file.", "Give the name of a folder.")
    if (out / RECORD).is_file() and digest_once(out / RECORD) != digest_once(folder / RECORD):
        raise ConfigError(f"{out} already holds the files of another audit.", "Give another folder.")
    with tempfile.TemporaryDirectory(prefix="koda-report-") as scratch:
        copy = Path(scratch) / "audit"
        copy.mkdir()
        for path in folder.iterdir():
            if path.name == MANIFEST or is_listed(folder, path.name):
                shutil.copyfile(path, copy / path.name)
        notes += draw(record, thumbnails, annotations, copy, pdf=pdf)
        names = sorted(path.name for path in copy.iterdir() if path.name != MANIFEST)
        others = [name for name in names if (out / name).exists() and not is_listed(out, name)]
        if others:
            raise ConfigError(
                f"{out} holds {', '.join(others)} of something else: no manifest of koda lists it.",
                "Give another folder.",
            )
        with explain_os_errors(out):
            for former in (out / PDF, *listed_pages(out)):  # a file that no manifest lists is not koda's
                if is_listed(out, former.name) and not (copy / former.name).is_file():
                    former.unlink(missing_ok=True)
            (out / MANIFEST).unlink(missing_ok=True)
            for path in sorted(copy.iterdir(), key=lambda path: path.name == MANIFEST):  # the manifest last
                write_atomically(out / path.name, path.read_bytes())
    return _redrawn(record, out, notes, annotations)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep others from changing an audit's folder; where it lies in no home, from changing any beside it."""
    home = home_of(folder, ARTIFACTS)
    if home is not None:
        artifacts = ArtifactStore(home / ARTIFACTS)
        with artifacts.lock(AUDITS, folder.name):
            sweep(artifacts, folder.parent, folder.name)
            yield
        return
    handle = os.open(folder.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        put_back_signatures(folder)
        yield
    finally:
        os.close(handle)
