"""The database of audits: DuckDB with versioned migrations, staged writes and one short merging connection.

DuckDB lets one process write at a time, so a run never holds the database open. It stages its rows
as Parquet files, which a rename makes visible at once; a short transaction then merges every staged
folder, its own and those that killed processes left behind.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from koda.errors import StoreError
from koda.records import AlignmentRecord, AuditRecord
from koda.storage.artifacts import explain_os_errors
from koda.storage.parquet import write_parquet
from koda.storage.rows import alignment_tables, audit_tables

T = TypeVar("T")

DATABASE = "koda.duckdb"
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    # extensions beyond the core are downloads, which many of our machines cannot make
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    # so that the duckdb shell people have, which is often older than the library, opens the file
    "storage_compatibility_version": "v1.2.0",
}
_LOCK_WAIT_SECONDS = 60.0  # of waiting for another process's merge, which takes milliseconds

_MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE audits (
        id TEXT PRIMARY KEY, title TEXT, started TIMESTAMPTZ, ended TIMESTAMPTZ, verdict TEXT,
        baseline TEXT, candidate TEXT, baseline_fingerprint TEXT, candidate_fingerprint TEXT,
        dataset TEXT, dataset_digest TEXT, n_source BIGINT, n_compared BIGINT, n_rejected BIGINT,
        record_version INTEGER, koda_version TEXT, config JSON
    );
    CREATE TABLE runs (
        run_id TEXT PRIMARY KEY, audit_id TEXT, started TIMESTAMPTZ, ended TIMESTAMPTZ, verdict TEXT,
        steps_executed INTEGER, steps_cached INTEGER, seconds DOUBLE
    );
    CREATE TABLE models (
        fingerprint TEXT PRIMARY KEY, name TEXT, pretrained TEXT, architecture TEXT, weights_digest TEXT,
        config_digest TEXT, activation TEXT, precision TEXT, embedding_dim INTEGER, parameters BIGINT
    );
    CREATE TABLE datasets (digest TEXT PRIMARY KEY, name TEXT, path TEXT, n_source BIGINT, licence TEXT, source TEXT);
    CREATE TABLE rejections (audit_id TEXT, key TEXT, reason TEXT);
    CREATE TABLE directions (
        audit_id TEXT, side TEXT, direction INTEGER, target TEXT, reference TEXT,
        target_energy DOUBLE, reference_energy DOUBLE, quotient DOUBLE, multiplier DOUBLE, gap DOUBLE, status TEXT,
        target_share DOUBLE, target_share_low DOUBLE, target_share_high DOUBLE,
        reference_share DOUBLE, reference_share_low DOUBLE, reference_share_high DOUBLE,
        difference DOUBLE, difference_low DOUBLE, difference_high DOUBLE,
        p_value DOUBLE, confirmed BOOLEAN, words TEXT[],
        PRIMARY KEY (audit_id, side, direction)
    );
    CREATE TABLE slices (
        audit_id TEXT, side TEXT, direction INTEGER, lobe TEXT, rank INTEGER, key TEXT, score DOUBLE,
        in_slice BOOLEAN, split TEXT, caption TEXT,
        PRIMARY KEY (audit_id, side, direction, lobe, rank)
    );
    CREATE TABLE metrics (
        audit_id TEXT, role TEXT, model TEXT, subset TEXT, figure TEXT, value DOUBLE, low DOUBLE, high DOUBLE, n BIGINT,
        PRIMARY KEY (audit_id, role, subset, figure)
    );
    CREATE TABLE rules (
        audit_id TEXT, place INTEGER, figure TEXT, observed DOUBLE, low DOUBLE, high DOUBLE, warn DOUBLE, fail DOUBLE,
        result TEXT, owner TEXT, PRIMARY KEY (audit_id, place)
    );
    CREATE TABLE artifacts (audit_id TEXT, step TEXT, digest TEXT, PRIMARY KEY (audit_id, step));
    """,
    """
    CREATE TABLE alignments (
        id TEXT PRIMARY KEY, audit_id TEXT, follow_up_id TEXT, started TIMESTAMPTZ, ended TIMESTAMPTZ,
        student TEXT, teacher TEXT, side TEXT, weights_digest TEXT, folder TEXT, kept_step INTEGER, stopped TEXT,
        recovery DOUBLE, n_train BIGINT, n_held_out BIGINT, settings JSON
    );
    CREATE TABLE alignment_metrics (
        alignment_id TEXT, state TEXT, sample TEXT, subset TEXT, figure TEXT,
        value DOUBLE, low DOUBLE, high DOUBLE, n BIGINT,
        PRIMARY KEY (alignment_id, state, sample, subset, figure)
    );
    """,
    """
    CREATE TABLE controls (
        audit_id TEXT, kind TEXT, share DOUBLE, size BIGINT, role TEXT, noise DOUBLE, trials INTEGER,
        confirmed INTEGER
    );
    CREATE TABLE bandwidths (
        audit_id TEXT, side TEXT, direction INTEGER, tie DOUBLE,
        target_share DOUBLE, reference_share DOUBLE, difference DOUBLE,
        PRIMARY KEY (audit_id, side, direction, tie)
    );
    """,
    """
    ALTER TABLE directions ADD COLUMN name TEXT;
    ALTER TABLE directions ADD COLUMN theme INTEGER;
    CREATE TABLE themes (
        audit_id TEXT, side TEXT, number INTEGER, name TEXT, size BIGINT, confirmed BOOLEAN,
        PRIMARY KEY (audit_id, side, number)
    );
    """,
)
_AUDIT_TABLES = (
    "controls",
    "bandwidths",
    "rejections",
    "directions",
    "themes",
    "slices",
    "metrics",
    "rules",
    "artifacts",
)
_TABLES_BY_ID = ("audits", "alignments")
_SHARED_TABLES = ("models", "datasets")  # the same digest is the same thing: the first row stays


@dataclass(frozen=True)
class AuditStore:
    """The database of one KODA_HOME."""

    home: Path

    @property
    def path(self) -> Path:
        """The database file."""
        return self.home / DATABASE

    def add_audit(self, record: AuditRecord, slices: Sequence[Mapping[str, Any]]) -> None:
        """Store an audit; one of the same id is replaced, in one transaction.

        Args:
            record: the audit.
            slices: rows of the slices table, without the audit's id.

        Raises:
            StoreError: the disk is full, or the database stayed locked.
        """
        self._stage(audit_tables(record, slices))
        self.merge()

    def add_run(self, run: Mapping[str, Any]) -> None:
        """Note that an audit was asked for, and how many of its steps had to be executed."""
        self._stage({"runs": [run]})
        self.merge()

    def add_alignment(self, record: AlignmentRecord, follow_up: str, folder: str) -> None:
        """Store an alignment; one of the same id is replaced.

        Args:
            record: the alignment.
            follow_up: id of the audit that followed it.
            folder: of the aligned model.
        """
        self._stage(alignment_tables(record, follow_up, folder))
        self.merge()

    def merge(self) -> None:
        """Merge everything that is staged."""
        staging = self.home / "staging"
        if not staging.is_dir():
            return
        with explain_os_errors(self.path):
            self._patiently(lambda: self._merge_staged(staging))

    def has_audit(self, audit: str) -> bool:
        """Tell whether an audit is in the database."""
        return bool(self.query("SELECT count(*) AS n FROM audits WHERE id = ?", [audit])[0]["n"])

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Answer a question, as a list of rows by column name; an absent database has no rows to give.

        Raises:
            StoreError: the database cannot be read.
        """

        def ask() -> list[dict[str, Any]]:
            with self._connected() as connection:
                result = connection.cursor().execute(sql, list(parameters))
                names = [column[0] for column in result.description or ()]
                return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

        return self._patiently(ask)

    def list_audits(self) -> list[dict[str, Any]]:
        """Return the audits, the latest first, each with how often and when it was asked for.

        `aligned_after` is the audit whose findings a model of this one was aligned on, else None.
        """
        return self.query(
            """
            SELECT a.id, a.verdict, a.baseline, a.candidate, a.dataset, a.n_compared, a.ended,
                   coalesce(r.runs, 0) AS runs, r.last_run, l.aligned_after
            FROM audits a
            LEFT JOIN (SELECT audit_id, count(*) AS runs, max(ended) AS last_run FROM runs GROUP BY audit_id) r
                ON r.audit_id = a.id
            LEFT JOIN (SELECT follow_up_id, arg_max(audit_id, ended) AS aligned_after FROM alignments
                       GROUP BY follow_up_id) l
                ON l.follow_up_id = a.id
            ORDER BY coalesce(r.last_run, a.ended) DESC, a.id
            """
        )

    def audits_of_line(self, baseline_fingerprint: str, dataset: str) -> list[dict[str, Any]]:
        """Return id and end of the audits against one baseline on data of one name, the latest first."""
        return self.query(
            "SELECT id, ended FROM audits WHERE baseline_fingerprint = ? AND dataset = ? ORDER BY ended DESC, id",
            [baseline_fingerprint, dataset],
        )

    @contextlib.contextmanager
    def _connected(self) -> Iterator[duckdb.DuckDBPyConnection]:
        self.home.mkdir(parents=True, exist_ok=True)
        connection = duckdb.connect(str(self.path), config=_SETTINGS)
        try:
            _migrate(connection, self.path)
            yield connection
        finally:
            connection.close()

    def _patiently(self, work: Callable[[], T]) -> T:
        """Do work that needs the database, waiting (with jitter) while another process has it."""
        give_up = time.monotonic() + _LOCK_WAIT_SECONDS
        while True:
            try:
                return work()
            except duckdb.IOException as error:
                if "lock" not in str(error).lower():
                    full = "no space" in str(error).lower()
                    remedy = "Free some space and run again." if full else "Move the file away to start a new database."
                    raise StoreError(f"The database {self.path} cannot be used: {error}.", remedy) from error
                if time.monotonic() > give_up:
                    raise StoreError(
                        f"The database {self.path} stayed locked by another process for {_LOCK_WAIT_SECONDS:.0f} s.",
                        "Close the program that has it open (a duckdb shell, say); nothing is lost, the next run "
                        "stores what is staged.",
                    ) from error
                time.sleep(random.uniform(0.02, 0.3))
            except duckdb.Error as error:
                raise StoreError(f"The database {self.path} cannot be used: {error}.") from error

    def _stage(self, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        staging = self.home / "staging"
        with explain_os_errors(staging):
            staging.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(dir=staging, prefix=".new-"))
            try:
                for name, rows in tables.items():
                    if rows:
                        columns = {column: [row.get(column) for row in rows] for column in rows[0]}
                        write_parquet(temporary / f"{name}.parquet", columns)
                stamp = f"{time.time_ns()}-{os.getpid()}-{random.randrange(10**6):06d}"
                temporary.rename(staging / stamp)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise

    def _merge_staged(self, staging: Path) -> None:
        merged = []
        with self._connected() as connection:
            connection.execute("BEGIN")
            for folder in sorted(path for path in staging.iterdir() if not path.name.startswith(".")):
                _merge_folder(connection, folder)
                merged.append(folder)
            connection.execute("COMMIT")
        for folder in merged:
            shutil.rmtree(folder, ignore_errors=True)


def _migrate(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Bring the schema up to date; a newer one than ours is refused."""
    connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, applied TIMESTAMPTZ)")
    row = connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchone()
    version = int(row[0]) if row else 0
    if version > len(_MIGRATIONS):
        raise StoreError(
            f"The database {path} has schema {version}; this koda knows schemas up to {len(_MIGRATIONS)}.",
            "Use the koda that wrote it, or a newer one.",
        )
    for number in range(version, len(_MIGRATIONS)):
        connection.execute("BEGIN")
        connection.execute(_MIGRATIONS[number])
        connection.execute("INSERT INTO schema_version VALUES (?, now())", [number + 1])
        connection.execute("COMMIT")


def _merge_folder(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    files = {path.stem: str(path) for path in folder.glob("*.parquet")}
    if "audits" in files:
        ids = "SELECT id FROM read_parquet(?)"
        for name in _AUDIT_TABLES:
            connection.execute(f"DELETE FROM {name} WHERE audit_id IN ({ids})", [files["audits"]])
    if "alignments" in files:
        ids = "SELECT id FROM read_parquet(?)"
        connection.execute(f"DELETE FROM alignment_metrics WHERE alignment_id IN ({ids})", [files["alignments"]])
    for name, path in files.items():
        kept = name in _SHARED_TABLES or name == "runs"
        conflict = "OR IGNORE" if kept else "OR REPLACE" if name in _TABLES_BY_ID else ""
        connection.execute(f"INSERT {conflict} INTO {name} BY NAME SELECT * FROM read_parquet(?)", [path])
