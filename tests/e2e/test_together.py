"""Eight audits at once over one store, while a reader polls and another program holds the database for 90 seconds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import duckdb

from koda.audit.verification import verify_audit
from koda.records import AuditRecord
from koda.storage.database import AuditStore
from tests import prefect_server
from tests.e2e.nursery import Nursery
from tests.flows.workplace import make_workplace

SEEDS = (0, 1, 2, 3, 4, 5, 5, 0)  # eight audits, six different ones
HELD_SECONDS = 90
#: what nobody is to read: DuckDB's and SQLite's own words, and traces
LOCK_ERRORS = re.compile(r"Could not set lock|Conflicting lock|IO Error|IOException|database is locked|Traceback")
READER = """
import duckdb, sys, time
while True:  # as a dashboard does: open, read, close
    try:
        with duckdb.connect(sys.argv[1], read_only=True) as connection:
            connection.execute("SELECT count(*) FROM audits").fetchone()
    except duckdb.IOException:
        pass
    time.sleep(0.2)
"""
HOLDER = """
import duckdb, sys, time
while True:
    try:
        connection = duckdb.connect(sys.argv[1])
        break
    except duckdb.IOException:
        time.sleep(0.01)
time.sleep(float(sys.argv[2]))
"""


def test_eight_audits_a_reader_and_a_holder_of_the_database(tmp_path: Path) -> None:
    place = make_workplace(tmp_path)
    prefect_server.start()  # one for all eight: eight of their own would be the most of the work
    store = AuditStore(place.home)
    store.stage_run({"run_id": "first", "audit_id": "none"})
    assert store.merge() == []  # so that there is a database to hold

    def program(code: str, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", code, str(store.path), *arguments])

    nursery = Nursery(tmp_path, {**os.environ, "KODA_HOME": str(place.home), "OMP_NUM_THREADS": "1"})
    reader = program(READER)
    audits = [
        nursery.start(place.home, "audit", str(place.config), "--set", f"discrepancy.seed={seed}", "--json")
        for seed in SEEDS
    ]
    while not list((place.home / "running").glob("[!.]*.json")) and not audits[0].ended:
        time.sleep(0.1)  # until an audit goes on: so that it is held while they are to be stored
    holder = program(HOLDER, str(HELD_SECONDS))
    told: list[str] = []
    results: list[dict[str, Any]] = []
    try:
        while not all(audit.ended for audit in audits):
            assert nursery.run(place.home, "history", "--json") == 0, nursery.last.said
            told += [nursery.last.answer, nursery.last.said]
            assert isinstance(json.loads(nursery.last.answer), list)
            time.sleep(3)
        for audit in audits:
            assert audit.wait() in (0, 1), audit.said
            told += [audit.answer, audit.said]
            results.append(json.loads(audit.answer))
        holder.wait(timeout=HELD_SECONDS)
    finally:
        for process in (holder, reader):
            process.kill()
            process.wait()
        for audit in audits[len(results) :]:
            audit.kill()
    assert not [text for text in told if LOCK_ERRORS.search(text)]

    # the next merge, by whoever comes next, takes what waited
    assert store.merged() == []
    ids = {result["id"] for result in results}
    assert len(ids) == len(set(SEEDS))
    with duckdb.connect(str(store.path), read_only=True) as connection:

        def count(sql: str) -> int:
            (n,) = connection.execute(sql).fetchone() or (0,)
            return int(n)

        assert {row[0] for row in connection.execute("SELECT id FROM audits").fetchall()} == ids
        assert count("SELECT count(*) FROM runs WHERE state = 'finished' AND run_id <> 'first'") == len(SEEDS)
        assert count("SELECT count(*) FROM steps") == sum(len(result["steps"]) for result in results)
        for result in results:
            record = AuditRecord.from_json(Path(result["paths"]["record"]).read_bytes())
            assert record.id == result["id"]
            own = f"WHERE audit_id = '{record.id}'"
            assert count(f"SELECT count(*) FROM directions {own}") == len(record.findings)
            assert count(f"SELECT count(*) FROM slices {own}") > 0
            assert count(f"SELECT count(*) FROM rules {own}") == len(record.verdict.rules)
    for name in ids:
        assert not [check for check in verify_audit(place.home / "audits" / name)[1] if check.problem]
    assert nursery.run(place.home, "history", "--json") == 0
    listed = json.loads(nursery.last.answer)
    nursery.close()
    assert {audit["id"]: audit["stored"] for audit in listed} == dict.fromkeys(ids, True)
    assert not list(place.home.rglob("*.tmp"))
    assert not list((place.home / "running").glob("*.json"))
