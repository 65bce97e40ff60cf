"""What every step shares: the cache policy, the GPU slot, and how a step is called from a flow.

The artifact store is the truth and Prefect's record of a task a hint: a record whose artifact is
gone is refreshed, and a task that finds its artifact made by someone else does not make it again.
What a task returns says which of the two it did, since only the one that holds the lock knows.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from prefect import Task
from prefect.cache_policies import CachePolicy
from prefect.results import get_result_store
from prefect.tasks import exponential_backoff

from koda.audit.costs import measured
from koda.audit.making import Made, cost_of
from koda.audit.plan import COVARIANCES, SOLUTIONS, AuditPlan, Step
from koda.audit.references import Key
from koda.audit.runs import StepCost
from koda.typing import SIDES
from tasks.plans import running
from tasks.progress import report
from tasks.retries import worth_retrying
from tasks.slots import GPU, place

if TYPE_CHECKING:
    from koda.alignment import AlignmentPlan

_SERIALIZER = "json"


def _key(context: Any, parameters: dict[str, Any]) -> str:
    return _cache_key(context.task.name, parameters["key"])


def _cache_key(task: str, key: str) -> str:
    return f"koda-made-{task}-{key}"


#: a task's record is found again by its name and the digest of its inputs, in any run
BY_KEY = CachePolicy.from_cache_key_fn(_key)


#: what every step's decorator is given; a step is tried three times, 1 and 2 seconds apart or up to half as much more
STEP: dict[str, Any] = {
    "cache_policy": BY_KEY,
    "persist_result": True,
    "result_serializer": _SERIALIZER,
    "retries": 2,
    "retry_delay_seconds": exponential_backoff(1),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": worth_retrying,
}


@contextlib.contextmanager
def gpu_slot(device: str, home: str) -> Iterator[None]:
    """Hold a place in the concurrency limit named `gpu` while the GPU is used; nothing on a CPU.

    The limit is made with one place; `prefect gcl update gpu --limit 2` changes that, where no server is set with
    PREFECT_HOME=KODA_HOME/prefect.

    Args:
        device: as the configuration names it.
        home: KODA_HOME.
    """
    from koda.devices import device_of

    if device_of(device).type == "cpu":
        yield
        return
    with place(GPU, Path(home), 1, lambda: report("waiting for a place on the GPU", 0, 1)):
        yield


@dataclass(frozen=True)
class StepResult:
    """A step that was asked for: what it took, and what was damaged of what it had made before."""

    cost: StepCost
    damage: str | None = None

    @property
    def executed(self) -> bool:
        """Whether this run had to execute it."""
        return self.cost.executed

    @property
    def summary(self) -> dict[str, Any]:
        """What the commands print of it as JSON."""
        return {"name": self.cost.name, "executed": self.cost.executed, "seconds": self.cost.seconds}

    @property
    def note(self) -> str | None:
        """What people are told of it, if anything."""
        return None if self.damage is None else f"{self.damage}: damaged, made again by the step {self.cost.name}"


_made_ahead: ContextVar[Mapping[Key, StepCost]] = ContextVar("_made_ahead", default=MappingProxyType({}))


@contextlib.contextmanager
def made_ahead(costs: Mapping[Key, StepCost]) -> Iterator[None]:
    """Have steps that were made for this run before it began told with what they took then.

    Args:
        costs: what each step took that was made, by kind and key of its artifact.
    """
    token = _made_ahead.set(costs)
    try:
        yield
    finally:
        _made_ahead.reset(token)


def run_step(
    task: Task[..., Made],
    step: Step,
    plan: AuditPlan,
    *,
    fresh: bool,
    alignment: AlignmentPlan | None = None,
    **arguments: Any,
) -> StepResult:
    """Run a step, or find what it made before, and tell those who watch when it begins and ends.

    Args:
        task: what makes the step's artifact.
        step: one of the plan, or another that belongs to it.
        plan: the audit.
        fresh: make it again.
        alignment: the plan of the alignment, where that is the step.
        arguments: what the task is told beyond the step's own arguments.
    """
    report(step.name, 0, 1)
    begun = time.monotonic()
    store = plan.artifacts
    if fresh:
        with store.lock(step.kind, step.key):
            store.retire(step.kind, step.key)
    there = store.has(step.kind, step.key)
    damage = None if there else _damage(step, plan)
    usable = there and _is_ours(task, step.key)
    with running(plan, alignment), measured() as peaks:
        made = task.with_options(refresh_cache=not usable, task_run_name=step.name)(
            key=step.key, config=plan.settings, home=str(plan.home), **step.arguments, **arguments
        )
    executed = not there and made["executed"]
    cost = cost_of(step, plan, executed, time.monotonic() - begun, peaks)
    if not executed and (ahead := _made_ahead.get().get((step.kind, step.key))) is not None:
        cost, executed = ahead, True
    result = StepResult(cost, damage)
    how = "cached" if there else "made by another run, which was waited for" if not executed else result.note
    report(f"{step.name} ({how})" if how else step.name, 1, 1, cost)
    return result


def _damage(step: Step, plan: AuditPlan) -> str | None:
    """Return what is damaged of a step's artifact, or of the covariance that a search would take up."""
    of = [(step.kind, step.key)]
    if step.kind == SOLUTIONS:
        of += [(COVARIANCES, plan.covariance_key(side)) for side in SIDES if side == step.arguments["side"]]
    return next((damage for kind, key in of if (damage := plan.artifacts.damage(kind, key)) is not None), None)


def _is_ours(task: Task[..., Made], key: str) -> bool:
    """Tell whether Prefect's record of a step names our serializer; another, such as pickle, could run code."""
    store: Any = get_result_store()
    try:
        storage = store.update_for_task(task, _sync=True).result_storage
        record = json.loads(storage.read_path(_cache_key(task.name, key), _sync=True))
        return bool(record["metadata"]["serializer"]["type"] == _SERIALIZER)
    except (OSError, ValueError, KeyError, TypeError):
        return False
