"""The tables of the database, as versioned migrations, and how the rows of one audit are merged into them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from koda.errors import StoreError
from koda.storage.chain import CHAIN_TABLE, add_to_chain

MIGRATIONS: tuple[str, ...] = (
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
    """
    ALTER TABLE audits ADD COLUMN record_digest TEXT;
    """,
    """
    ALTER TABLE runs ADD COLUMN state TEXT DEFAULT 'finished';
    ALTER TABLE runs ADD COLUMN trigger TEXT;
    ALTER TABLE runs ADD COLUMN host TEXT;
    ALTER TABLE runs ADD COLUMN flow_run TEXT;
    ALTER TABLE runs ADD COLUMN error TEXT;
    CREATE TABLE steps (
        run_id TEXT, audit_id TEXT, place INTEGER, step TEXT, executed BOOLEAN, seconds DOUBLE,
        peak_bytes BIGINT, peak_device_bytes BIGINT, device TEXT,
        PRIMARY KEY (run_id, place)
    );
    CREATE TABLE figures (
        audit_id TEXT, figure TEXT, value DOUBLE, low DOUBLE, high DOUBLE,
        PRIMARY KEY (audit_id, figure)
    );
    CREATE TABLE checkpoints (
        id TEXT PRIMARY KEY, digest TEXT, line TEXT, paths TEXT[], first_seen TIMESTAMPTZ, changed TIMESTAMPTZ,
        state TEXT, attempts INTEGER, audit_id TEXT, verdict TEXT, reason TEXT
    );
    """,
    CHAIN_TABLE,
)
AUDIT_TABLES = (
    "controls",
    "bandwidths",
    "rejections",
    "directions",
    "themes",
    "slices",
    "metrics",
    "rules",
    "artifacts",
    "figures",
)
TABLES_BY_ID = ("audits", "alignments", "checkpoints")
KEPT_TABLES = ("runs", "steps")  # a row that is there already stays
SHARED_TABLES = ("models", "datasets")  # the same digest is the same thing: the first row stays


def migrate(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Bring the schema up to date.

    Raises:
        StoreError: it is newer than this koda knows.
    """
    connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, applied TIMESTAMPTZ)")
    for number in range(schema_of(connection, path), len(MIGRATIONS)):
        connection.execute("BEGIN")
        connection.execute(MIGRATIONS[number])
        connection.execute("INSERT INTO schema_version VALUES (?, now())", [number + 1])
        connection.execute("COMMIT")


def schema_of(connection: duckdb.DuckDBPyConnection, path: Path) -> int:
    """Return the version of the schema, 0 where there is none.

    Raises:
        StoreError: it is newer than this koda knows.
    """
    tables = connection.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'schema_version'").fetchone()
    if not tables or not tables[0]:
        return 0
    row = connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchone()
    version = int(row[0]) if row else 0
    if version > len(MIGRATIONS):
        raise StoreError(
            f"The database {path} has schema {version}; this koda knows schemas up to {len(MIGRATIONS)}.",
            "Use the koda that wrote it, or a newer one.",
        )
    return version


def merge_folder(connection: duckdb.DuckDBPyConnection, folder: Path, home: Path) -> None:
    """Merge the staged Parquet files of one folder, a table each, in one transaction, and chain the audits in it.

    Args:
        connection: of the database.
        folder: the staged files.
        home: KODA_HOME, whose manifests the chain names.

    Raises:
        duckdb.Error: they do not fit the tables, or the database cannot be written.
        OSError, pyarrow.ArrowException: a file that cannot be read.
    """
    # DuckDB's own reader takes brackets in a path for a pattern and `x=1` in it for a column
    tables = {path.stem: pq.ParquetFile(path).read() for path in sorted(folder.glob("*.parquet"))}
    connection.execute("BEGIN")
    try:
        if "audits" in tables:
            add_to_chain(connection, tables["audits"].to_pylist(), home)
        for name, own in (("audits", AUDIT_TABLES), ("alignments", ("alignment_metrics",))):
            if name in tables:
                ids = tables[name].column("id").to_pylist()
                for table in own:
                    connection.execute(f"DELETE FROM {table} WHERE {name[:-1]}_id IN (SELECT unnest(?))", [ids])
        for name, rows in tables.items():
            kept = name in SHARED_TABLES or name in KEPT_TABLES
            conflict = "OR IGNORE" if kept else "OR REPLACE" if name in TABLES_BY_ID else ""
            connection.register("staged_rows", rows)
            connection.execute(f'INSERT {conflict} INTO "{name}" BY NAME SELECT * FROM staged_rows')
            connection.unregister("staged_rows")
        connection.execute("COMMIT")
    except duckdb.Error:
        with contextlib.suppress(duckdb.Error):  # there is none any more where the database itself failed
            connection.execute("ROLLBACK")
        raise
