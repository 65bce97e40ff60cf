"""The figures of the audits of one line, as a record holds them up to its own: the trend of its report."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from koda.records.base import Part
from koda.records.metrics import Estimate


class TrendPoint(Part):
    """One audit of the line."""

    audit: str
    candidate: str
    ended: datetime
    verdict: Literal["pass", "warn", "fail", "inconclusive"]
    figures: dict[str, Estimate] = Field(description="figure of the policy -> what was observed")
    breaks: list[str] = Field(
        default=[], description="why it cannot be compared with the point before: 'data', 'policy', 'settings', 'koda'"
    )


class Trend(Part):
    """The audits of one line, the oldest first, this one last."""

    points: list[TrendPoint]
    left_out: int = Field(default=0, description="earlier audits that the limit on their number left out")
