"""Prefect's own database in KODA_HOME, when it cannot be used."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

import pytest

from flows.prefect_database import fault_of, is_up_to_date, set_aside
from tests import prefect_server


def write(path: Path, *statements: str) -> Path:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    return path


def of_prefect(path: Path, version: str) -> Path:
    return write(
        path,
        "CREATE TABLE alembic_version (version_num TEXT)",
        f"INSERT INTO alembic_version VALUES ('{version}')",
        "CREATE TABLE flow_run (name TEXT)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) "
        "INSERT INTO flow_run SELECT 'run ' || i FROM n",
    )


def test_a_database_that_is_missing_empty_or_prefects_is_used(tmp_path: Path) -> None:
    assert fault_of(tmp_path / "prefect.db") is None
    assert fault_of(write(tmp_path / "empty.db")) is None
    earlier = of_prefect(tmp_path / "earlier.db", "f327e877e423")
    assert fault_of(earlier) is None and not is_up_to_date(earlier)


def test_the_database_that_prefects_server_has_made_is_up_to_date() -> None:
    prefect_server.start()
    database = Path(os.environ["PREFECT_HOME"]) / "prefect.db"
    assert fault_of(database) is None and is_up_to_date(database)


def test_a_database_of_a_newer_prefect_is_known(tmp_path: Path) -> None:
    assert "newer Prefect" in str(fault_of(of_prefect(tmp_path / "prefect.db", "0000f0000000")))


def test_a_database_of_something_else_is_known(tmp_path: Path) -> None:
    assert "not Prefect's" in str(fault_of(write(tmp_path / "prefect.db", "CREATE TABLE other (x)")))


@pytest.mark.parametrize("offset", [0, 5000], ids=["its head", "a page of it"])
def test_a_damaged_database_is_known(tmp_path: Path, offset: int) -> None:
    path = of_prefect(tmp_path / "prefect.db", "f327e877e423")
    data = bytearray(path.read_bytes())
    data[offset : offset + 4000] = b"\xa7" * 4000
    path.write_bytes(data)
    assert "damaged" in str(fault_of(path))


def test_a_damaged_page_of_a_large_database_is_known(tmp_path: Path) -> None:
    """Prefect's server would start with it, and then refuse every run."""
    path = of_prefect(tmp_path / "prefect.db", "f327e877e423")
    end = path.stat().st_size
    write(path, "CREATE TABLE log (line)", f"INSERT INTO log VALUES (zeroblob({2**26}))")
    with path.open("r+b") as file:
        file.seek(end - 4096)
        file.write(b"\xa7" * 4096)
    assert "damaged" in str(fault_of(path))


def test_a_database_that_another_process_writes_is_not_taken_for_damaged(tmp_path: Path) -> None:
    path = of_prefect(tmp_path / "prefect.db", "f327e877e423")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN EXCLUSIVE")
        assert fault_of(path) is None


def test_what_is_set_aside_keeps_its_content_and_frees_the_name(tmp_path: Path) -> None:
    path = tmp_path / "prefect.db"
    for end in ("", "-wal"):
        path.with_name(path.name + end).write_text(f"content{end}", encoding="utf-8")
    aside = set_aside(path)
    assert aside.read_text(encoding="utf-8") == "content"
    assert aside.with_name(aside.name + "-wal").read_text(encoding="utf-8") == "content-wal"
    assert {found.name for found in tmp_path.iterdir()} == {aside.name, f"{aside.name}-wal"}
