"""What people say of an audit after it: who prepared, reviewed and approved it, dissent, notes and waivers.

The entries are a chain: each holds the digest of the one before, and the first that of the record it is about.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal, get_args

from pydantic import Field

from koda.records.base import Part, Record, parse_record
from koda.records.subsets import Subset

ANNOTATIONS_VERSION = 1
SignOff = Literal["prepared", "reviewed", "approved"]
SIGN_OFFS: tuple[SignOff, ...] = get_args(SignOff)
What = Literal["prepared", "reviewed", "approved", "dissent", "note", "waiver"]


class Annotation(Part):
    """One thing that somebody said."""

    number: int = Field(description="1 is the first")
    when: datetime = Field(description="UTC, by the clock of the machine that wrote it")
    what: What
    who: str = Field(description="as given: koda does not know who typed it")
    text: str = Field(default="", description="of a dissent, a note, or the reason of a waiver")
    finding: Subset | None = Field(default=None, description="that a note is on")
    figure: str | None = Field(default=None, description="of the policy, that a waiver is on")
    until: date | None = Field(default=None, description="the last day (UTC) that a waiver names")
    previous: str = Field(description="digest of the entry before; of the first that of audit.json")
    digest: str = Field(description="of all the other fields")


class Annotations(Record):
    """All of it, the oldest first."""

    version: int = ANNOTATIONS_VERSION
    audit: str
    record: str = Field(description="sha256 of the audit.json that it is about")
    entries: list[Annotation] = Field(min_length=1)
    head: str = Field(description="digest of the last entry")

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> Annotations:
        """Read annotations, whose chain is not looked at here.

        Raises:
            DataError: they are not, or are those of a newer koda.
        """
        return parse_record(
            cls, text, where, "a file of annotations", "a valid file of annotations", ANNOTATIONS_VERSION
        )
