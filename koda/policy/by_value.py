"""Falls by metadata value: the family of figures `by.<column>.retrieval_drop` and the like.

The names of the family are open, since a column is the data set's to name. This module alone reads them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from koda.policy.intervals import fall
from koda.records import Estimate, Metrics, PairedShares, ValueDifference

ALPHA = 0.05  # a fall whose adjusted p-value is no less is none
ANY_COLUMN = "<column>"  # stands in lists of figures for the name of a column
Task = Literal["retrieval", "zero_shot"]
_NAME = re.compile(r"by\.(?:(?P<column>.+)\.)?(?P<task>retrieval|zero_shot)_drop", re.DOTALL)
_NOT_RECORDED = "the audit did not record it"
_MAX_REASONS = 5  # why columns were not measured, in a reason
_MAX_LENGTH = 80  # of a value, in a reason


@dataclass(frozen=True)
class FallByValue:
    """One fall, baseline less candidate, and where it is: `colour = purple, R@1, image to caption`."""

    estimate: Estimate
    where: str
    p_value: float


@dataclass(frozen=True)
class ByValue:
    """A figure of the family.

    Args:
        column: None for all columns.
        task: what fell.
    """

    column: str | None
    task: Task

    @classmethod
    def parse(cls, name: str) -> ByValue | None:
        """Read the name of a figure; None where it is not of the family.

        >>> ByValue.parse("by.colour.retrieval_drop")
        ByValue(column='colour', task='retrieval')
        >>> ByValue.parse("retrieval.drop")
        """
        parts = _NAME.fullmatch(name)
        return None if parts is None else cls(parts["column"], cast("Task", parts["task"]))

    @property
    def words(self) -> str:
        """What the figure is, in words."""
        what = {"retrieval": "R@1, R@5 or R@10, of either direction,", "zero_shot": "zero-shot accuracy"}[self.task]
        return f"largest significant fall of {what} on a value of {self.column or 'any metadata column'}"

    def falls(self, metrics: Metrics) -> list[FallByValue]:
        """Return every fall of every value, significant or not."""
        values = [item for item in metrics.by_value if self.column is None or item.column == self.column]
        return [
            FallByValue(estimate, f"{_label(item)}, {name}", shares.p_value)
            for item in values
            for name, shares in self._shares(item).items()
            if (estimate := fall(shares.difference, item.n_images)) is not None
        ]

    def absent(self, metrics: Metrics, columns: Sequence[str]) -> str:
        """Say why there is no such figure in an audit that measured the task on the whole set."""
        reasons = metrics.by_value_unmeasured
        if any(self.column in (None, item.column) for item in metrics.by_value):
            return f"too few held-out images of any value of {self.column or 'a metadata column'} have a class"
        if self.column is None:
            several = "; ".join(f"{column}: {reason}" for column, reason in list(reasons.items())[:_MAX_REASONS])
            return several or (_NOT_RECORDED if columns else "the data set has no metadata columns")
        if self.column not in columns:
            return f"the data set has no column {self.column!r}; it has {', '.join(columns) or 'none'}"
        if self.column in reasons:
            return f"{self.column} was not measured by value: {reasons[self.column]}"
        return _NOT_RECORDED

    def _shares(self, item: ValueDifference) -> dict[str, PairedShares]:
        return item.retrieval if self.task == "retrieval" else item.accuracy


def _label(item: ValueDifference) -> str:
    """Name a value in one line."""
    text = " ".join(f"{item.column} = {item.value}".split())
    return text if len(text) <= _MAX_LENGTH else text[:_MAX_LENGTH].rstrip() + "…"
