"""A cluster that is not there, or an extra that is not installed, is said in words before anything runs."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from koda.config import RunnerConfig
from koda.errors import MachineError, PrerequisiteError
from koda.storage import ArtifactStore
from tasks.clusters import Cluster, _at, _explained, _places, workers_of
from tests.flows.workplace import Workplace, make_workplace


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return make_workplace(tmp_path_factory.mktemp("runner"))


@pytest.fixture
def closed() -> Iterator[int]:
    """Yield a port at which nobody listens, and nobody will."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.mark.parametrize(("kind", "scheme"), [("dask", "tcp://"), ("dask", ""), ("ray", "ray://"), ("ray", "")])
def test_a_cluster_that_is_not_there_ends_the_run_before_it_begins(
    place: Workplace, closed: int, kind: str, scheme: str
) -> None:
    address = f"{scheme}127.0.0.1:{closed}"
    settings = ["--set", f"runner.kind={kind}", "--set", f"runner.address={address}"]
    result = CliRunner().invoke(app, ["audit", str(place.config), "--json", *settings])
    told = json.loads(result.stdout)
    assert result.exit_code == 3
    assert f"runner.address is {address}, and no {kind.capitalize()} cluster answers there" in told["error"]
    assert not (place.home / "audits").exists()


def test_a_command_that_finds_no_cluster_says_nothing_else(place: Workplace, closed: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from flows.cli import main; main()", "audit", str(place.config)]
    settings = ["--set", "runner.kind=dask", "--set", f"runner.address=127.0.0.1:{closed}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"KODA_HOME": str(tmp_path / "new"), "PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.run([*command, *settings], env=environment, text=True, capture_output=True, timeout=60)
    assert run.returncode == 3
    assert run.stderr.startswith("koda: runner.address is") and "Warning" not in run.stderr


def test_what_listens_and_is_no_ray_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.clusters._SECONDS_TO_ANSWER", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        config = RunnerConfig(kind="ray", address=f"127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(MachineError, match="what listens there is no Ray"), workers_of(config, tmp_path):
            assert Cluster(config, tmp_path).size > 0


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_an_extra_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setitem(sys.modules, f"prefect_{kind}", None)
    with (
        pytest.raises(PrerequisiteError, match=rf"(?s)prefect-{kind}.*pip install 'koda-audit\[{kind}\]'"),
        workers_of(RunnerConfig(kind=kind), tmp_path),
    ):
        pass


def test_the_exchange_of_a_run_that_was_killed_is_removed_and_that_of_one_that_goes_on_is_not(tmp_path: Path) -> None:
    gone, there = (tmp_path / "exchange" / name for name in ("run-gone", "run-there"))
    for folder in (gone, there):
        folder.mkdir(parents=True)
        (folder / "sums").write_bytes(b"x")
    cluster = Cluster(RunnerConfig(kind="dask"), tmp_path)
    with ArtifactStore(tmp_path / "artifacts").lock("exchange", there.name), contextlib.ExitStack() as held:
        cluster._take_exchange(held)
        cluster.exchange.put(b"y")
        cluster.close()
    assert [folder.name for folder in (tmp_path / "exchange").iterdir()] == ["run-there"]


@pytest.mark.parametrize(("workers", "words"), [(0, "has no worker"), (1, "cannot write to")])
def test_a_cluster_that_could_not_be_started_says_so_as_often_as_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, words: str
) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("tasks.clusters._SECONDS_TO_ANSWER", 0.5)
    own = {"host": "127.0.0.1", "protocol": "tcp://", "dashboard_address": "127.0.0.1:0", "silence_logs": 50}
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    storage = None if workers == 0 else str(tmp_path / "file")
    with distributed.LocalCluster(n_workers=workers, threads_per_worker=1, processes=False, **own) as scheduler:
        cluster = Cluster(
            RunnerConfig(kind="dask", address=scheduler.scheduler_address, storage=storage), tmp_path / "home"
        )
        for _ in range(2):
            with pytest.raises(MachineError, match=words):
                cluster.submit(str, 1)
        assert cluster.note.workers is None
        assert not list((tmp_path / "home").glob("*/run-*")) and not list((tmp_path / "home").rglob("*.lock"))
        cluster.close()


def test_each_worker_is_asked_before_the_first_part() -> None:
    distributed = pytest.importorskip("distributed")
    own = {"host": "127.0.0.1", "protocol": "tcp://", "dashboard_address": "127.0.0.1:0", "silence_logs": 50}
    with (
        distributed.LocalCluster(n_workers=4, threads_per_worker=2, processes=False, **own) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        places = _places("dask", SimpleNamespace(client=client))
        assert len(set(places)) == 4
        futures = []
        for place in reversed(places):  # not the order in which Dask takes them by itself
            with _at("dask", place):
                futures.append(client.submit(lambda: distributed.get_worker().address, pure=False))
        assert [future.result() for future in reversed(futures)] == places


def test_what_ends_a_part_on_a_cluster_is_put_in_words() -> None:
    distributed = pytest.importorskip("distributed")
    config = RunnerConfig(kind="dask", address="tcp://10.0.0.5:8786")
    for error, words in (
        (RuntimeError("Failed to reach API at http://127.0.0.1:1/api/"), "do not reach Prefect's server"),
        (ModuleNotFoundError("No module named 'tasks'"), "lacks what a part needs: No module named 'tasks'"),
        (
            distributed.client.FutureCancelledError("part-1", "connection lost"),
            "could not finish a part: FutureCancelledError",
        ),
    ):
        explained = _explained(config, error)
        assert explained is not None and words in str(explained) and "tcp://10.0.0.5:8786" in str(explained)
    assert _explained(config, ValueError("a fault of koda's own")) is None
