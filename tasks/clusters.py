"""The workers of a run: a Dask or Ray cluster, whose parts are Prefect's tasks on the task runner of the kind.

A cluster of the run's own is on this machine, starts when there is a first part to work on, and ends with the run. One
at an address is asked whether it is there before anything else.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE

from koda.config import RunnerConfig
from koda.config.runner import place_of
from koda.errors import KodaError, MachineError, PrerequisiteError, reason_of
from koda.parallel import Exchange, RunnerNote, Worksite, look_around, packed, using, work_on
from koda.silence import silent
from koda.storage import ArtifactStore
from koda.storage.exchanges import EXCHANGE, abandoned_exchanges
from tasks.asking import fault_within

if TYPE_CHECKING:
    from prefect.task_runners import TaskRunner

R = TypeVar("R")

_SECONDS_TO_CONNECT = 5
_SECONDS_TO_ANSWER = 8
_MOST_TRIES = 3  # of a part whose worker died, after the first
#: what the software of a cluster and its workers read when they are imported: Ray is to call nobody, to print nothing
#: of a worker that died on the stdout of the command, and to try three times in 11 seconds, not in 40, where it is
#: refused; Dask's workers are to log what is critical alone
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S": "3",
    "RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S": "4",
    "DASK_LOGGING__DISTRIBUTED": "critical",
}
_INTEGRATIONS = {"dask": "prefect_dask", "ray": "prefect_ray"}


@task(name="part", cache_policy=NO_CACHE, persist_result=False)
def part(worksite: Worksite, work: bytes) -> Any:
    """Work on one part of a computation, wherever the task runner of the flow has it done."""
    return work_on(worksite, work)


@contextmanager
def workers_of(config: RunnerConfig, home: Path) -> Iterator[None]:
    """Have the workers that a configuration names work on the parts of what runs within.

    Args:
        config: the section `runner`.
        home: KODA_HOME.

    Raises:
        PrerequisiteError: the extra of the kind is not installed.
        MachineError: no cluster answers at the address.
    """
    if config.kind == "threads":
        with using(None):
            yield
        return
    _check_installed(config.kind)
    if config.address is not None:
        _check_reachable(config.kind, config.address)
    cluster = Cluster(config, home)
    try:
        with using(cluster):
            yield
    finally:
        cluster.close()


class Cluster:
    """The workers of a run on a cluster; see :class:`koda.parallel.Workers`.

    Args:
        config: the section `runner`.
        home: KODA_HOME.
    """

    def __init__(self, config: RunnerConfig, home: Path) -> None:
        self._config, self._home = config, home
        self._store = ArtifactStore(home / "artifacts")
        self.exchange = Exchange.below(config.storage or str(home / EXCHANGE))
        self._held = contextlib.ExitStack()
        self._runner: TaskRunner[Any] | None = None
        self._failure: Exception | None = None
        self._worksite: Worksite | None = None
        self._size = 0

    @property
    def note(self) -> RunnerNote:
        """What the record says of the workers."""
        return RunnerNote(self._config.kind, self._size or None)

    @property
    def shares_home(self) -> bool:
        """Whether the workers see KODA_HOME under the path that the run has it at."""
        return self._config.storage is None

    @property
    def size(self) -> int:
        """How many parts are worked on at once; the cluster is started to be asked."""
        self._started()
        return self._size

    def submit(self, function: Callable[..., R], *arguments: Any) -> Callable[[], R]:
        """Hand a part to a worker; see :meth:`koda.parallel.Workers.submit`."""
        return self._submit(self._started(), function, arguments)

    def close(self) -> None:
        """Remove what was exchanged, and end a cluster of the run's own."""
        self.exchange.remove()
        self._held.close()
        self.exchange.remove()  # a worker that was ended in mid-part may have written once more
        self._runner = None

    def _submit(
        self, runner: TaskRunner[Any], function: Callable[..., R], arguments: tuple[Any, ...]
    ) -> Callable[[], R]:
        assert self._worksite is not None
        named = part.with_options(task_run_name=function.__name__.replace("_", " "))
        parameters = {"worksite": self._worksite, "work": packed(function, *arguments)}
        with self._tried_again():
            future: Any = runner.submit(named, parameters)
        return partial(self._result, future)

    def _result(self, future: Any) -> Any:
        try:
            return future.result()
        except KodaError:
            raise
        except BaseException as error:
            if (explained := _explained(self._config, error)) is None:
                raise
            raise explained from error

    def _started(self) -> TaskRunner[Any]:
        """Return the task runner; start it and see that its workers are fit, where that is not done.

        A cluster that could not be started is not started again: whatever else asks for it is told the same.
        """
        if self._failure is not None:
            raise self._failure
        if self._runner is None:
            try:
                self._start()
            except Exception as error:
                self.exchange.remove()
                self._failure = error
                raise
        assert self._runner is not None
        return self._runner

    def _start(self) -> None:
        with contextlib.ExitStack() as held:
            self._take_exchange(held)
            held.enter_context(_quiet(self._config.kind))
            runner = held.enter_context(_connected(self._config))
            size, self._worksite = _size_of(self._config, runner), Worksite.of_this_process()
            token = self.exchange.put(b"koda")
            looks = []
            for place in _places(self._config.kind, runner):
                with _at(self._config.kind, place):
                    looks.append(self._submit(runner, look_around, (self.exchange, token)))
            for look in looks:
                self.exchange.take(look())
            self.exchange.drop(token)
            self._held, self._runner, self._size = held.pop_all(), runner, size

    def _take_exchange(self, held: contextlib.ExitStack) -> None:
        """Hold the exchange as long as the run goes on, and remove those of runs that ended without a word."""
        if self._config.storage is not None:
            return
        for folder in abandoned_exchanges(self._home):
            Exchange(str(folder)).remove()
            self._store.forget_lock(EXCHANGE, folder.name)
        name = Path(self.exchange.url).name
        held.callback(self._store.forget_lock, EXCHANGE, name)
        held.enter_context(self._store.lock(EXCHANGE, name))

    def _tried_again(self) -> contextlib.AbstractContextManager[Any]:
        """Have Ray try a part again whose worker died, as Dask does by itself."""
        if self._config.kind == "dask":
            return contextlib.nullcontext()
        from prefect_ray.context import remote_options

        options: contextlib.AbstractContextManager[Any] = remote_options(max_retries=_MOST_TRIES)
        return options


def _check_installed(kind: str) -> None:
    if importlib.util.find_spec(_INTEGRATIONS[kind]) is None:
        raise PrerequisiteError(
            f"runner.kind: {kind} needs the package {_INTEGRATIONS[kind].replace('_', '-')}, which is not installed.",
            f"Install it with: pip install 'koda-audit[{kind}]'",
        )


def _check_reachable(kind: str, address: str) -> None:
    """Ask whether somebody listens at the address."""
    place = place_of(address)
    assert place is not None

    def ask() -> None:
        socket.create_connection(place, timeout=_SECONDS_TO_CONNECT).close()

    if (error := fault_within(_SECONDS_TO_ANSWER, ask)) is not None:
        raise _unreachable(kind, address, reason_of(error)) from error


def _unreachable(kind: str, address: str, reason: str) -> MachineError:
    server, token = {
        "dask": ("dask scheduler", ""),
        "ray": ("ray start --head", " A cluster of Ray that wants a token is told it with RAY_AUTH_MODE=token."),
    }[kind]
    return MachineError(
        f"runner.address is {address}, and no {kind.capitalize()} cluster answers there: {reason}.",
        f"Start the cluster ({server}), correct runner.address, or leave it out: the run then starts its own.{token}",
    )


@contextmanager
def _connected(config: RunnerConfig) -> Iterator[TaskRunner[Any]]:
    """Enter the task runner of a kind, connected to the cluster at the address or to one of its own."""
    begin = _dask if config.kind == "dask" else _ray
    with contextlib.ExitStack() as held:
        try:
            runner = held.enter_context(begin(config))
        except KodaError:
            raise
        except Exception as error:
            if config.address is not None:
                raise _unreachable(config.kind, config.address, reason_of(error)) from error
            raise MachineError(
                f"The {config.kind.capitalize()} cluster of the run did not start: {reason_of(error)}.",
                "Set fewer runner.workers, or runner.kind: threads.",
            ) from error
        yield runner


@contextmanager
def _dask(config: RunnerConfig) -> Iterator[TaskRunner[Any]]:
    import dask
    from prefect_dask import DaskTaskRunner

    settings = {
        "distributed.scheduler.allowed-failures": _MOST_TRIES,
        # the workers of the run's own have the threads of the run, set for each part
        "distributed.nanny.pre-spawn-environ": {},
    }
    if config.address is not None:
        runner: Any = DaskTaskRunner(address=config.address, client_kwargs={"timeout": _SECONDS_TO_ANSWER})
    else:
        runner = DaskTaskRunner(
            cluster_kwargs={
                "n_workers": config.local_workers,
                "threads_per_worker": 1,
                "host": "127.0.0.1",
                "dashboard_address": "127.0.0.1:0",  # of health and metrics; None would be port 8787 for everybody
                "scheduler_kwargs": {"dashboard": False},
                "silence_logs": logging.CRITICAL,
                "memory_limit": 0,  # koda's own limits hold; a worker that Dask ends for memory would be tried again
            }
        )
    with dask.config.set(settings), runner:
        _wait_for_worker(config, runner.client)
        yield runner


def _wait_for_worker(config: RunnerConfig, client: Any) -> None:
    """See that the scheduler has a worker, since it would keep parts for one that never comes."""
    if client.scheduler_info(n_workers=-1)["workers"]:
        return
    try:
        client.wait_for_workers(1, timeout=_SECONDS_TO_ANSWER)
    except TimeoutError as error:
        raise MachineError(
            f"The Dask cluster {config.address or 'of the run'} has no worker.",
            "Start some (dask worker ADDRESS), each with the koda of this run.",
        ) from error


@contextmanager
def _ray(config: RunnerConfig) -> Iterator[TaskRunner[Any]]:
    from prefect_ray import RayTaskRunner

    if config.address is not None:
        _check_grpc(config.address)
        with RayTaskRunner(address=config.address, init_kwargs={"log_to_driver": False}) as runner:
            yield runner
        return
    own = {
        "num_cpus": config.local_workers,
        "include_dashboard": False,
        "log_to_driver": False,
        "configure_logging": False,
        "_node_ip_address": "127.0.0.1",
    }
    # "local", since RAY_ADDRESS would have it join another cluster
    with RayTaskRunner(address="local", init_kwargs=own) as runner:
        yield runner


def _check_grpc(address: str) -> None:
    """See that the address speaks the protocol of Ray, which would wait for it much longer."""
    import grpc

    host, port = place_of(address) or ("", 0)
    with grpc.insecure_channel(f"{f'[{host}]' if ':' in host else host}:{port}") as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_SECONDS_TO_ANSWER)
        except grpc.FutureTimeoutError as error:
            raise _unreachable("ray", address, "what listens there is no Ray") from error


def _size_of(config: RunnerConfig, runner: Any) -> int:
    """Return how many parts are worked on at once."""
    if config.address is None:
        return config.local_workers
    if config.kind == "dask":
        workers = runner.client.scheduler_info(n_workers=-1)["workers"].values()
        return max(1, sum(int(worker["nthreads"]) for worker in workers))
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _places(kind: str, runner: Any) -> list[str]:
    """Return what is asked before the first part: the workers of Dask, and the machines of Ray, which has no others."""
    if kind == "dask":
        return list(runner.client.scheduler_info(n_workers=-1)["workers"])
    import ray

    return [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]


def _at(kind: str, place: str) -> contextlib.AbstractContextManager[Any]:
    """Have a part that is handed out within worked on at one place; elsewhere if that is gone meanwhile."""
    if kind == "dask":
        import dask

        at: contextlib.AbstractContextManager[Any] = dask.annotate(workers=[place], allow_other_workers=True)
        return at
    from prefect_ray.context import remote_options
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    options: contextlib.AbstractContextManager[Any] = remote_options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=place, soft=True)
    )
    return options


def _explained(config: RunnerConfig, error: BaseException) -> MachineError | None:
    """Return in words that a cluster cannot finish a part; None for what the part itself raised."""
    where = config.address or "of the run"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    words = lines[0]
    if isinstance(error, RuntimeError) and "Failed to reach API" in words:
        return MachineError(
            f"The workers of the cluster {where} do not reach Prefect's server: {words}.",
            "Set PREFECT_API_URL to a server that all machines reach (prefect server start --host 0.0.0.0).",
        )
    if isinstance(error, ImportError):
        return MachineError(
            f"A worker of the cluster {where} lacks what a part needs: {words}.",
            "Install the same koda, with the same extras, on all machines of the cluster.",
        )
    module = type(error).__module__
    if module.partition(".")[0] in ("distributed", "ray") or type(error).__name__ == "CancelledError":
        return MachineError(
            f"The cluster {where} could not finish a part: {type(error).__name__}: {lines[-1]}.",
            "Its workers died again and again, or it is gone: look at its logs, and at the memory that they have. "
            "Run the same command again: it takes up what is unfinished.",
        )
    return None


@contextmanager
def _quiet(kind: str) -> Iterator[None]:
    """Leave out what the cluster's own software tells as it goes on; what fails is an error in words."""
    name = {"dask": "distributed", "ray": "ray"}[kind]
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    importlib.import_module(name)  # which sets the level of its logger
    with silent(name):
        yield
