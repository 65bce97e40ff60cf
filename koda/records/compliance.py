"""What a team says of its audit beside the figures: intended use, owners, and references of frameworks."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import Field

from koda.records.base import Part

CrosswalkStatus = Literal["filled", "part", "not here", "link only"]


class CrosswalkRow(Part):
    """One reference of a framework, and what this report supplies towards it."""

    framework: str = Field(description="EU AI Act, NIST AI RMF, ISO/IEC 42001, ...")
    reference: str = Field(description="Annex IV 2(g)")
    asks_for: str = Field(description="what it asks for, in a few words of the team's own")
    status: CrosswalkStatus
    supplies: str = Field(default="", description="what of it this report holds, and what it does not")
    owner: str = Field(default="", description="who has the rest")
    section: str | None = Field(default=None, description="id of the section of the report that holds it: policy")
    applies_from: date | None = Field(default=None, description="as the team's lawyers say; koda knows no law")


class Crosswalk(Part):
    """The crosswalk of a report; it is supplied evidence, and no conformity assessment."""

    title: str
    as_of: date = Field(description="on which its words and dates were last checked by whoever keeps it")
    kept_by: str = Field(default="")
    rows: list[CrosswalkRow]
    digest: str = Field(description="of the file that it was read from")


class IntendedUse(Part):
    """What the candidate is for, as its team states it; None: not stated."""

    purpose: str | None = None
    out_of_scope: str | None = None
    owner: str | None = None
    contact: str | None = None
