"""`koda serve` audits each checkpoint that appears or is announced, once, and tells of it once."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import threading
import time
from pathlib import Path
from threading import Event

from tests.catcher import catching
from tests.e2e.served import WEIGHTS, change, command, make_place, processes_of, serving, wait
from tests.flows.workplace import Workplace
from tests.tiny import write_tiny_model


def drop(place: Workplace, name: str, seed: int) -> Path:
    """Have a model folder appear in one moment, as a training job renames it."""
    write_tiny_model(place.folder / f".{name}", seed)
    (place.folder / "runs").mkdir(exist_ok=True)
    return (place.folder / f".{name}").rename(place.folder / "runs" / name)


def test_each_checkpoint_is_audited_once_and_told_of_once(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    whole = write_tiny_model(place.folder / "whole", 13)
    data = (whole / WEIGHTS).read_bytes()
    announced = write_tiny_model(place.folder / "announced", 14)
    with catching() as catcher:
        change(
            place,
            watch={"path": "runs/*", "every": 8},
            notify=[{"url": catcher.url, "on": ["pass", "warn", "fail", "inconclusive", "error"]}],
        )
        drop(place, "one", 11)
        drop(place, "two", 12)
        for name, weights in (("half", data[:1000]), ("corrupt", b"\xff" * 5000)):
            shutil.copytree(whole, place.folder / "runs" / name)
            (place.folder / "runs" / name / WEIGHTS).write_bytes(weights)
        with serving(place) as served:
            # one that is being written, while there are several looks, is none until it is complete
            written, half = Event(), place.folder / "runs" / "half" / WEIGHTS

            def write() -> None:
                for size in itertools.count(1000, 10):
                    half.write_bytes(data[:size])
                    if written.wait(2):
                        break
                half.write_bytes(data)

            writer = threading.Thread(target=write, daemon=True)
            writer.start()
            try:
                wait(lambda: all(served.ledger().get(name) == "audited" for name in ("one", "two")))
                wait(lambda: served.ledger().get("corrupt") == "refused")
                assert served.ledger().get("half") not in ("ready", "auditing", "audited", "refused")
                # the oldest first, each in one run, which has its name and tags
                begun = served.runs("koda-checkpoint")
                assert [run["name"] for run in begun] == ["one vs old on pairs", "two vs old on pairs"]
                assert all("baseline:old" in run["tags"] for run in begun)
                assert not served.ask("/flow_runs/filter", {"flows": {"name": {"any_": ["koda-audit"]}}})
            finally:
                written.set()
                writer.join()
            # a training job says that it is done, twice, and again after the audit
            served.emit({"checkpoint": str(announced)})
            served.emit({"checkpoint": str(announced)})
            wait(lambda: served.ledger().get("announced") == "audited")
            wait(lambda: served.ledger().get("half") == "audited")
            served.emit({"checkpoint": str(announced)})
            before = len(served.over("koda-checkpoint"))
            wait(lambda: len(served.over("koda-checkpoint")) > before)
            wait(lambda: len(catcher.received) >= 5)
            time.sleep(10)  # in which a second one of anything would come
            assert len(catcher.received) == 5, catcher.received
            assert served.end(signal.SIGINT) == 130
            wait(lambda: not processes_of(served.process.pid, place), 10)
    audits = json.loads(command(place, "history", "--json").stdout)
    assert sorted(audit["candidate"] for audit in audits) == ["announced", "half", "one", "two"]
    assert all((place.home / "audits" / audit["id"] / "report.html").is_file() for audit in audits)
