"""The flows that Prefect starts by itself: by a schedule, an event, or from its UI, each in a process of its own.

Their parameters are plain, typed and checked by Prefect. What goes wrong is the message of a failed run, in words.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.states import Completed, Failed

from flows.environment import koda_home, make_prefect_home
from flows.failures import in_words, unexpected
from flows.limits import TimeLimitError, time_limit
from flows.service import load
from flows.telling import tell_of
from koda.errors import ConfigError

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient

    from koda.audit.runs import StepCost
    from koda.checkpoints import Checkpoint
    from koda.config import AuditConfig

READY = "koda.checkpoint.ready"  #: event that says that a checkpoint is complete
#: resources whose events start an audit; those of the watcher, which starts its audits itself, have another name
ANNOUNCED, SEEN = "koda.checkpoint", "koda.seen-checkpoint"
#: an announced checkpoint is complete, so that it need stand still but shortly
_SECONDS_STILL, _SECONDS_TO_WAIT = 1.5, 20
_MOST_WAITING = 200  # runs of checkpoints; more are begun when these are over
_TO_CLAIM = timedelta(hours=1)  # in which a run has claimed its checkpoint; else its process was killed
_KEPT: dict[str, Any] = {"persist_result": True, "result_serializer": "json"}


@flow(name="koda-audit", flow_run_name="audit of {config}", **_KEPT)
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

        checked = load(config, overrides, candidate is not None)
        if candidate is not None:
            checked = with_candidate(checked, candidate, config.absolute().parent)

        def run() -> dict[str, Any]:
            from flows.audit import run_audit

            with time_limit(checked.limits.minutes), _told():
                return run_audit(prepare(checked, home), trigger="schedule" if _is_scheduled() else "api")

        return tell_of(checked, home, run)

    return _in_words(work, home)


@flow(name="koda-watch", flow_run_name="look for checkpoints")  # no results: a file a minute, for ever
def watch(config: Path, overrides: dict[str, str] | None = None, home: Path | None = None) -> Any:
    """Look once for new checkpoints, and have each audited that is complete and was not yet.

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
        for checkpoint in seen.ready:
            given = {"config": str(config.absolute()), "overrides": overrides, "home": str(home)}
            if not _submit(checkpoint, given):
                audit_checkpoint(checked, home, checkpoint.path)
        return [{"digest": checkpoint.digest, "checkpoint": checkpoint.path} for checkpoint in seen.ready]

    return _in_words(work, home)


@flow(name="koda-checkpoint", flow_run_name="audit of {checkpoint}", **_KEPT)
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

        if not checkpoint.strip():
            raise ConfigError(
                f"The event {READY} names no checkpoint.", 'Its payload is to hold {"checkpoint": "/the/path.pt"}.'
            )
        path = checkpoint if "://" in checkpoint else str(config.absolute().parent / Path(checkpoint).expanduser())
        checked = _once_it_stands_still(load(config, overrides, True), home, path)
        with _told():
            result = audit_checkpoint(checked, home, path)
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


def _submit(checkpoint: Checkpoint, given: dict[str, Any]) -> bool:
    """Have Prefect run the audit of a checkpoint beside this run, under the same name; tell whether it can.

    Nothing is begun where such a run is under way or waits.
    """
    from prefect.client.orchestration import get_client
    from prefect.deployments import run_deployment
    from prefect.events import emit_event
    from prefect.exceptions import ObjectNotFound
    from prefect.runtime import deployment

    if not deployment.name:
        return False
    name = f"koda-checkpoint/{deployment.name}"
    with get_client(sync_client=True) as client:
        try:
            waits = _is_under_way(client, client.read_deployment_by_name(name).id, checkpoint.path)
        except ObjectNotFound:
            return False
    if not waits:
        parameters = {"checkpoint": checkpoint.path, **given}
        run: Any = run_deployment(name, parameters=parameters, timeout=0, as_subflow=False)
        emit_event(
            READY,
            resource={"prefect.resource.id": f"{SEEN}.{checkpoint.digest}"},
            payload={**parameters, "flow_run": str(run.id)},
        )
    return True


def _is_under_way(client: SyncPrefectClient, deployment: UUID, checkpoint: str) -> bool:
    """Tell whether a run of a checkpoint waits, or has begun lately: a later one would hold the checkpoint's claim."""
    from datetime import UTC, datetime

    from prefect.client.schemas import filters
    from prefect.client.schemas.objects import StateType

    states = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]
    unfinished = filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=states))
    runs = client.read_flow_runs(
        flow_run_filter=filters.FlowRunFilter(state=unfinished),
        deployment_filter=filters.DeploymentFilter(id=filters.DeploymentFilterId(any_=[deployment])),
        limit=_MOST_WAITING,
    )
    since = datetime.now(UTC) - _TO_CLAIM
    here = [run for run in runs if run.start_time is None or run.start_time > since]
    return len(here) == _MOST_WAITING or any(run.parameters.get("checkpoint") == checkpoint for run in here)
