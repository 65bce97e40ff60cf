"""The record of a calibration: what audits of equal models showed, and the limits that follow."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from koda.records.base import Part, Record


class EqualModel(Part):
    """One of the models that are held for equal."""

    label: str
    name: str
    pretrained: str | None = None
    weights_digest: str
    fingerprint: str
    precision: str


class SeenFigure(Part):
    """A figure of one audit of equals, for one rule; of several that the rule judges, the worst."""

    value: float
    end: float = Field(description="the end of its interval on the bad side; the value where it has none")


class EqualsAudit(Part):
    """One audit of two equals on one subsample."""

    baseline: str
    candidate: str
    subsample: int = Field(description="its number, from 1; 0: the whole data set")
    data_digest: str = Field(description="of the subsample")
    evaluation_digest: str = Field(description="of the stored artifact with the findings and figures")
    n_compared: int
    n_confirmed: int = Field(description="directions of both sides")
    figures: list[SeenFigure | None] = Field(description="in the order of the rules; None: it was not observed")


class Spread(Part):
    """What the audits of equals show of a figure, and the bound on it."""

    least: float
    median: float
    most: float
    bound: float = Field(description="on the bad side; it is compared with the limit as rounded to three digits")


class CalibratedRule(Part):
    """One rule of the policy, before and after."""

    figure: str
    direction: Literal["above", "below"]
    n: int = Field(description="audits in which the figure was observed")
    values: Spread | None = Field(default=None, description="of the figure: for the warn limit")
    ends: Spread | None = Field(default=None, description="of the ends of its intervals: for the fail limit")
    warn_before: float | None
    fail_before: float | None
    warn: float | None
    fail: float | None
    note: str | None = Field(default=None, description="why the rule was not calibrated")

    @property
    def moved(self) -> bool:
        """Whether a limit is another than before."""
        return (self.warn, self.fail) != (self.warn_before, self.fail_before)


class CalibrationRecord(Record):
    """What `calibration.json` holds."""

    version: int = 1
    id: str
    started: datetime
    ended: datetime
    koda_version: str
    models: list[EqualModel]
    data_name: str
    data_path: str
    data_digest: str
    n_source: int = Field(description="rows of the data set")
    subsamples: int
    size: int = Field(description="rows of each subsample")
    seed: int = Field(description="a subsample is drawn with it and its number")
    level: float = Field(
        description="share of audits of equals that a bound is to hold, and the confidence that it does"
    )
    method: str = Field(description="how bounds and limits follow from the audits, in words")
    audits: list[EqualsAudit]
    rules: list[CalibratedRule]
    policy: list[dict[str, Any]] = Field(description="the rules as the policy file has them")
    config: dict[str, Any]
