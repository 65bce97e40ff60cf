"""What every step shares: the cache policy, the GPU slot, and how a step is called from a flow.

The artifact store is the truth and Prefect's record of a task a hint: a record whose artifact is
gone is refreshed, and a task that finds its artifact made by someone else does not make it again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from prefect import Task
from prefect.cache_policies import CachePolicy
from prefect.concurrency.sync import concurrency

from koda.audit.plan import COVARIANCES, SOLUTIONS, AuditPlan, Step
from koda.errors import KodaError
from koda.typing import SIDES
from tasks.progress import report


def _key(context: Any, parameters: dict[str, Any]) -> str:
    return f"koda-{context.task.name}-{parameters['key']}"


#: a task's record is found again by its name and the digest of its inputs, in any run
BY_KEY = CachePolicy.from_cache_key_fn(_key)


def worth_retrying(task: Any, run: Any, state: Any) -> bool:
    """Retry what another try may mend; an error that says what is wrong will say so again."""
    try:
        state.result()
    except KodaError:
        return False
    except Exception:
        return True
    return False


#: what every step's decorator is given
STEP: dict[str, Any] = {
    "cache_policy": BY_KEY,
    "persist_result": True,
    "result_serializer": "json",
    "retries": 1,
    "retry_delay_seconds": 2,
    "retry_condition_fn": worth_retrying,
}


@contextlib.contextmanager
def gpu_slot(device: str) -> Iterator[None]:
    """Hold a place in the concurrency limit named `gpu` while the GPU is used; nothing on a CPU.

    The limit is made with `prefect gcl create gpu --limit 1`; without one there is no waiting.
    """
    from koda.devices import device_of

    if device_of(device).type == "cpu":
        yield
        return
    with concurrency("gpu", occupy=1, lease_duration=60):
        yield


@dataclass(frozen=True)
class StepResult:
    """A step that was asked for: what it made, whether it had to be executed, how long that took, and what was
    damaged of what it had made before.
    """

    name: str
    digest: str
    executed: bool
    seconds: float
    damage: str | None = None

    @property
    def summary(self) -> dict[str, Any]:
        """What the commands print of it as JSON."""
        return {"name": self.name, "executed": self.executed, "seconds": self.seconds}

    @property
    def note(self) -> str | None:
        """What people are told of it, if anything."""
        return None if self.damage is None else f"{self.damage}: damaged, made again by the step {self.name}"


def run_step(task: Task[..., str], step: Step, plan: AuditPlan, *, fresh: bool, **arguments: Any) -> StepResult:
    """Run a step, or find what it made before, and tell those who watch when it begins and ends.

    Args:
        task: what makes the step's artifact.
        step: one of the plan, or another that belongs to it.
        plan: the audit.
        fresh: make it again.
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
    digest = task.with_options(refresh_cache=not there, task_run_name=step.name)(
        key=step.key, config=plan.settings, home=str(plan.home), **step.arguments, **arguments
    )
    result = StepResult(step.name, digest, not there, round(time.monotonic() - begun, 3), damage)
    report(f"{step.name} (cached)" if there else f"{step.name} ({result.note})" if result.note else step.name, 1, 1)
    return result


def _damage(step: Step, plan: AuditPlan) -> str | None:
    """Return what is damaged of a step's artifact, or of the covariance that a search would take up."""
    of = [(step.kind, step.key)]
    if step.kind == SOLUTIONS:
        of += [(COVARIANCES, plan.covariance_key(side)) for side in SIDES if side == step.arguments["side"]]
    return next((damage for kind, key in of if (damage := plan.artifacts.damage(kind, key)) is not None), None)


def make_once(plan: AuditPlan, kind: str, key: str, make: Callable[[], str]) -> str:
    """Make an artifact unless it is there; two processes never make one at the same time."""
    store = plan.artifacts
    with store.lock(kind, key):
        if not store.has(kind, key):
            store.discard(kind, key)
            try:
                return make()
            except BaseException:
                store.discard(kind, key)
                raise
        return store.digest(kind, key)
