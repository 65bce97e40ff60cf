"""The watcher killed at random moments: no checkpoint is audited twice, none is missed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from koda.storage.checkpoints import list_checkpoints
from koda.storage.database import AuditStore
from tests import prefect_server
from tests.checkpoints.place import AS, PATTERN, write_checkpoint
from tests.e2e.nursery import Nursery, Run
from tests.flows.test_signals import as_in_a_terminal
from tests.flows.workplace import Workplace, make_workplace
from tests.tiny import _CONFIG

#: what the watcher has said last when it is killed, some random moment later: up to six while it is at the first
#: checkpoint, then at the second
SAID = ["watching", "embed baseline", "against", "discover gained", "evaluate:", "render", "against", "evaluate:",
        "render", "watching"]  # fmt: skip
LATER = 1.0  # seconds
PATIENCE = 120.0
COMMAND = [sys.executable, "-c", "from flows.cli import main; main()"]


def test_killed_at_ten_moments(tmp_path: Path) -> None:
    place = watched(tmp_path)
    environment = {**os.environ, "KODA_HOME": str(place.home), "OMP_NUM_THREADS": "1"}
    prefect_server.start()
    checkpoints = place.folder / "runs" / "a" / "checkpoints"
    write_checkpoint(checkpoints / "epoch_1.pt", 1)
    whole = write_checkpoint(tmp_path / "aside" / "2.pt", 2).read_bytes()
    moments = random.Random(16)
    with contextlib.closing(Nursery(tmp_path)) as nursery:
        kill_again_and_again(place, nursery, moments, checkpoints, whole)
    done = subprocess.run(
        [*COMMAND, "watch", str(place.config), "--once", "--json"],
        env=environment, capture_output=True, text=True, timeout=300, preexec_fn=as_in_a_terminal,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    check(place, environment)
    again = subprocess.run([*COMMAND, "watch", str(place.config), "--once", "--json"], env=environment,
                           capture_output=True, text=True, timeout=300)  # fmt: skip
    result: dict[str, Any] = json.loads(again.stdout)
    assert result["events"] == [] and result["audits"] == [] and result["unsettled"] == []


def kill_again_and_again(
    place: Workplace, nursery: Nursery, moments: random.Random, checkpoints: Path, whole: bytes
) -> None:
    for kill, said in enumerate(SAID):
        if kill == 3:
            (checkpoints / "epoch_2.pt").write_bytes(whole[: len(whole) // 2])
            (checkpoints / "epoch_3.pt").write_bytes(b"this was a checkpoint" * 1000)
        if kill == 6:
            with (checkpoints / "epoch_2.pt").open("ab") as file:
                file.write(whole[len(whole) // 2 :])
        watcher = nursery.start(place.home, "watch", str(place.config))
        try:
            wait_for(said, watcher)
            time.sleep(moments.uniform(0, LATER))
        finally:
            watcher.kill()
        assert watcher.wait() == -signal.SIGKILL


def wait_for(said: str, watcher: Run) -> None:
    """Wait until the watcher says something; where everything is audited it never does, which is a moment too."""
    give_up, idle = time.monotonic() + PATIENCE, 0.0
    while said not in (text := watcher.said) and time.monotonic() < give_up:
        time.sleep(0.02)
        idle = idle + 0.02 if "watching" in text and "against" not in text else 0.0
        if idle > 15:
            return


def watched(folder: Path) -> Workplace:
    place = make_workplace(folder)
    (folder / "arch.json").write_text(json.dumps(_CONFIG), encoding="utf-8")
    raw = yaml.safe_load(place.config.read_text(encoding="utf-8"))
    del raw["candidate"]
    raw["watch"] = {"path": PATTERN, "every": 0.5, "settle": 2, "as": AS}
    raw["promote"] = {
        "on": ["pass", "warn", "fail", "inconclusive"],
        "run": ["sh", "-c", 'echo "$0" >> ran', "{audit}"],
    }
    place.config.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return place


def check(place: Workplace, environment: dict[str, str]) -> None:
    entries = list_checkpoints(place.home)
    states = Counter(entry.state for entry in entries)
    audited = {entry.label: entry for entry in entries if entry.state == "audited"}
    assert sorted(audited) == ["a/checkpoints/epoch_1.pt", "a/checkpoints/epoch_2.pt"], states
    refused = [entry.label for entry in entries if entry.state == "refused"]
    assert refused.count("a/checkpoints/epoch_3.pt") == 1
    assert set(states) == {"audited", "refused"} and len(refused) <= 2  # the half that stood still is one of them
    folders = sorted(path.name for path in (place.home / "audits").glob("audit-*"))
    assert folders == sorted(str(entry.audit_id) for entry in audited.values())
    store = AuditStore(place.home)
    assert sorted(row["id"] for row in store.query("SELECT id FROM audits")) == folders
    runs = store.query("SELECT audit_id, state FROM runs")
    finished = Counter(row["audit_id"] for row in runs if row["state"] == "finished")
    assert all(count == 1 for count in finished.values()), runs
    rows = {row["id"]: (row["state"], row["audit_id"]) for row in store.query("SELECT * FROM checkpoints")}
    assert rows == {entry.id: (entry.state, entry.audit_id) for entry in entries}
    hooks = Counter((place.home / "ran").read_text(encoding="utf-8").split())
    assert all(count == 1 for count in hooks.values())
    for entry in audited.values():
        assert entry.promoted in ("done", "failed") and (hooks[str(entry.audit_id)] or entry.promoted == "failed")
    for name in folders:
        assert subprocess.run([*COMMAND, "verify", name], env=environment, capture_output=True).returncode == 0
    print(f"{len(runs)} runs: {dict(Counter(row['state'] for row in runs))}; begun {[e.attempts for e in entries]}")
