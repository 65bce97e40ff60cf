"""`koda serve` starts audits by the clock and from Prefect's UI, says what is wrong, and ends without an orphan."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests.e2e.served import OVER, change, command, make_place, processes_of, serving, wait


def test_the_clock_starts_an_audit_the_ui_another_and_what_is_wrong_is_said(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    change(place, schedule={"cron": "* * * * *"})
    with serving(place) as served:
        assert any("no watch: section" in line for line in served.said)
        name = next(line.split("/")[1] for line in served.said if line.startswith("by hand"))
        wrong = served.start(name, candidate="local-dir:nowhere")
        (scheduled, *_) = wait(lambda: [run for run in served.over("koda-audit") if run["auto_scheduled"]])
        assert scheduled["state_type"] == "COMPLETED"
        wait(lambda: served.state(wrong)["type"] in OVER)
        state = served.state(wrong)
        assert state["type"] == "FAILED" and "nowhere" in state["message"] and "Traceback" not in state["message"]
        other = served.start(name, candidate="local-dir:old", overrides={"discrepancy.n_directions": "1"})
        wait(lambda: served.state(other)["type"] in OVER)
        assert served.state(other)["type"] == "COMPLETED", served.state(other)
        assert served.end(signal.SIGTERM) == 143
        wait(lambda: not processes_of(served.process.pid, place), 10)
    audits = json.loads(command(place, "history", "--json").stdout)
    assert {audit["candidate"] for audit in audits} == {"new", "old"}
