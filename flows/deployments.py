"""The flows that Prefect starts by itself: by a schedule, an event, or from its UI, each in a process of its own.

Their parameters are plain, typed and checked by Prefect. What goes wrong is the message of a failed run, in words.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.states import Completed, Failed

from flows.environment import koda_home, make_prefect_home
from flows.failures import in_words, unexpected
from flows.limits import TimeLimitError, time_limit
from flows.runners import working
from flows.service import load
from flows.telling import tell_error, tell_of
from koda.errors import ConfigError, KodaError
from koda.wording import one_line

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, StateType

    from koda.audit.runs import StepCost
    from koda.checkpoints import Checkpoint
    from koda.config import AuditConfig

READY = "koda.checkpoint.ready"  #: event that says that a checkpoint is complete
#: resources whose events start an audit; those of the watcher, which starts its audits itself, have another name
ANNOUNCED, SEEN = "koda.checkpoint", "koda.seen-checkpoint"
OF_CHECKPOINT = "checkpoint:"  #: before the digest in the tag of a run that a look has begun
#: an announced checkpoint is complete, so that it need stand still but shortly
_SECONDS_STILL, _SECONDS_TO_WAIT = 1.5, 20
_MOST_RUNS = 200  # as many as Prefect's server lists
_SOON = timedelta(minutes=1)
_TO_CLAIM = timedelta(hours=1)  # in which a run has claimed its checkpoint; else its process was killed
_KEPT: dict[str, Any] = {"persist_result": True, "result_serializer": "json"}


def name_of(parameters: Mapping[str, Any]) -> str:
    """Name a run of an audit by what it was started with, until it is known what that is called."""
    given = [str(parameters.get(name) or "").strip() for name in ("checkpoint", "candidate", "config")]
    return f"audit of {next(filter(None, given), 'nothing')}"


def _name() -> str:
    from prefect.runtime import flow_run

    return name_of(flow_run.parameters)


@flow(name="koda-audit", flow_run_name=_name, **_KEPT)
def audit(
    config: Path,
    candidate: str | None = None,
    overrides: dict[str, str] | None = None,
    home: Path | None = None,
) -> Any:
    """Audit a candidate against a baseline.

    Args:
        config: the configuration of an audit, on the machine that runs it.
        candidate: audited in place of the configuration's: an open_clip name, name@weights, local-dir:FOLDER or
            another name of a model, or the path of a checkpoint file. Relative paths are relative to the configuration.
        overrides: settings to change, as --set does: discrepancy.n_directions -> 5. Values are YAML.
        home: KODA_HOME, where the results go; that of the process that runs it, if left out.

    Returns:
        What `koda audit --json` prints.
    """

    def work(home: Path) -> dict[str, Any]:
        from koda.audit.plan import prepare
        from koda.config.naming import with_candidate

        with _refusal_told(config, home, name_of({"candidate": candidate, "config": config})):
            checked = load(config, overrides, candidate is not None)
            if candidate is not None:
                checked = with_candidate(checked, candidate, config.absolute().parent)

        def run() -> dict[str, Any]:
            from flows.audit import run_audit

            with time_limit(checked.limits.minutes), _told(), working(checked.runner, home):
                return run_audit(prepare(checked, home), trigger="schedule" if _is_scheduled() else "api")

        return _verdict_said(tell_of(checked, home, run))

    return _in_words(work, home)


@flow(name="koda-watch", flow_run_name="look for checkpoints")  # no results: a file a minute, for ever
def watch(config: Path, overrides: dict[str, str] | None = None, home: Path | None = None) -> Any:
    """Look once for new checkpoints, and have the oldest audited that is complete and was not yet.

    The next one follows when that is over, and none while another waits or goes on.

    Args:
        config: the configuration, with the section watch, on the machine that runs it.
        overrides: settings to change, as --set does. Values are YAML.
        home: KODA_HOME; that of the process that runs it, if left out.

    Returns:
        Digest and path of each checkpoint that is complete and waits for its audit.
    """

    def work(home: Path) -> list[dict[str, str]]:
        from prefect.logging import get_run_logger

        from flows.watch import audit_checkpoint, survey

        checked = load(config, overrides, True)
        seen, notes = survey(checked, home)
        told = [
            f"{found.label}: {found.event}{(found.reason and f', {found.reason}') or ''}" for found in seen.happened
        ]
        for line in [*told, *notes]:
            get_run_logger().info("%s", line)
        for trouble in seen.trouble:
            get_run_logger().warning("%s", trouble)
        given = {"config": str(config.absolute()), "overrides": overrides, "home": str(home)}
        if seen.ready and not submit_oldest(seen.ready, given, home):
            for checkpoint in seen.ready:
                with _told():
                    result = audit_checkpoint(checked, home, checkpoint.path)
                if result is not None:
                    _verdict_said(result)
        return [{"digest": checkpoint.digest, "checkpoint": checkpoint.path} for checkpoint in seen.ready]

    return _in_words(work, home)


@flow(name="koda-checkpoint", flow_run_name=_name, **_KEPT)
def checkpoint(checkpoint: str, config: Path, overrides: dict[str, str] | None = None, home: Path | None = None) -> Any:
    """Audit a checkpoint against the baseline, unless it was audited already.

    The event koda.checkpoint.ready starts it, with the path in its payload as `checkpoint`.

    Args:
        checkpoint: the path of a checkpoint file or of a model folder, or a URL of one.
        config: the configuration, on the machine that runs it.
        overrides: settings to change, as --set does. Values are YAML.
        home: KODA_HOME; that of the process that runs it, if left out.

    Returns:
        What `koda audit --json` prints.
    """

    def work(home: Path) -> Any:
        from flows.watch import audit_checkpoint

        with _refusal_told(config, home, name_of({"checkpoint": checkpoint, "config": config})):
            if not checkpoint.strip():
                raise ConfigError(
                    f"The event {READY} names no checkpoint.", 'Its payload is to hold {"checkpoint": "/the/path.pt"}.'
                )
            checked = load(config, overrides, True)
        path = checkpoint if "://" in checkpoint else str(config.absolute().parent / Path(checkpoint).expanduser())
        with _told():
            result = audit_checkpoint(_once_it_stands_still(checked, home, path), home, path)
        if result is not None:
            _verdict_said(result)
        _go_on(checked, home, path, {"config": str(config.absolute()), "overrides": overrides, "home": str(home)})
        if result is None:
            return Completed(
                message=f"{path}: no audit was begun; koda history --checkpoints says why.", name="Skipped"
            )
        return result

    return _in_words(work, home)


def _in_words(work: Callable[[Path], Any], home: Path | None) -> Any:
    """Do the work of a flow at its home; an error becomes a failed state that says in words what is wrong."""
    with _at(home) as here:
        try:
            return work(here)
        except Exception as error:
            foreseen = in_words(error)
            message = str(foreseen) if foreseen is not None else unexpected(error)
            return Failed(message=message, name="TimedOut" if isinstance(error, TimeLimitError) else "Failed")


@contextlib.contextmanager
def _at(home: Path | None) -> Iterator[Path]:
    """Have a folder be KODA_HOME, for what asks for it far below."""
    before = os.environ.get("KODA_HOME")
    here = koda_home() if home is None else home.expanduser().absolute()
    os.environ["KODA_HOME"] = str(here)
    try:
        make_prefect_home()
        yield here
    finally:
        if before is None:
            del os.environ["KODA_HOME"]
        else:
            os.environ["KODA_HOME"] = before


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Write every step that is over into the run's log, which Prefect's UI shows."""
    from prefect.logging import get_run_logger

    from tasks.progress import listen, unlisten

    logger = get_run_logger()

    def tell(step: str, done: int, total: int, _: StepCost | None = None) -> None:
        if done == total == 1:
            logger.info("%s", step)

    listen(tell)
    try:
        yield
    finally:
        unlisten(tell)


def _verdict_said(result: dict[str, Any]) -> dict[str, Any]:
    """Write the verdict of an audit into the run's log, which `koda serve` prints; return the result as it is."""
    from prefect.logging import get_run_logger

    from koda.audit.folders import read_record

    record = read_record(Path(result["paths"]["record"]))
    models = f"{one_line(record.candidate.label)} vs {one_line(record.baseline.label)}"
    verdict = result["verdict"].upper()
    get_run_logger().info("%s on %s: %s, audit %s", models, one_line(record.data.name), verdict, result["id"])
    return result


@contextlib.contextmanager
def _refusal_told(config: Path, home: Path, what: str) -> Iterator[None]:
    """Tell those whom a configuration names that a run was refused before its audit, if it can be read at all."""
    try:
        yield
    except KodaError as error:
        with contextlib.suppress(Exception):  # what is wrong with the run is what is said
            tell_error(load(config, None, True), home, uuid.uuid4().hex, what, str(error))
        raise


def _once_it_stands_still(config: AuditConfig, home: Path, path: str) -> AuditConfig:
    """Wait some seconds until an announced checkpoint stands still; one that does not is left to the next looks.

    Returns:
        The configuration, by which it stands still after these seconds.
    """
    from koda.checkpoints import watched
    from koda.checkpoints.finding import at
    from koda.checkpoints.looks import stands_still

    watch = watched(config)
    watch = watch.model_copy(update={"every": min(watch.every, _SECONDS_STILL)})
    give_up = time.monotonic() + _SECONDS_TO_WAIT
    while time.monotonic() < give_up:
        found = at(watch, path)
        if found is None or found.changed is None or stands_still(home, found, watch):
            break
        time.sleep(0.5)
    return config.model_copy(update={"watch": watch})


def _is_scheduled() -> bool:
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    return context is not None and context.flow_run is not None and bool(context.flow_run.auto_scheduled)


def _go_on(config: AuditConfig, home: Path, done: str, given: dict[str, Any]) -> None:
    """As a checkpoint's run ends in order, look at once what is next; what fails here the next look does again."""
    from prefect.logging import get_run_logger
    from prefect.runtime import flow_run

    from flows.watch import survey

    try:
        ready = [each for each in survey(config, home)[0].ready if each.path != done]
        if ready:
            submit_oldest(ready, given, home, ending=flow_run.id)
    except Exception as error:
        get_run_logger().warning("what comes next is left to the next look: %s", in_words(error) or unexpected(error))


def submit_oldest(ready: Sequence[Checkpoint], given: dict[str, Any], home: Path, ending: str | None = None) -> bool:
    """Have Prefect run the audit of one checkpoint beside this run, under the same name, while no other one is begun.

    It is one at a time, since of several that wait Prefect does not begin the oldest.

    Args:
        ready: what is to be audited, the oldest first. One whose run was cancelled is left out, until somebody starts
            it; one whose runs failed comes after the others.
        given: the other parameters of the run.
        home: KODA_HOME.
        ending: id of a run that is about to be over, and counts no more.

    Returns:
        Whether Prefect has such a deployment.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import StateType
    from prefect.exceptions import ObjectNotFound
    from prefect.runtime import deployment

    if not deployment.name:
        return False
    name = f"koda-checkpoint/{deployment.name}"
    with get_client(sync_client=True) as client:
        try:
            known = client.read_deployment_by_name(name).id
        except ObjectNotFound:
            return False
        begun = _runs(client, known, [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.CANCELLING])
        if any(str(run.id) != ending and _is_under_way(run, home) for run in begun):
            return True
        ended = _runs(client, known, [StateType.CANCELLED, StateType.FAILED, StateType.CRASHED])

    def runs_of(checkpoint: Checkpoint, state: StateType) -> int:
        return sum(run.state_type is state and _tag(checkpoint) in run.tags for run in ended)

    wanted = [each for each in ready if not runs_of(each, StateType.CANCELLED)]
    wanted.sort(key=lambda each: runs_of(each, StateType.FAILED) + runs_of(each, StateType.CRASHED))
    if wanted:
        _submit(name, wanted[0], given)
    return True


def _submit(name: str, checkpoint: Checkpoint, given: dict[str, Any]) -> None:
    from prefect.deployments import run_deployment
    from prefect.events import emit_event

    parameters = {"checkpoint": checkpoint.path, **given}
    run: Any = run_deployment(
        name,
        parameters=parameters,
        timeout=0,
        as_subflow=False,
        flow_run_name=f"audit of {checkpoint.label}",
        tags=["koda", _tag(checkpoint)],
    )
    emit_event(
        READY,
        resource={"prefect.resource.id": f"{SEEN}.{checkpoint.digest}"},
        payload={**parameters, "flow_run": str(run.id)},
    )


def _tag(checkpoint: Checkpoint) -> str:
    return f"{OF_CHECKPOINT}{checkpoint.digest[:12]}"


def _runs(client: SyncPrefectClient, deployment: UUID, states: list[StateType]) -> list[FlowRun]:
    """Return the latest runs of a deployment that are in one of some states."""
    from prefect.client.schemas import filters
    from prefect.client.schemas.sorting import FlowRunSort

    return client.read_flow_runs(
        flow_run_filter=filters.FlowRunFilter(
            state=filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=states))
        ),
        deployment_filter=filters.DeploymentFilter(id=filters.DeploymentFilterId(any_=[deployment])),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=_MOST_RUNS,
    )


def _is_under_way(run: FlowRun, home: Path) -> bool:
    """Tell whether a run of a checkpoint goes on or waits, and not for another day, or for a process that is dead."""
    from datetime import UTC, datetime

    from koda.storage.checkpoints import CheckpointLedger

    now = datetime.now(UTC)
    if run.start_time is None:
        due = run.next_scheduled_start_time or run.expected_start_time
        return due is None or due < now + _SOON
    if run.start_time > now - _TO_CLAIM:
        return True
    ledger = CheckpointLedger(home)
    return any(ledger.is_claimed(entry.id) for entry in ledger.entries() if entry.state == "auditing")
