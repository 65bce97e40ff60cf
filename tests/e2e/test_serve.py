"""`koda serve` as an operator runs it: a real server, schedules, events, checkpoints that appear, and how it ends."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import yaml

from koda.storage.checkpoints import list_checkpoints
from tests import prefect_server
from tests.flows.test_signals import as_in_a_terminal
from tests.flows.workplace import Workplace, make_workplace
from tests.tiny import write_tiny_model

_PATIENCE = 500  # seconds for what takes some 20 on a machine that does nothing else
_OVER = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
_COMMAND = [sys.executable, "-P", "-c", "from flows.cli import main; main()"]
_ROOT = Path(__file__).parents[2]
WEIGHTS = "open_clip_model.safetensors"


class Served:
    """A `koda serve` that runs."""

    def __init__(self, place: Workplace, process: subprocess.Popen[str], said: list[str]) -> None:
        self.place, self.process, self.said = place, process, said
        self.url = said[0].split()[-1]

    def ask(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(
            f"{self.url}/api{path}", data=json.dumps(body).encode(), headers={"content-type": "application/json"}
        )
        give_up = time.monotonic() + _PATIENCE
        while True:
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:  # its database is busy; Prefect's clients ask again too
                if error.code != 503 or time.monotonic() > give_up:
                    raise
                time.sleep(1)

    def runs(self, flow: str) -> list[dict[str, Any]]:
        """The runs of a flow that have begun."""
        states = {"type": {"any_": [*_OVER, "RUNNING", "CANCELLING"]}}
        runs: list[dict[str, Any]] = self.ask(
            "/flow_runs/filter",
            {"flows": {"name": {"any_": [flow]}}, "flow_runs": {"state": states}, "sort": "START_TIME_ASC"},
        )
        return [run for run in runs if run["deployment_id"] is not None]

    def over(self, flow: str) -> list[dict[str, Any]]:
        return [run for run in self.runs(flow) if run["state_type"] in _OVER and run["state_name"] != "Cancelled"]

    def start(self, name: str, **parameters: Any) -> str:
        """Start a deployment as the UI does; return the run's id."""
        (deployment,) = [
            each for each in self.ask("/deployments/filter", {}) if each["name"] == name and "koda" in each["tags"]
            and set(parameters) <= set(each["parameter_openapi_schema"]["properties"])
        ][:1]  # fmt: skip
        parameters = {**deployment["parameters"], **parameters}
        run = self.ask(f"/deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
        return str(run["id"])

    def state(self, run: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/api/flow_runs/{run}", timeout=30) as answer:
            return dict(json.load(answer)["state"])

    def emit(self, payload: dict[str, Any]) -> None:
        code = (
            "import json, sys; from prefect.events import emit_event; "
            "emit_event('koda.checkpoint.ready', resource={'prefect.resource.id': 'koda.checkpoint.of-a-test'}, "
            "payload=json.loads(sys.argv[1]))"
        )
        environment = {**os.environ, "PREFECT_API_URL": f"{self.url}/api"}
        subprocess.run([sys.executable, "-c", code, json.dumps(payload)], env=environment, check=True, timeout=120)

    def ledger(self) -> dict[str, str]:
        """State of each checkpoint in the ledger, by its label."""
        return {entry.label: entry.state for entry in list_checkpoints(self.place.home)}

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


def environment(place: Workplace) -> dict[str, str]:
    return {**prefect_server.without(), "KODA_HOME": str(place.home), "PYTHONPATH": python_path()}


def python_path() -> str:
    return os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))


def command(place: Workplace, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_COMMAND, *arguments], env=environment(place), capture_output=True, text=True, timeout=_PATIENCE, check=False
    )


def wait(what: Callable[[], Any], seconds: float = _PATIENCE) -> Any:
    give_up = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < give_up, f"in vain: {what()!r}"
        time.sleep(0.5)
    return found


@contextmanager
def serving(place: Workplace) -> Iterator[Served]:
    log = (place.folder / "serve.log").open("a")
    process = subprocess.Popen(
        [*_COMMAND, "serve", str(place.config)], env=environment(place), stdout=subprocess.PIPE, stderr=log, text=True,
        preexec_fn=as_in_a_terminal,
    )  # fmt: skip
    assert process.stdout is not None
    said: list[str] = []
    for line in process.stdout:
        said.append(line.strip())
        if line.strip().startswith("Ctrl-C"):
            break
    assert process.poll() is None, (place.folder / "serve.log").read_text()
    try:
        yield Served(place, process, said)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        wait(lambda: not processes_of(process.pid, place))


def processes_of(parent: int, place: Workplace) -> list[str]:
    """What runs of this koda serve, by its command line and by its home."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            home = f"KODA_HOME={place.home}".encode() in (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if home and any(part.endswith(("run_process.py", "server_process.py")) for part in line):
            found.append(" ".join(line))
    return found


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    place = make_workplace(tmp_path)
    prefect_server.furnish(place.home)
    return place


def change(place: Workplace, **sections: Any) -> None:
    settings = yaml.safe_load(place.config.read_text(encoding="utf-8"))
    place.config.write_text(yaml.safe_dump({**settings, **sections}), encoding="utf-8")


@contextmanager
def catching() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An HTTP server that keeps what it is sent."""
    caught: list[dict[str, Any]] = []

    class Catcher(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            caught.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Catcher)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"json://127.0.0.1:{server.server_port}/", caught
    finally:
        server.shutdown()


def drop(place: Workplace, name: str, seed: int) -> Path:
    """Have a model folder appear in one moment, as a training job renames it."""
    write_tiny_model(place.folder / f".{name}", seed)
    (place.folder / "runs").mkdir(exist_ok=True)
    return (place.folder / f".{name}").rename(place.folder / "runs" / name)


def test_the_clock_starts_an_audit_the_ui_another_and_what_is_wrong_is_said(place: Workplace) -> None:
    change(place, schedule={"cron": "* * * * *"})
    with serving(place) as served:
        assert any("no watch: section" in line for line in served.said)
        name = next(line.split("/")[1] for line in served.said if line.startswith("by hand"))
        wrong = served.start(name, candidate="local-dir:nowhere")
        (scheduled, *_) = wait(lambda: [run for run in served.over("koda-audit") if run["auto_scheduled"]])
        assert scheduled["state_type"] == "COMPLETED"
        wait(lambda: served.state(wrong)["type"] in _OVER)
        state = served.state(wrong)
        assert state["type"] == "FAILED" and "nowhere" in state["message"] and "Traceback" not in state["message"]
        other = served.start(name, candidate="local-dir:old", overrides={"discrepancy.n_directions": "1"})
        wait(lambda: served.state(other)["type"] in _OVER)
        assert served.state(other)["type"] == "COMPLETED", served.state(other)
        assert served.end(signal.SIGTERM) == 143
        wait(lambda: not processes_of(served.process.pid, place), 10)
    audits = json.loads(command(place, "history", "--json").stdout)
    assert {audit["candidate"] for audit in audits} == {"new", "old"}


def test_each_checkpoint_is_audited_once_and_told_of_once(place: Workplace) -> None:
    whole = write_tiny_model(place.folder / "whole", 13)
    data = (whole / WEIGHTS).read_bytes()
    announced = write_tiny_model(place.folder / "announced", 14)
    with catching() as (url, caught):
        change(
            place,
            watch={"path": "runs/*", "every": 8},
            notify=[{"url": url, "on": ["pass", "warn", "fail", "inconclusive", "error"]}],
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
            wait(lambda: len(caught) >= 5)
            time.sleep(10)  # in which a second one of anything would come
            assert len(caught) == 5, caught
            assert served.end(signal.SIGINT) == 130
            wait(lambda: not processes_of(served.process.pid, place), 10)
    audits = json.loads(command(place, "history", "--json").stdout)
    assert sorted(audit["candidate"] for audit in audits) == ["announced", "half", "one", "two"]
    assert all((place.home / "audits" / audit["id"] / "report.html").is_file() for audit in audits)


def test_a_cancelled_run_ends_and_what_is_killed_is_taken_up(place: Workplace) -> None:
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
