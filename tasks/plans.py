"""The plan of the audit that runs in this process, so that its steps do not make it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from koda.audit.plan import AuditPlan, prepare
from koda.config import AuditConfig

_latest: list[AuditPlan] = []


def remember(plan: AuditPlan) -> AuditPlan:
    """Keep a plan for the steps that run in this process; only the latest one is kept."""
    _latest[:] = [plan]
    return plan


def planned(config: dict[str, Any], home: Path) -> AuditPlan:
    """Return the remembered plan of a configuration, or make it: a step may run in another process."""
    checked = AuditConfig.model_validate(config)
    if _latest and _latest[0].config == checked and _latest[0].home == home:
        return _latest[0]
    return remember(prepare(checked, home))
