"""Audits and a sweep on a cluster of Dask and of Ray: the records of one process, also when a worker is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.e2e.scale import SHORT
from tests.flows.workplace import Workplace, make_workplace

ROOT = Path(__file__).parents[2]
KINDS = ("dask",) if SHORT else ("dask", "ray")
#: a model whose first batch at a worker ends the worker, as a lack of memory would
_DEADLY = """
import os, pathlib, signal

mark = pathlib.Path({mark!r})

def make():
    def embed(images):
        if len(images) > 10 and not mark.exists():  # a model is tried on one when it is loaded
            mark.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return images.flatten(1)[:, :40] + 1
    return embed
"""


def koda(home: Path, *arguments: str, entry: str = "flows.cli") -> subprocess.Popen[str]:
    environment = {**os.environ, "KODA_HOME": str(home), "PYTHONPATH": str(ROOT)}
    environment.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-c", f"from {entry} import main; main()", *arguments]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def record_of(home: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a record without times and runner, and what it says of the runner."""
    (path,) = (home / "audits").glob("[!.]*/audit.json")
    record = json.loads(path.read_bytes())
    runner = {name: record["provenance"].pop(name) for name in ("runner", "workers")}
    for side in ("lost", "gained"):
        for name in [name for name in record["method"][side]["stats"] if name.startswith("seconds")]:
            del record["method"][side]["stats"][name]
    return {name: value for name, value in record.items() if name not in ("started", "ended")}, runner


def finished_parts(home: Path) -> set[str]:
    """Return the functions of the parts that workers finished, as the command of `small_parts` notes them."""
    return set((home / "parts").read_text(encoding="utf-8").split())


def finished(run: subprocess.Popen[str]) -> dict[str, Any]:
    answer, told = run.communicate(timeout=240)
    assert run.returncode in (0, 1), told
    assert "distributed" not in told and "ray" not in told.lower().replace("array", ""), told
    result: dict[str, Any] = json.loads(answer)
    return result


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return make_workplace(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def alone(place: Workplace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("alone")
    finished(koda(home, "audit", str(place.config), "--json"))
    record, runner = record_of(home)
    assert runner == {"runner": "threads", "workers": None}
    return record


@pytest.mark.parametrize("kind", KINDS)
def test_an_audit_on_a_cluster_leaves_the_record_of_one_process(
    place: Workplace, alone: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    storage = tmp_path / "elsewhere"
    finished(
        koda(
            tmp_path / "home", "audit", str(place.config), "--json",
            "--set", f"runner.kind={kind}", "--set", "runner.workers=2", "--set", f"runner.storage={storage}",
            entry="tests.e2e.small_parts",
        )
    )  # fmt: skip
    assert {"pictures_of", "captions_of", "ranks_of_part"} <= finished_parts(tmp_path / "home")
    record, runner = record_of(tmp_path / "home")
    assert runner == {"runner": kind, "workers": 2}
    assert record == alone
    assert not any(storage.iterdir())


@pytest.mark.skipif(SHORT, reason="the suite has any cut of the sums give the same bytes, and the record is compared")
def test_a_cluster_sums_the_covariance_and_multiplies_with_kernels_to_the_same_bytes(tmp_path: Path) -> None:
    environment = {**os.environ, "KODA_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    environment.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-c", "from tests.e2e.cluster_sums import main; main()", "threads", *KINDS]
    run = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=240, check=True)
    digests = run.stdout.split()
    assert len(digests) == 1 + len(KINDS) and len(set(digests)) == 1, (digests, run.stderr)


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_that_is_killed_in_mid_run_is_done_without(place: Workplace, tmp_path: Path, kind: str) -> None:
    mark = tmp_path / "killed"
    (tmp_path / "deadly.py").write_text(textwrap.dedent(_DEADLY.format(mark=str(mark))), encoding="utf-8")
    settings = yaml.safe_load(place.config.read_text(encoding="utf-8"))
    own = {"image_size": 8, "image_mean": [0.0] * 3, "image_std": [1.0] * 3, "precision": "fp32"}
    settings["baseline"] = settings["candidate"] = {"name": f"python:{tmp_path / 'deadly.py'}:make", **own}
    settings["candidate"] = {**settings["candidate"], "image_std": [2.0] * 3}
    settings["discrepancy"]["modality"] = "image"
    settings["data"]["path"] = str(place.folder / "data" / "pairs.tsv")
    path = tmp_path / "audit.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    finished(koda(tmp_path / "home", "audit", str(path), "--json", "--set", f"runner.kind={kind}"))
    assert not psutil.pid_exists(int(mark.read_text()))  # it is there now, so that one process is not killed by it
    finished(koda(tmp_path / "alone", "audit", str(path), "--json"))
    assert record_of(tmp_path / "home")[0] == record_of(tmp_path / "alone")[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_told_to_end_leaves_no_process_and_no_exchange_and_a_sweep_goes_on_to_the_same_record(
    place: Workplace, alone: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    home = tmp_path / "home"
    run = koda(home, "audit", str(place.config), "--json", "--set", f"runner.kind={kind}")
    of_run = psutil.Process(run.pid)
    began = time.monotonic()
    while not any((home / "exchange").glob("run-*/*")) and time.monotonic() - began < 120:
        time.sleep(0.05)
    started = of_run.children(recursive=True)
    assert started and run.poll() is None
    run.send_signal(signal.SIGTERM)
    assert run.wait(30) == 128 + signal.SIGTERM
    _, alive = psutil.wait_procs(started, timeout=20)
    assert not alive, [process.cmdline() for process in alive]
    run.communicate()
    settings = yaml.safe_load(place.config.read_text(encoding="utf-8"))
    settings["models"] = [settings.pop("candidate")]
    path = place.folder / f"sweep-{kind}.yaml"
    path.write_text(yaml.safe_dump(settings | {"runner": {"kind": kind}}), encoding="utf-8")
    finished(koda(home, "sweep", str(path), "--json", entry="tests.e2e.small_parts"))
    assert "measure" in finished_parts(home)
    record, _ = record_of(home)
    assert record == alone
    assert not any((home / "exchange").iterdir())
