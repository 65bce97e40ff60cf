"""Every figure of the policy that an audit has, whatever its own policy asks for."""

from __future__ import annotations

from typing import Any

from koda.config import PolicyRule
from koda.policy import FIGURES, AuditFacts, observe, retested
from koda.records import AuditRecord, Estimate
from koda.typing import Role, other_role

_CANDIDATE_FIRST: tuple[Role, ...] = ("candidate", "baseline")


def figures_of(record: AuditRecord) -> dict[str, Estimate]:
    """Return figure -> the worst that the audit has of it, as a rule without options sees it.

    The falls by metadata value are there for all columns together and for each.
    """
    facts = AuditFacts(
        record.findings, record.data, record.metrics, record.controls, record.themes, _retested(record)
    )  # fmt: skip
    columns = dict.fromkeys(item.column for item in record.metrics.by_value)
    by_column = [f"by.{column}.{task}_drop" for column in columns for task in ("retrieval", "zero_shot")]
    seen = {name: observe(name, facts, PolicyRule(figure=name, warn=0)) for name in (*FIGURES, *by_column)}
    return {name: observations[0].estimate for name, observations in seen.items() if observations}


def figure_rows(record: AuditRecord) -> list[dict[str, Any]]:
    """Return the figures of an audit as rows of the database."""
    return [
        {"audit_id": record.id, "figure": name, **estimate.model_dump(include={"value", "low", "high"})}
        for name, estimate in figures_of(record).items()
    ]


def _retested(record: AuditRecord) -> AuditFacts | None:
    """Return the findings of the audit before an alignment that count in this one."""
    run = record.alignment
    if run is None:
        return None
    models = {"baseline": record.baseline, "candidate": record.candidate}
    role = next((role for role in _CANDIDATE_FIRST if models[role].weights_digest == run.weights_digest), None)
    if role is None:
        return None
    return retested(run, role, models[other_role(role)].fingerprint, record.data, record.method.alpha)
