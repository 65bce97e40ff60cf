"""What differs between two audits, as a record holds it; :mod:`koda.audit.diff` finds it out."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from koda.records.base import Part, titled
from koda.records.figure_names import FigureName
from koda.typing import Side

Status = Literal["pass", "warn", "fail", "inconclusive"]


class Difference(Part):
    """Something that is not the same in both: a setting by its dotted key, a rule, a package; None where absent."""

    name: str
    before: Any = None
    after: Any = None


class FigureDifference(Part):
    """A figure that is not the same in both; None where it was not measured."""

    name: FigureName
    before: Any = None
    after: Any = None


class FindingSeen(Part):
    """A finding of one audit that the other one lacks."""

    side: Side
    direction: int
    name: str = ""
    words: list[str] = Field(default_factory=list)
    target_share: float
    confirmed: bool | None = None

    @property
    def title(self) -> str:
        """The name; in a record without names, the first words."""
        return titled(self.name, self.words)


class FindingKept(Part):
    """A finding that both audits have: their slices overlap."""

    side: Side
    before: int = Field(description="number of the direction in the earlier audit")
    after: int
    overlap: float = Field(description="Jaccard: samples in both slices over samples in either")
    name: str = Field(default="", description="in the later audit")
    words: list[str] = Field(default_factory=list)
    share_before: float
    share_after: float
    confirmed_before: bool | None = None
    confirmed_after: bool | None = None

    @property
    def title(self) -> str:
        """The name; in a record without names, the first words."""
        return titled(self.name, self.words)


class Changes(Part):
    """What changed from one audit to another."""

    before: str = Field(description="id of the earlier audit")
    before_ended: datetime
    after: str
    comparable: bool
    not_comparable: list[str] = Field(default=[], description="the reasons why not, in words")
    verdict_before: Status
    verdict_after: Status
    rules: list[Difference] = Field(default=[], description="figures whose rules have other results, with these")
    findings_compared: bool = Field(description="only audits of the same data have slices that can be compared")
    new: list[FindingSeen] = Field(default_factory=list)
    gone: list[FindingSeen] = Field(default_factory=list)
    kept: list[FindingKept] = Field(default_factory=list)
    metrics: list[FigureDifference] = Field(default_factory=list)
    config: list[Difference] = Field(default_factory=list)
    data: list[Difference] = Field(default_factory=list)
    models: list[Difference] = Field(default_factory=list)
    software: list[Difference] = Field(default_factory=list)

    @property
    def verdict_flipped(self) -> bool:
        """Whether the two have different verdicts."""
        return self.verdict_before != self.verdict_after


class NearestPrevious(Part):
    """The finding of the last audit of the same line whose slice overlaps most with a finding's."""

    audit: str
    side: Side
    direction: int
    overlap: float = Field(description="Jaccard of the samples of both slices")
