"""An audit that is killed at any moment is finished by the same command, and what it leaves is whole."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from koda.audit.runs import crashed
from koda.storage import ArtifactStore
from koda.storage.database import AuditStore
from tests import prefect_server
from tests.e2e.nursery import Nursery
from tests.e2e.scale import SHORT
from tests.flows.workplace import Workplace, make_workplace

KILLS = 6 if SHORT else 20
#: what the audit has said last when it is killed, some random moment later: nothing yet, then each of its steps
SAID = ("", "embed baseline", "embed candidate", "discover lost", "discover gained", "control", "evaluate", "record",
        "render")  # fmt: skip
LATER = 0.5  # seconds
_SEED = 16
_DATED = {"records", "reports"}  # which say when the audit ran, and how long its steps took


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    prefect_server.start()
    nursery = Nursery(tmp_path_factory.mktemp("nursery"))
    yield nursery
    nursery.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return make_workplace(tmp_path_factory.mktemp("place"))


def digests(home: Path) -> dict[str, str]:
    """Return the digest of every artifact that is no date's."""
    store = ArtifactStore(home / "artifacts")
    return {
        f"{folder.parent.name}/{folder.name}": store.digest(folder.parent.name, folder.name)
        for folder in store.root.glob("*/*")
        if folder.is_dir() and folder.parent.name not in _DATED
    }


def kill(nursery: Nursery, home: Path, command: tuple[str, ...], said: str, later: float) -> int:
    """Run a command, and kill it some seconds after it has said something; return its exit code."""
    run = nursery.start(home, *command)
    while said not in run.said and not run.ended:
        time.sleep(0.01)
    time.sleep(later)
    run.kill()
    return run.wait()


def record_of(home: Path) -> dict[str, Any]:
    (path,) = (home / "audits").glob("[!.]*/audit.json")
    record: dict[str, Any] = json.loads(path.read_bytes())
    return {name: record[name] for name in ("id", "verdict", "findings", "metrics", "data", "controls")}


def test_an_audit_killed_at_any_moment_is_finished_by_the_same_command(
    nursery: Nursery, place: Workplace, tmp_path: Path
) -> None:
    audit = ("audit", str(place.config), "--json")
    code = nursery.run(tmp_path / "undisturbed", *audit)
    assert code == 0, nursery.last.said
    wanted, record = digests(tmp_path / "undisturbed"), record_of(tmp_path / "undisturbed")
    assert {name.partition("/")[0] for name in wanted} >= {"embeddings", "solutions", "controls", "evaluations"}
    draw, marked, kept = random.Random(_SEED), 0, 0
    for number in range(KILLS):
        moment, later = SAID[number * len(SAID) // KILLS], draw.uniform(0, LATER)
        for again in range(5):  # it may end before its moment: then a little sooner
            home = tmp_path / f"home-{number}-{again}"
            code = kill(nursery, home, audit, moment, later / 2**again)
            if code == -signal.SIGKILL:
                break
        assert code == -signal.SIGKILL
        lost = crashed(home)
        marked += len(lost)
        code = nursery.run(home, *audit)
        assert code == 0, f"killed {later:.2f} s after {moment!r}, then: {nursery.last.said}"
        kept += json.loads(nursery.last.answer)["steps_cached"] > 0
        code = nursery.run(home, "doctor", "--store", "--json")
        left = [check for check in json.loads(nursery.last.answer)["checks"] if check["state"] != "ok"]
        assert code == 0 and not left, f"killed {later:.2f} s after {moment!r}, then: {left}"
        assert digests(home) == wanted and record_of(home) == record
        states = [row["state"] for row in AuditStore(home).query("SELECT state FROM runs ORDER BY started")]
        # one that was killed when its end was stored already is finished
        assert states[-1] == "finished" and {*states} <= {"crashed", "finished"}, states
        assert 1 + len(lost) <= len(states) <= 2, states
    assert marked >= KILLS // 2 and kept >= KILLS // 4, (marked, kept)
