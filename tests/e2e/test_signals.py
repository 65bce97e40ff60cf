"""Signals end an audit and its server soon, with their exit code, and the same command takes up what was finished."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import time
from collections.abc import Iterator

import psutil
import pytest

from koda.storage.database import AuditStore
from tests import prefect_server
from tests.e2e.nursery import Nursery
from tests.flows.workplace import Workplace, make_workplace

_SECONDS_TO_END = 10


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    place = make_workplace(tmp_path_factory.mktemp("place"))
    prefect_server.furnish(place.home)
    return place


@pytest.fixture(scope="module")
def nursery(place: Workplace) -> Iterator[Nursery]:
    """Return what runs the command with a server of its own, as at a user's."""
    nursery = Nursery(place.folder, {**prefect_server.without(), "KODA_HOME": str(place.home), "OMP_NUM_THREADS": "1"})
    yield nursery
    nursery.close()


@pytest.mark.parametrize(
    ("number", "code", "step", "state"),
    [
        (signal.SIGINT, 130, "embed baseline", "cancelled"),
        (signal.SIGTERM, 143, "embed candidate", "cancelled"),
        (signal.SIGKILL, -9, "evaluate", "crashed"),
    ],
)
def test_an_audit_that_is_stopped_leaves_no_process_and_a_whole_store(
    place: Workplace, nursery: Nursery, number: signal.Signals, code: int, step: str, state: str
) -> None:
    run = nursery.start(place.home, "audit", str(place.config))
    process = psutil.Process(run.pid)
    while step not in run.said:
        assert not run.ended, "the audit ended before the step"
        time.sleep(0.02)
    time.sleep(random.Random(code).uniform(0, 0.3))
    family = process.children(recursive=True)
    assert sum("server_process" in " ".join(child.cmdline()) for child in family) == 1
    begun = time.monotonic()
    process.send_signal(number)
    assert run.wait() == code
    assert time.monotonic() - begun < _SECONDS_TO_END
    _, alive = psutil.wait_procs(family, timeout=_SECONDS_TO_END)
    for left in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            assert left.status() == psutil.STATUS_ZOMBIE
    if state == "crashed":
        nursery.run(place.home, "history")  # which tells of a run that ended without a word
    store = AuditStore(place.home)
    store.merge()
    assert store.query("SELECT state FROM runs ORDER BY started")[-1]["state"] == state
    assert nursery.run(place.home, "doctor", "--store") == 0, nursery.last.answer


def test_the_same_command_finishes_what_was_stopped(place: Workplace, nursery: Nursery) -> None:
    code = nursery.run(place.home, "audit", str(place.config), "--json")
    assert code in (0, 1), nursery.last.said
    result = json.loads(nursery.last.answer)
    assert [step["executed"] for step in result["steps"][:4]] == [False] * 4
    assert result["steps"][-1]["executed"]
    assert nursery.run(place.home, "verify", result["paths"]["folder"]) == 0
