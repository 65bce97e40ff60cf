"""The plans of what runs, so that a step need not make its own again.

Every call of a flow prepares anew, since models, data and the date may have changed since the last one. Only its own
steps are given its plan; and a command that has prepared one to say at once what is wrong hands it to the flow that
it calls next. Both are held by the context, so that flows in several threads do not meet.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koda.audit.plan import AuditPlan, prepare
from koda.config import AlignmentConfig, AuditConfig

if TYPE_CHECKING:
    from koda.alignment import AlignmentPlan

#: at most one plan, in a list so that who takes it leaves none in whatever context it was put
_handed_over: ContextVar[list[AuditPlan]] = ContextVar("_handed_over")
_of_the_step: ContextVar[AuditPlan | None] = ContextVar("_of_the_step", default=None)
_alignment: ContextVar[AlignmentPlan | None] = ContextVar("_alignment", default=None)


def hand_over(plan: AuditPlan) -> AuditPlan:
    """Keep a plan that was just prepared for the flow that is called next, which takes it."""
    _handed_over.set([plan])
    return plan


def take_over(config: dict[str, Any], home: str) -> AuditPlan:
    """Return the plan that was handed over, if it is of this configuration, or prepare one, as a flow begins.

    Args:
        config: an :class:`koda.AuditConfig` as JSON; settings that have their default may be left out.
        home: KODA_HOME, an absolute path.
    """
    waiting = _handed_over.get([])
    plan = waiting.pop() if waiting else None
    return plan if plan is not None and _is_of(plan, config, home) else _prepare(config, home)


@contextmanager
def running(plan: AuditPlan, alignment: AlignmentPlan | None = None) -> Iterator[None]:
    """Let the step that is called within have its plan."""
    tokens = _of_the_step.set(plan), _alignment.set(alignment)
    try:
        yield
    finally:
        _of_the_step.reset(tokens[0])
        _alignment.reset(tokens[1])


def planned(config: dict[str, Any], home: str) -> AuditPlan:
    """Return the plan of the step that runs, or make it: a step may run in another process.

    Args:
        config: an :class:`koda.AuditConfig` as JSON.
        home: KODA_HOME, an absolute path.
    """
    plan = _of_the_step.get()
    return plan if plan is not None and _is_of(plan, config, home) else _prepare(config, home)


def planned_alignment(config: dict[str, Any], home: str, alignment: dict[str, Any]) -> AlignmentPlan:
    """Return the plan of the alignment that runs, or make it: a step may run in another process.

    Args:
        config: of the audit, as JSON.
        home: KODA_HOME, an absolute path.
        alignment: an :class:`koda.config.AlignmentConfig` as JSON.
    """
    from koda.alignment import plan_alignment

    audit, settings = planned(config, home), AlignmentConfig.model_validate(alignment)
    waiting = _alignment.get()
    if waiting is not None and waiting.audit is audit and waiting.config == settings:
        return waiting
    return plan_alignment(audit, settings)


def _is_of(plan: AuditPlan, config: dict[str, Any], home: str) -> bool:
    if plan.home != Path(home):
        return False
    return plan.settings == config or plan.config == AuditConfig.model_validate(config).audited()


def _prepare(config: dict[str, Any], home: str) -> AuditPlan:
    return prepare(AuditConfig.model_validate(config), Path(home))
