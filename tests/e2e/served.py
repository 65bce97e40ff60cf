"""A `koda serve` as an operator runs it, with a server of its own, and what its tests ask of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from koda.storage.checkpoints import list_checkpoints
from tests import prefect_server
from tests.flows.test_signals import as_in_a_terminal
from tests.flows.workplace import Workplace, make_workplace

_PATIENCE = 500  # seconds for what takes some 20 on a machine that does nothing else
OVER = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
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
        states = {"type": {"any_": [*OVER, "RUNNING", "CANCELLING"]}}
        runs: list[dict[str, Any]] = self.ask(
            "/flow_runs/filter",
            {"flows": {"name": {"any_": [flow]}}, "flow_runs": {"state": states}, "sort": "START_TIME_ASC"},
        )
        return [run for run in runs if run["deployment_id"] is not None]

    def over(self, flow: str) -> list[dict[str, Any]]:
        return [run for run in self.runs(flow) if run["state_type"] in OVER and run["state_name"] != "Cancelled"]

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


def make_place(folder: Path) -> Workplace:
    """Make a place whose Prefect server need not make its database first."""
    place = make_workplace(folder)
    prefect_server.furnish(place.home)
    return place


def change(place: Workplace, **sections: Any) -> None:
    settings = yaml.safe_load(place.config.read_text(encoding="utf-8"))
    place.config.write_text(yaml.safe_dump({**settings, **sections}), encoding="utf-8")
