"""The figures of the policy, in words and in their own units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from koda.policy import FIGURES, unit_of
from koda.records import AuditRecord, Estimate, FigureName, RuleResult
from koda.records.figure_names import Task
from koda.report import text
from koda.typing import Role
from koda.units import apart, own_decimals

_TASK_WORDS: dict[Task, str] = {"I2T": "image to text,", "T2I": "text to image,", "zero-shot": "zero-shot"}


def labels(record: AuditRecord) -> dict[Role, str]:
    """Return the labels of both models; where they are the same, each with its role."""
    models: dict[Role, str] = {"baseline": record.baseline.label, "candidate": record.candidate.label}
    if len(set(models.values())) == len(models):
        return models
    return {role: f"{label} ({role})" for role, label in models.items()}


def figure_name(figure: str) -> str:
    """Put the name of a policy figure in words; one without words of its own keeps its name."""
    return FIGURES[figure].words if figure in FIGURES else figure


def figure_value(rule: RuleResult, *, words: bool = False) -> str:
    """Write what was observed, with its interval, as a share or as a plain number."""
    if rule.observed is None:
        return "not observed"
    return estimate_of(rule.figure, rule.observed, words=words, limits=rule.limits)


def estimate_of(figure: str, estimate: Estimate, *, words: bool = False, limits: Sequence[float] = ()) -> str:
    """Write an estimate of a figure in its unit, with its interval, so that it can be told from limits beside it."""
    if (unit := unit_of(figure)) != "number":
        return text.share(estimate, words=words, unit=unit, limits=limits)
    digits = _digits(figure)
    if digits is not None:
        digits = max([digits, *map(own_decimals, limits)])
        digits = apart(digits, [estimate.value, estimate.low, estimate.high], limits, text.fixed)
    return text.plain(estimate, words=words, digits=digits)


def estimate_parts(figure: str, estimate: Estimate, limits: Sequence[float] = ()) -> tuple[str, str]:
    """Write an estimate of a figure and its interval apart, the level beside the latter; it is "" where none is."""
    value, _, interval = estimate_of(figure, estimate, limits=limits).partition(" [")
    return value, f"[{interval} at{text.NBSP}{text.level(estimate)}" if interval else ""


def rule_parts(rule: RuleResult) -> tuple[str, str]:
    """Write what a rule observed, and its interval, as :func:`estimate_parts` does."""
    return ("not observed", "") if rule.observed is None else estimate_parts(rule.figure, rule.observed, rule.limits)


def figure_limit(rule: RuleResult, which: str) -> str:
    """Write the warn or fail limit of a rule with the side that is bad."""
    limit = rule.warn if which == "warn" else rule.fail
    if limit is None:
        return text.NONE
    return f"{'>' if rule.direction == 'above' else '<'}{text.NBSP}{limit_of(rule.figure, limit)}"


def limit_of(figure: str, limit: float) -> str:
    """Write a limit in the unit of its figure, with all the decimals that it has."""
    if (unit := unit_of(figure)) != "number":
        return text.limit(limit, unit)
    digits = _digits(figure)
    return text.number(limit) if digits is None else text.fixed(limit, max(digits, own_decimals(limit)))


def number_of(figure: str, value: float | None) -> str:
    """Write a number in the unit of a figure."""
    if (unit := unit_of(figure)) != "number":
        return text.measured(value, unit)
    digits = _digits(figure)
    return text.number(value) if digits is None or value is None else text.fixed(value, digits)


def changed(figure: FigureName, before: Any, after: Any) -> tuple[str, str, str]:
    """Write a figure that two audits have in its own unit: its name in words, and both values."""
    if figure.task is not None:
        name, share = f"{figure.role} {_TASK_WORDS[figure.task]} {figure.depth}", True
    elif figure.side is not None:
        name, share = f"number of directions {figure.side}", False
    else:
        own = str(figure)
        return figure_name(own), number_of(own, before), number_of(own, after)
    written = text.percent if share else text.number
    return name, written(before), written(after)


def _digits(figure: str) -> int | None:
    """Return the decimals that a figure always has, so that two of them compare at a glance; None: as it asks for."""
    return 3 if ".cka" in figure else None
