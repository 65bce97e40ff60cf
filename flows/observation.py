"""What Prefect knows of a run, and is told of it: its name and tags, how far it is, and what came of it.

It is told by a thread of its own, so that a run neither waits for Prefect nor fails by it. A verdict does not change
the state of a flow run: a run that found a failing model has completed, and says FAIL by its tag, its artifact and the
event `koda.audit.finished`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import copy_context
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any
from uuid import UUID

from koda.secrets import redact
from koda.wording import one_line
from tasks.prefect_settings import ASK_ONCE, changed_settings, url_that_is_set

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from koda.audit.plan import AuditPlan

FINISHED = "koda.audit.finished"
_SECONDS_TO_ANSWER = 5.0
_SECONDS_AT_THE_END = 2.0
_Tell = Callable[["SyncPrefectClient"], None]


def of_prefect() -> dict[str, Any]:
    """Return how the run that goes on is known to Prefect: its id, and the server, "" where that is its own.

    Both are written down, so that the address is without its credentials.
    """
    from prefect.context import FlowRunContext

    with suppress(Exception):  # without Prefect an audit runs all the same
        context = FlowRunContext.get()
        if context is not None and context.flow_run is not None:
            return {"flow_run": str(context.flow_run.id), "server": redact(url_that_is_set())}
    return {}


@contextlib.contextmanager
def observed(plan: AuditPlan) -> Iterator[Observer]:
    """Show a run in Prefect while it goes on, if Prefect knows of it."""
    observer = Observer(plan)
    try:
        yield observer
    except BaseException:
        observer.end(0)  # who ends by an error or a signal does not wait
        raise
    observer.end(_SECONDS_AT_THE_END)


class Observer:
    """Tells Prefect of one audit, as long as Prefect answers.

    Args:
        plan: of the audit.
    """

    def __init__(self, plan: AuditPlan) -> None:
        self._plan, self._queue = plan, SimpleQueue[_Tell | None]()
        self._thread: threading.Thread | None = None
        self._progress: UUID | None = None
        self._percent, self._is_behind = 0.0, False
        run = _flow_run()
        if run is None:
            return
        self._run, self._tags = run.id, list(run.tags)
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._work,), daemon=True, name="koda-observation"
        )
        self._thread.start()
        self._queue.put(self._name)
        self.step(0)

    def step(self, done: int) -> None:
        """Tell how many steps are over."""
        if self._thread is not None:
            self._percent = round(100 * done / len(self._plan.steps()), 1)
            if not self._is_behind:  # steps that are over sooner than Prefect is told are told together
                self._is_behind = True
                self._queue.put(self._show_progress)

    def finish(self, result: dict[str, Any]) -> None:
        """Tell what came of the audit.

        Args:
            result: what `koda audit --json` prints.
        """
        if self._thread is None:
            return
        self._queue.put(lambda client: self._show_result(client, result))
        with suppress(Exception):
            self._emit(result)

    def end(self, seconds: float) -> None:
        """Wait so long for what is still to be told."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(seconds)

    def _work(self) -> None:
        from httpx import HTTPStatusError
        from prefect.client.orchestration import get_client

        with (
            suppress(Exception),  # a server that does not answer is asked no more
            changed_settings(ASK_ONCE),
            get_client(httpx_settings={"timeout": _SECONDS_TO_ANSWER}, sync_client=True) as client,
        ):
            while (tell := self._queue.get()) is not None:
                with suppress(HTTPStatusError):  # one that cannot take this, or is too busy, may take the next
                    tell(client)

    def _name(self, client: SyncPrefectClient) -> None:
        """Name the flow run, which could not be named before its models and data were known."""
        candidate, baseline, data = self._names()
        self._tags += [f"baseline:{baseline}", f"data:{data}"]
        client.update_flow_run(self._run, name=f"{candidate} vs {baseline} on {data}", tags=self._tags)

    def _names(self) -> tuple[str, str, str]:
        from flows.prefect_artifacts import safe_name

        plan = self._plan
        return safe_name(plan.label("candidate")), safe_name(plan.label("baseline")), safe_name(plan.dataset.name)

    def _show_progress(self, client: SyncPrefectClient) -> None:
        from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate

        from flows.prefect_artifacts import PROGRESS

        self._is_behind = False
        if self._progress is None:
            words = f"steps of {self._plan.audit_id}"
            made = client.create_artifact(
                ArtifactCreate(
                    key=PROGRESS, type="progress", data=self._percent, description=words, flow_run_id=self._run
                )
            )
            self._progress = made.id
        else:
            client.update_artifact(self._progress, ArtifactUpdate(data=self._percent))

    def _show_result(self, client: SyncPrefectClient, result: dict[str, Any]) -> None:
        from prefect.client.schemas.actions import ArtifactCreate

        from flows.prefect_artifacts import artifacts_of
        from koda.audit.folders import read_record

        client.update_flow_run(self._run, tags=[*self._tags, f"verdict:{result['verdict']}"])
        record = read_record(Path(result["paths"]["record"]))
        for artifact in artifacts_of(record, Path(result["paths"]["html"])):
            client.create_artifact(ArtifactCreate(**vars(artifact), flow_run_id=self._run))

    def _emit(self, result: dict[str, Any]) -> None:
        """Emit the event of a finished audit, which automations may wait for."""
        from prefect.events import emit_event

        candidate, baseline, data = self._names()
        emit_event(
            FINISHED,
            {
                "prefect.resource.id": f"koda.audit.{result['id']}",
                "prefect.resource.name": f"{candidate} vs {baseline} on {data}",
                "koda.verdict": result["verdict"],
            },
            payload={
                "audit": result["id"],
                "verdict": result["verdict"],
                "reasons": [one_line(reason) for reason in result["reasons"]],
                "candidate": candidate,
                "baseline": baseline,
                "data": data,
                "report": result["paths"]["html"],
                "record": result["paths"]["record"],
            },
        )


def _flow_run() -> Any:
    """Return the flow run that goes on, if Prefect knows of one."""
    from prefect.context import FlowRunContext

    with suppress(Exception):
        context = FlowRunContext.get()
        return None if context is None else context.flow_run
    return None
