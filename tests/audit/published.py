"""A home with the folder of an audit in it, as an audit leaves it, made of a record and no audit."""

from __future__ import annotations

from pathlib import Path

from koda.audit.folders import AUDITS
from koda.audit.plan import RECORDS, REPORTS
from koda.audit.publishing import _put_files
from koda.policy.export import verdict_json
from koda.records import AuditRecord
from koda.report import render
from koda.report.render import draw_gallery_pages
from koda.storage import ArtifactStore, digest_json
from koda.storage.parquet import write_parquet
from tests.report import factory


def small_record(**changes: object) -> AuditRecord:
    return factory.record(2, gallery=2, map_points=0, **changes)


def leave_artifacts(home: Path, record: AuditRecord, *, paged: bool = False) -> tuple[Path, Path]:
    """Leave what the steps "record" and "render" leave, with pages of pictures or without; return both folders."""
    store = ArtifactStore(home / "artifacts")
    key = digest_json(record.to_json())
    pictures = factory.thumbnails(record)
    records = store.folder(RECORDS, key)
    records.mkdir(parents=True)
    (records / "audit.json").write_text(record.to_json(), encoding="utf-8")
    (records / "verdict.json").write_bytes(verdict_json(record))
    (records / "slices.csv").write_text("side,direction\r\n", encoding="utf-8")
    write_parquet(records / "thumbnails.parquet", {"key": list(pictures), "jpeg": list(pictures.values())})
    store.complete(RECORDS, key)
    reports = store.folder(REPORTS, key)
    render(record, pictures, reports, pdf=False)
    for name, page in draw_gallery_pages(record, pictures).items() if paged else ():
        (reports / name).write_bytes(page)
    store.complete(REPORTS, key)
    return records, reports


def put(home: Path, record: AuditRecord, name: str | None = None, *, paged: bool = False) -> Path:
    """Put the folder of an audit in place, and return it."""
    records, reports = leave_artifacts(home, record, paged=paged)
    folder = home / AUDITS / (name or record.id)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _put_files(record.id, reports, records, folder)
    return folder
