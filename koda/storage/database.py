"""The database of audits: DuckDB with versioned migrations, staged writes and one short merging connection.

DuckDB lets one process write at a time, so a run never holds the database open. It stages its rows
as Parquet files, which a rename makes visible at once; a short transaction then merges every staged
folder, its own and those that killed processes left behind. A database that cannot be written now,
since someone looks into it, stops nothing: what is staged is merged by the next run.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koda.errors import StoreError
from koda.records import AlignmentRecord, AuditRecord
from koda.storage.connection import DatabaseBusyError, patiently, reading, writing
from koda.storage.rows import alignment_tables, audit_tables
from koda.storage.staging import STAGING, merge_all, stage, staged
from koda.storage.writing import explain_os_errors

DATABASE = "koda.duckdb"
_merging = threading.Lock()  # threads of one process share the database, where processes shut each other out


@dataclass(frozen=True)
class AuditStore:
    """The database of one KODA_HOME."""

    home: Path

    @property
    def path(self) -> Path:
        """The database file."""
        return self.home / DATABASE

    def stage_audit(
        self, record: AuditRecord, slices: Sequence[Mapping[str, Any]], figures: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """Leave an audit for the next merge.

        Args:
            record: the audit.
            slices: the rows of its slices.
            figures: the rows of its figures, which the policy knows.
        """
        stage(self.home, {**audit_tables(record, slices), "figures": figures})

    def stage_run(self, run: Mapping[str, Any], steps: Sequence[Mapping[str, Any]] = ()) -> None:
        """Leave for the next merge that an audit was asked for, and what each of its steps took."""
        stage(self.home, {"runs": [run], "steps": steps})

    def add_alignment(self, record: AlignmentRecord, follow_up: str, folder: str) -> list[str]:
        """Store an alignment; one of the same id is replaced.

        Args:
            record: the alignment.
            follow_up: id of the audit that followed it.
            folder: of the aligned model.

        Returns:
            What people are to know.
        """
        stage(self.home, alignment_tables(record, follow_up, folder))
        return self.merged()

    def merge(self) -> list[str]:
        """Merge everything that is staged; return what could not be merged and is set aside.

        Raises:
            StoreError: the database is open elsewhere, damaged, newer than this koda, or on a full disk.
        """
        if not staged(self.home):
            return []

        def work() -> list[str]:
            with _merging, writing(self.path) as connection:
                return merge_all(self.home, connection)

        with explain_os_errors(self.path):
            return patiently(self.path, work)

    def merged(self) -> list[str]:
        """Merge everything that is staged; where the database cannot be written now, say so and leave it staged."""
        try:
            return self.merge()
        except StoreError as error:
            waiting = f"Until then what this run is to store waits in {self.home / STAGING}."
            return [" ".join(part for part in (error.message, error.remedy, waiting) if part)]

    def record_digest(self, audit: str) -> str | None:
        """Return the digest of the record whose rows are in the database; None if there is none that can be read."""
        try:
            rows = self.query("SELECT record_digest FROM audits WHERE id = ?", [audit])
        except StoreError:
            return None
        return rows[0]["record_digest"] if rows else None

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Answer a question, as a list of rows by column name; an absent database has no rows to give.

        Raises:
            StoreError: the database cannot be read.
        """

        def ask() -> list[dict[str, Any]]:
            if not self.path.is_file():
                return []
            with reading(self.path) as connection:
                result = connection.cursor().execute(sql, list(parameters))
                names = [column[0] for column in result.description or ()]
                return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

        return patiently(self.path, ask, reads_only=True)

    def list_audits(self) -> list[dict[str, Any]]:
        """Return the audits, the latest first, each with how often and when it was asked for.

        `aligned_after` is the audit whose findings a model of this one was aligned on, else None.
        """
        return self.query(
            """
            SELECT a.id, a.verdict, a.baseline, a.candidate, a.dataset, a.n_compared, a.ended,
                   coalesce(r.runs, 0) AS runs, r.last_run, r.last_state, r.last_error, l.aligned_after
            FROM audits a
            LEFT JOIN (SELECT audit_id, count(*) AS runs, max(ended) AS last_run, arg_max(state, ended) AS last_state,
                              arg_max_null(error, ended) AS last_error
                       FROM runs GROUP BY audit_id) r
                ON r.audit_id = a.id
            LEFT JOIN (SELECT follow_up_id, arg_max(audit_id, ended) AS aligned_after FROM alignments
                       GROUP BY follow_up_id) l
                ON l.follow_up_id = a.id
            ORDER BY coalesce(r.last_run, a.ended) DESC, a.id
            """
        )

    def audits_of_line(self, baseline_weights: str, dataset: str) -> list[dict[str, Any]]:
        """Return the audits against one baseline on data of one name, the latest first: id, end, models' fingerprints.

        The baseline is known by the digest of its weights, so that a line goes on when a library gets a new version.
        """
        return self.query(
            "SELECT id, ended, baseline_fingerprint, candidate_fingerprint "
            "FROM audits JOIN models ON fingerprint = baseline_fingerprint "
            "WHERE weights_digest = ? AND dataset = ? ORDER BY ended DESC, id",
            [baseline_weights, dataset],
        )

    def set_aside(self) -> Path | None:
        """Move the database out of the way, so that the next merge begins a new one; return where it is then.

        Raises:
            StoreError: another program has it open, or nothing can be moved there.
        """
        if not self.path.exists():
            return None
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        place = self.path.with_name(f"{self.path.name}.{stamp}-{os.getpid()}")

        def move() -> None:
            self.path.rename(place)
            log = self.path.with_name(f"{self.path.name}.wal")
            if log.exists():
                log.rename(place.with_name(f"{place.name}.wal"))

        def move_alone() -> None:
            with writing(self.path):  # so that nobody is writing to what is moved
                move()

        with explain_os_errors(self.path):
            try:
                patiently(self.path, move_alone)
            except DatabaseBusyError:
                raise
            except StoreError:  # damaged, which nobody can write to
                if self.path.exists():
                    move()
        return place
