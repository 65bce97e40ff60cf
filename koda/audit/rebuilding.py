"""The database made again from what audits left in their folders, where it was lost or damaged."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from koda.audit.figures_of import figure_rows
from koda.audit.folders import AUDITS, RECORD, checked_bytes, read_record
from koda.audit.plan import EVALUATIONS
from koda.errors import KodaError, StoreError
from koda.records import RECORD_FILE, AuditRecord, read_alignment
from koda.slicing.export import original
from koda.storage import ArtifactStore
from koda.storage.checkpoints import CheckpointLedger
from koda.storage.database import AuditStore
from koda.storage.marks import Mark
from koda.storage.staging import stage

_COLUMNS = ("side", "direction", "lobe", "rank", "key", "score", "in_slice", "split", "caption")


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuilt database holds.

    Args:
        audits, alignments, runs: how many.
        kept: where the database that was there before lies now.
        notes: what could not be taken up.
    """

    audits: int
    alignments: int
    runs: int
    kept: str | None
    notes: list[str] = field(default_factory=list)


def rebuild(home: Path) -> Rebuilt:
    """Make the database again from the folders of the audits, and keep the former one beside it.

    How often an audit was asked for, and what its steps took, stand in the former database alone, and are taken from
    there if it can be read.

    Raises:
        StoreError: nothing can be written, or another program has the database open.
    """
    store = AuditStore(home)
    notes: list[str] = []
    runs, steps = _runs(store, notes)
    kept = store.set_aside()
    slices = _Slices(ArtifactStore(home / "artifacts"))
    records: list[AuditRecord] = []
    for path in sorted((home / AUDITS).glob(f"*/{RECORD}")):
        if path.parent.name.startswith("."):
            continue
        try:
            record = read_record(path)
            rows = slices.of(record, path.parent)
        except (OSError, ValueError, KeyError, KodaError) as error:
            notes.append(f"{path} is left out: {error.message if isinstance(error, KodaError) else error}")
            continue
        store.stage_audit(record, rows, figure_rows(record))
        records.append(record)
    if runs:
        stage(home, {"runs": runs, "steps": steps})
    CheckpointLedger(home).restage()
    notes += store.merge()
    alignments = 0
    for record in records:
        if record.alignment is not None:
            folder = _aligned_model(home, record)
            notes += store.add_alignment(record.alignment, record.id, "" if folder is None else str(folder))
            alignments += 1
    return Rebuilt(len(records), alignments, len(runs), None if kept is None else str(kept), notes)


def _runs(store: AuditStore, notes: list[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the runs that the former database knows, and their steps."""
    try:
        return store.query("SELECT * FROM runs"), store.query("SELECT * FROM steps")
    except StoreError as error:
        notes.append(f"how often and when the audits were asked for is lost: {error.message}")
        return [], []


def _aligned_model(home: Path, record: AuditRecord) -> Path | None:
    """Find the model that an alignment left, by the record beside its weights."""
    for path in (home / "artifacts" / "alignments").glob(f"*/*/{RECORD_FILE}"):
        try:
            if record.alignment is not None and read_alignment(path).id == record.alignment.id:
                return path.parent
        except KodaError:
            continue
    return None


class _Slices:
    """The listed samples of audits: from the artifact of the evaluation, else from the file in the audit's folder."""

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        self._by_digest: dict[str, str] = {}
        for folder in (artifacts.root / EVALUATIONS).glob("*"):
            try:
                self._by_digest[Mark.read(folder).digest] = folder.name
            except (OSError, ValueError):
                continue

    def of(self, record: AuditRecord, folder: Path) -> list[dict[str, Any]]:
        """Return the rows of an audit's slices."""
        key = self._by_digest.get(record.provenance.artifacts.get("evaluate", ""))
        if key is not None and self._artifacts.has(EVALUATIONS, key):
            rows = self._artifacts.read(
                EVALUATIONS, key, lambda place: pq.ParquetFile(place / "slices.parquet").read().to_pylist()
            )
        else:
            rows = list(_listed(record, folder))
        return [{name: row[name] for name in _COLUMNS} for row in rows]


def _listed(record: AuditRecord, folder: Path) -> Iterator[dict[str, Any]]:
    """Read the rows of `slices.csv`; a metadata column may stand where `in_slice` and `split` should."""
    sizes: dict[tuple[str, int, str], int] = {
        (finding.side, finding.direction, lobe.sign): lobe.size
        for finding in record.findings
        for lobe in (finding.positive, finding.negative)
    }
    own = {"discovery", "confirmation"}
    for row in csv.DictReader(io.StringIO(checked_bytes(folder / "slices.csv").decode(), newline="")):
        rank, direction = int(row["rank"]), int(row["direction"])
        size = sizes.get((row["side"], direction, row["lobe"]), 0)
        split = row.get("split")
        yield {
            **row,
            **{name: original(row[name]) for name in ("key", "caption") if row.get(name)},
            "direction": direction,
            "rank": rank,
            "score": float(row["score"]),
            "in_slice": rank <= size,
            "split": split if split in own else None,
        }
