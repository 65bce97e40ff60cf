"""What `koda serve` serves: an audit by hand, by the clock, and of every new checkpoint, as deployments of Prefect."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
)
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events import DeploymentEventTrigger
from prefect.runner import Runner
from prefect.runner._starter_engine import EngineCommandStarter
from prefect.schedules import Cron, Interval
from prefect.settings import PREFECT_API_URL
from prefect.states import Crashed
from prefect.types._datetime import now
from prefect.types.entrypoint import EntrypointType
from prefect.utilities.callables import ParameterSchema

from flows import deployments
from flows.engine import ask_server_if_set
from flows.server import ServingServer, port_to_serve
from flows.service import Service
from koda.errors import MachineError
from koda.storage import ArtifactStore

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

_SCRIPT = Path(__file__).with_name("run_process.py")
_MOST_RUNS = 4  # processes at once: of each kind of audit one, and a look
_SECONDS_BETWEEN_POLLS = 2
_BY_CLOCK = "-schedule"
#: in which runs that are told to end may tell Prefect; they end themselves soon after
_SECONDS_TO_END = 3.2
_ENDED = "koda serve ended while it ran."
_UNFINISHED = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)


def deployments_of(service: Service) -> list[RunnerDeployment]:
    """Return the deployments of a service: audits by hand always, the others as the configuration has them."""
    given: dict[str, Any] = {
        "config": str(service.path),
        "overrides": service.overrides or None,
        "home": str(service.home),
    }
    made = [_deployment(deployments.audit, service.name, given)]
    if (schedule := service.config.schedule) is not None:
        clock = Cron(schedule.cron, schedule.timezone)
        made.append(
            _deployment(
                deployments.audit, f"{service.name}{_BY_CLOCK}", given, schedule=clock, concurrency_limit=_one()
            )
        )
    if (seconds := service.seconds_between_looks) is not None:
        clock = Interval(timedelta(seconds=seconds))
        made.append(_deployment(deployments.watch, service.name, given, schedule=clock, concurrency_limit=_one()))
        announced = DeploymentEventTrigger(
            name=f"{deployments.READY} {service.name}",
            expect={deployments.READY},
            match={"prefect.resource.id": f"{deployments.ANNOUNCED}.*"},
            parameters={"checkpoint": "{{ event.payload.checkpoint }}"},
        )
        made.append(_deployment(deployments.checkpoint, service.name, given, triggers=[announced]))
    return made


def _one() -> ConcurrencyLimitConfig:
    """One run at a time; what is due meanwhile is left out, as the next one will do."""
    return ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)


def _deployment(flow: Any, name: str, given: dict[str, Any], **more: Any) -> RunnerDeployment:
    in_turn = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
    made: RunnerDeployment = flow.to_deployment(
        name=name,
        parameters=given,
        tags=["koda"],
        entrypoint_type=EntrypointType.MODULE_PATH,
        **{"concurrency_limit": in_turn, **more},
    )
    # else Prefect begins a run with a parameter that is misspelt, and its message is a traceback
    schema = made._parameter_openapi_schema.model_dump()
    made._parameter_openapi_schema = _StrictSchema(**schema, additionalProperties=False)
    return made


class _StrictSchema(ParameterSchema):
    """The parameters of a deployment, and no others."""

    additionalProperties: bool


class KodaRunner(Runner):
    """Prefect's runner, whose runs are processes that end with it."""

    async def __aenter__(self) -> KodaRunner:
        """Start what the runner consists of."""
        await super().__aenter__()
        self._scheduled_run_poller._resolve_starter = self._starter
        return self

    def _starter(self, flow_run: FlowRun) -> EngineCommandStarter:
        name = self._deployment_registry.get_deployment_name(flow_run.deployment_id) if flow_run.deployment_id else None
        return EngineCommandStarter(
            command=shlex.join([sys.executable, "-P", str(_SCRIPT), str(os.getpid())]),
            tmp_dir=self._tmp_dir,
            deployment_name=name,
            control_channel=self._control_channel,
            env={
                "PREFECT_LOGGING_TO_API_ENABLED": "true",
                # the steps of a run; of a failed task Prefect would log the traceback, and the run's message has words
                "PREFECT_LOGGING_LOGGERS_PREFECT_FLOW_RUNS_LEVEL": "INFO",
            },
            env_overrides_settings=True,
        )

    def end_runs(self, seconds: float) -> None:
        """Tell all runs to end, wait for them for some seconds, and end those that have not."""
        handles = list(self._process_manager._process_map.values())
        for handle in handles:
            with suppress(ProcessLookupError):
                handle.graceful_kill()
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up and any(handle.returncode is None for handle in handles):
            time.sleep(0.05)
        for handle in handles:
            if handle.returncode is None:
                with suppress(ProcessLookupError):
                    handle.hard_kill()


def serve(service: Service, tell: Callable[[str, list[str]], None]) -> None:
    """Serve until a signal ends the process.

    Args:
        service: what is served.
        tell: is told the address of Prefect's UI, and what was broken off and is taken up, once it is served.

    Raises:
        ConfigError: somebody who can never be told.
        MachineError: Prefect's server does not answer or does not start, or was killed again and again; or this is
            served already.
    """
    if service.config.notify:
        from koda.notification import check_targets  # which brings in Apprise

        check_targets(service.config.notify, with_variables=True)
    with _alone(service):
        server = _reach_server()
        made = deployments_of(service)
        runner = KodaRunner(
            name=f"koda-{service.name}", query_seconds=_SECONDS_BETWEEN_POLLS, limit=_MOST_RUNS, pause_on_shutdown=False
        )
        with get_client(sync_client=True) as client:
            _withdraw(client, service, made)
            broken_off = _broken_off(client, made)
            for deployment in made:
                runner.add_deployment(deployment)
            taken_up = _take_up(client, broken_off)
        failure: list[BaseException] = []
        thread = threading.Thread(target=_run, args=(runner, failure), daemon=True, name="koda-runner")
        thread.start()
        tell(_ui_url(server), taken_up)
        try:
            while thread.is_alive() and not (server is not None and server.gave_up):
                thread.join(0.5)
        finally:
            runner.end_runs(_SECONDS_TO_END)
        if failure:
            raise failure[0]
        raise MachineError(
            "Prefect's server was killed again and again.", "Look at the machine's memory, and start again."
        )


def _run(runner: KodaRunner, failure: list[BaseException]) -> None:
    try:
        asyncio.run(runner.start())
    except BaseException as error:
        failure.append(error)


@contextmanager
def _alone(service: Service) -> Iterator[None]:
    with ArtifactStore(service.home / "artifacts").lock_if_free("serve", service.name) as free:
        if not free:
            raise MachineError(
                f"{service.path} is served already by another koda serve, with the same KODA_HOME.",
                "End that one first, or set another KODA_HOME.",
            )
        yield


def _reach_server() -> ServingServer | None:
    """Ask the server that is set, or start one and have this process and its runs use it."""
    from prefect.context import refresh_global_settings_context

    try:
        if ask_server_if_set():
            return None
    except MachineError as error:
        raise MachineError(
            error.message,
            "Start the server, or unset PREFECT_API_URL (in a profile: prefect config unset PREFECT_API_URL); "
            "koda serve then starts a server of its own.",
        ) from error
    server = ServingServer(port_to_serve())
    server.start()
    os.environ["PREFECT_API_URL"] = server.api_url
    refresh_global_settings_context()
    return server


def _ui_url(server: ServingServer | None) -> str:
    if server is not None:
        return server.ui_url
    from prefect.settings import PREFECT_UI_URL

    return str(PREFECT_UI_URL.value() or PREFECT_API_URL.value())


def _withdraw(client: SyncPrefectClient, service: Service, made: list[RunnerDeployment]) -> None:
    """Delete the deployments of sections that the configuration has no more: Prefect would go on to plan their runs."""
    from prefect.exceptions import ObjectNotFound

    flows_ = (deployments.audit, deployments.watch, deployments.checkpoint)
    served = {f"{deployment.flow_name}/{deployment.name}" for deployment in made}
    for name in {f"{flow.name}/{service.name}{end}" for flow in flows_ for end in ("", _BY_CLOCK)} - served:
        with suppress(ObjectNotFound):
            client.delete_deployment(client.read_deployment_by_name(name).id)


def _broken_off(client: SyncPrefectClient, made: list[RunnerDeployment]) -> list[FlowRun]:
    """Return the audits that an earlier koda serve did not finish or begin; none of its runs goes on.

    A look is not among them, since the next one follows soon.
    """
    from prefect.exceptions import ObjectNotFound

    unfinished = []
    for deployment in made:
        try:
            known = client.read_deployment_by_name(f"{deployment.flow_name}/{deployment.name}")
        except ObjectNotFound:
            continue
        due = _runs(client, known.id)
        begun = [run for run in due if run.start_time is not None or run.state_type in _UNFINISHED]
        latest = max(begun, key=lambda run: run.start_time or run.created or _now(), default=None)
        for run in begun:
            if run.state_type in _UNFINISHED:
                client.set_flow_run_state(run.id, Crashed(message=_ENDED), force=True)
        if deployment.flow_name == deployments.watch.name:
            continue
        # what was due while nobody served: Prefect forgets it when the deployment is made anew
        late = [run for run in due[:1] if run.auto_scheduled and run.state_type is StateType.SCHEDULED]
        cut = [run for run in begun if run.state_type in _UNFINISHED]
        if latest is not None and latest.state_type is StateType.CRASHED:
            cut.append(latest)
        unfinished += cut or late
    return unfinished


def _runs(client: SyncPrefectClient, deployment: Any) -> list[FlowRun]:
    """Return the runs of a deployment whose time has come, the latest first."""
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(expected_start_time=FlowRunFilterExpectedStartTime(before_=_now())),
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=200,
    )


def _now() -> Any:
    return now("UTC")


def _take_up(client: SyncPrefectClient, broken_off: list[FlowRun]) -> list[str]:
    """Have each audit that was broken off run again, once; return what is audited."""
    again = {(run.deployment_id, json.dumps(run.parameters, sort_keys=True)): run for run in broken_off}
    names = []
    for run in again.values():
        assert run.deployment_id is not None
        if any(each.parameters == run.parameters for each in _waiting(client, run.deployment_id)):
            continue
        names.append(deployments.name_of(run.parameters))
        client.create_flow_run_from_deployment(
            run.deployment_id,
            parameters=run.parameters,
            idempotency_key=f"{run.id}-again",
            name=names[-1],
            tags=[tag for tag in run.tags if tag == "koda" or tag.startswith(deployments.OF_CHECKPOINT)],
        )
    return names


def _waiting(client: SyncPrefectClient, deployment: Any) -> list[FlowRun]:
    """Return the runs of a deployment that somebody asked for and that have not begun."""
    return [
        run
        for run in _runs(client, deployment)
        if run.state_type is StateType.SCHEDULED and run.start_time is None and not run.auto_scheduled
    ]
