"""The plan of the audit that runs in this process, so that its steps do not make it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from koda.audit.plan import AuditPlan, prepare
from koda.config import AuditConfig

_latest_plan: list[AuditPlan] = []


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
