"""The record of a sweep: how each of its audits came out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydantic import Field

from koda.records.base import Part, Record, titled
from koda.records.changes import Status
from koda.records.metrics import Estimate


class SweepSide(Part):
    """What one audit of a sweep found on one side."""

    confirmed: int = Field(description="directions")
    share: float | None = Field(default=None, description="largest held-out share, as max_share; None: no finding")
    estimate: Estimate | None = Field(
        default=None,
        description="the same, with an interval that holds for all findings of the side; None in older ones",
    )
    name: str = Field(default="", description="of the finding with that share")
    words: list[str] = Field(default=[], description="of the same")

    @property
    def title(self) -> str:
        """The name; in a record without names, the first words."""
        return titled(self.name, self.words, 6)


class SweepCell(Part):
    """How one audit of a sweep came out; `error` says why one that did not run has no verdict."""

    data: str
    baseline: str
    candidate: str
    exit_code: int
    audit: str | None = None
    verdict: Status | None = None
    reasons: list[str] = Field(default_factory=list)
    lost: SweepSide | None = None
    gained: SweepSide | None = None
    retrieval_drop: float | None = Field(default=None, description="fall of R@1 on the whole set, if it was measured")
    retrieval: Estimate | None = Field(default=None, description="the same with its interval; None in older summaries")
    error: str | None = None
    report: str | None = Field(default=None, description="path of the audit's report, relative to the summary")

    @property
    def place(self) -> tuple[str, str, str]:
        """Data set, candidate and baseline: a sweep has one cell of each."""
        return self.data, self.candidate, self.baseline


@dataclass(frozen=True)
class Matrix:
    """A table of a sweep: a row for each candidate, a column for each baseline, or for each data set of one."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[SweepCell | None]]]  # None where a model would meet itself


class SweepRecord(Record):
    """What `sweep.json` holds and `sweep.html` says."""

    version: int = 1
    id: str
    title: str
    started: datetime
    ended: datetime
    data: list[str]
    baselines: list[str]
    candidates: list[str]
    cells: list[SweepCell]

    def matrices(self) -> list[Matrix]:
        """Return the cells as tables: one for each data set, or a single one where there is one baseline."""
        cells = {cell.place: cell for cell in self.cells}
        if len(self.baselines) == 1:
            baseline = self.baselines[0]
            rows = [(c, [cells.get((data, c, baseline)) for data in self.data]) for c in self.candidates]
            return [Matrix(f"Against {baseline}", self.data, rows)]
        return [
            Matrix(
                data, self.baselines, [(c, [cells.get((data, c, b)) for b in self.baselines]) for c in self.candidates]
            )
            for data in self.data
        ]

    @property
    def exit_code(self) -> int:
        """The worst of all: the greatest exit code of the audits."""
        return max((cell.exit_code for cell in self.cells), default=0)
