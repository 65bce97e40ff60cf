"""The figures of the policy, in words and in their own units."""

from __future__ import annotations

from typing import Any

from koda.policy import FIGURES
from koda.records import FigureName, RuleResult
from koda.records.figure_names import Task
from koda.report import text

_TASK_WORDS: dict[Task, str] = {"I2T": "image to text,", "T2I": "text to image,", "zero-shot": "zero-shot"}


def figure_name(figure: str) -> str:
    """Put the name of a policy figure in words; one without words of its own keeps its name."""
    return FIGURES[figure].words if figure in FIGURES else figure


def figure_value(rule: RuleResult, *, words: bool = False) -> str:
    """Write what was observed, with its interval, as a share or as a plain number."""
    if rule.observed is None:
        return "not observed"
    return (text.share if is_share(rule.figure) else text.plain)(rule.observed, words=words)


def figure_limit(rule: RuleResult, which: str) -> str:
    """Write the warn or fail limit of a rule with the side that is bad."""
    limit = rule.warn if which == "warn" else rule.fail
    if limit is None:
        return text.NONE
    return f"{'>' if rule.direction == 'above' else '<'}{text.NBSP}{limit_in_words(rule, limit)}"


def limit_in_words(rule: RuleResult, limit: float) -> str:
    """Write a limit in the unit of its figure."""
    return text.percent(limit) if is_share(rule.figure) else text.number(limit)


def changed(figure: FigureName, before: Any, after: Any) -> tuple[str, str, str]:
    """Write a figure that two audits have in its own unit: its name in words, and both values."""
    if figure.task is not None:
        name, share = f"{figure.role} {_TASK_WORDS[figure.task]} {figure.depth}", True
    elif figure.side is not None:
        name, share = f"number of directions {figure.side}", False
    else:
        name, share = figure_name(str(figure)), is_share(str(figure))
    written = text.percent if share else text.number
    return name, written(before), written(after)


def is_share(figure: str) -> bool:
    """Say whether a policy figure is a share, which is written as a percentage."""
    if figure in FIGURES:
        return FIGURES[figure].percent
    return figure.rsplit(".", 1)[-1].endswith(
        ("share", "difference", "drop")
    )  # a figure that another version of koda has
