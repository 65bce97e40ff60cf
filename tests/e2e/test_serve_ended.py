"""Runs of `koda serve` that are cancelled or killed: what ends, and what is taken up by the next one."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from tests.e2e.served import change, make_place, processes_of, serving, wait


def test_a_cancelled_run_ends_and_what_is_killed_is_taken_up(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    change(place, schedule={"cron": "0 0 1 1 *"}, significance={"spike_ins": 30, "stability": 20})
    with serving(place) as served:
        name = next(line.split("/")[1] for line in served.said if line.startswith("by hand"))
        run = served.start(name)
        wait(lambda: list((place.home / "running").glob("*.json")))
        served.ask(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}, "force": False})
        begun = time.monotonic()
        wait(lambda: served.state(run)["type"] == "CANCELLED")
        wait(lambda: not list((place.home / "running").glob("*.json")))
        assert time.monotonic() - begun < 30
        again = served.start(name)
        wait(lambda: list((place.home / "running").glob("*.json")))
        served.process.kill()
        wait(lambda: not processes_of(served.process.pid, place), 10)
    change(place, significance={"spike_ins": 0}, schedule=None, watch={"path": "runs/*"})
    with serving(place) as served:
        names = {each["name"] for each in served.ask("/deployments/filter", {})}
        assert names == {name}  # what the configuration has no more is planned no more
        assert any(line.startswith("taken up again") for line in served.said)
        assert served.state(again)["type"] == "CRASHED"
        (taken,) = wait(lambda: [each for each in served.over("koda-audit") if each["id"] not in (run, again)])
        assert taken["state_type"] == "COMPLETED", taken["state"]["message"]
        assert served.end(signal.SIGTERM) == 143
