"""The ledger of checkpoints: its files are the truth, and the database follows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from koda.errors import DataError
from koda.records.checkpoint import CheckpointEntry
from koda.storage.checkpoints import CheckpointLedger, entry_id, list_checkpoints
from koda.storage.database import AuditStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def entry(number: int) -> CheckpointEntry:
    return CheckpointEntry(
        id=entry_id(f"{number}", "line"), digest=f"{number}", line="line", paths=(f"/runs/epoch_{number}.pt",),
        label=f"epoch_{number}.pt", first_seen=NOW, changed=NOW.replace(day=number), state="ready",
    )  # fmt: skip


@pytest.fixture
def ledger(tmp_path: Path) -> CheckpointLedger:
    made = CheckpointLedger(tmp_path / "koda-runs")
    for number in (1, 2, 3):
        new = entry(number)
        made.change(new.id, lambda _, new=new: new)  # type: ignore[misc]
    return made


def rows(ledger: CheckpointLedger) -> dict[str, tuple[str, list[str]]]:
    found = AuditStore(ledger.home).query("SELECT digest, state, paths FROM checkpoints")
    return {row["digest"]: (row["state"], row["paths"]) for row in found}


def state(ledger: CheckpointLedger, number: int, to: str) -> None:
    ledger.change(entry(number).id, lambda before: before and before.model_copy(update={"state": to}))


def test_the_database_follows_the_files(ledger: CheckpointLedger) -> None:
    state(ledger, 1, "auditing")
    state(ledger, 1, "audited")
    ledger.follow()
    assert {digest: row[0] for digest, row in rows(ledger).items()} == {"1": "audited", "2": "ready", "3": "ready"}
    assert [each.digest for each in list_checkpoints(ledger.home)] == ["3", "2", "1"]


def test_a_database_that_is_lost_is_made_again_of_the_files(ledger: CheckpointLedger) -> None:
    state(ledger, 2, "refused")
    ledger.follow()
    before = rows(ledger)
    (ledger.home / "koda.duckdb").unlink()
    os.environ["KODA_HOME"] = str(ledger.home)
    result = CliRunner().invoke(app, ["history", "--rebuild", "--checkpoints", "--json"])
    assert result.exit_code == 0
    assert rows(ledger) == before
    assert [each["state"] for each in json.loads(result.stdout)] == ["ready", "refused", "ready"]


def test_changes_at_once_are_made_one_after_the_other(ledger: CheckpointLedger) -> None:
    def count() -> None:
        for _ in range(5):
            ledger.change(
                entry(1).id, lambda before: before and before.model_copy(update={"attempts": before.attempts + 1})
            )

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    now = ledger.read(entry(1).id)
    assert now is not None and now.attempts == 20


def test_one_claims_a_checkpoint_until_it_dies(ledger: CheckpointLedger) -> None:
    script = (
        "import sys, time; from pathlib import Path; from koda.storage.checkpoints import CheckpointLedger\n"
        "with CheckpointLedger(Path(sys.argv[1])).claim('x') as ours: print(ours, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(ledger.home)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "True\n"
        with ledger.claim("x") as ours, ledger.claim("y") as other:
            assert not ours and other
        process.kill()
        process.wait()
        with ledger.claim("x") as ours:
            assert ours


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b'"x"', b"\xff"])
def test_a_file_that_is_damaged_is_none(ledger: CheckpointLedger, damage: bytes) -> None:
    path = ledger.folder / f"{entry(2).id}.json"
    flipped = path.read_bytes().replace(b'"ready"', b'"failed"')
    for content in (damage, flipped, path.read_bytes()[:-9]):
        path.write_bytes(content)
        assert [each.digest for each in list_checkpoints(ledger.home)] == ["3", "1"]


def test_an_entry_of_a_newer_koda_is_not_taken_for_none(ledger: CheckpointLedger) -> None:
    new = entry(4).model_copy(update={"version": 99})
    with pytest.raises(DataError, match="version 99"):
        ledger.change(new.id, lambda _: new)
        ledger.read(new.id)


def test_the_list_needs_neither_the_database_nor_to_write(ledger: CheckpointLedger) -> None:
    with AuditStore(ledger.home).path.open("wb") as file:
        file.write(b"no database")
    before = sorted(ledger.home.rglob("*"))
    os.environ["KODA_HOME"] = str(ledger.home)
    result = CliRunner().invoke(app, ["history", "--checkpoints"])
    assert result.exit_code == 0 and "epoch_3.pt" in result.stdout
    assert sorted(ledger.home.rglob("*")) == before
    assert CliRunner().invoke(app, ["history", "--checkpoints", "--json"], env={"KODA_HOME": "/nowhere"}).exit_code == 0
