"""The plans of the audit and the alignment that run in this process, so that their steps do not make them again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from koda.audit.plan import AuditPlan, prepare
from koda.config import AlignmentConfig, AuditConfig

if TYPE_CHECKING:
    from koda.alignment import AlignmentPlan

_latest_plan: list[AuditPlan] = []
_next_alignment: list[AlignmentPlan] = []


def remember(plan: AuditPlan) -> AuditPlan:
    """Keep a plan for the steps that run in this process; only the latest one is kept."""
    _latest_plan[:] = [plan]
    return plan


def planned(config: dict[str, Any], home: str) -> AuditPlan:
    """Return the remembered plan of a configuration, or make it: a step may run in another process.

    Args:
        config: an :class:`koda.AuditConfig` as JSON; settings that have their default may be left out.
        home: KODA_HOME, an absolute path.
    """
    place = Path(home)
    for plan in _latest_plan:
        if plan.home == place and (plan.settings == config or plan.config == AuditConfig.model_validate(config)):
            return plan
    return remember(prepare(AuditConfig.model_validate(config), place))


def hand_over(plan: AlignmentPlan) -> AlignmentPlan:
    """Keep the plan of an alignment for the step that runs next in this process."""
    _next_alignment[:] = [plan]
    return plan


def planned_alignment(config: dict[str, Any], home: str, alignment: dict[str, Any]) -> AlignmentPlan:
    """Return the plan that was handed over, or make it: a step may run in another process.

    It holds the embeddings of both models, so it is handed over once and not kept.

    Args:
        config: of the audit, as JSON.
        home: KODA_HOME, an absolute path.
        alignment: an :class:`koda.config.AlignmentConfig` as JSON.
    """
    from koda.alignment import plan_alignment

    audit, settings = planned(config, home), AlignmentConfig.model_validate(alignment)
    waiting = [plan for plan in _next_alignment if plan.audit is audit and plan.config == settings]
    _next_alignment.clear()
    return waiting[0] if waiting else plan_alignment(audit, settings)
