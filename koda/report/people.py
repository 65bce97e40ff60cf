"""What people said of an audit after it, as its report shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from koda.records import SIGN_OFFS, Annotation, AuditRecord, Subset
from koda.report import text
from koda.report.figures import figure_name
from koda.report.view import anchor, numbered

_NAME, _TEXT = 200, 10_000  # characters that are shown
_ROLES = {"prepared": "Prepared by", "reviewed": "Reviewed by", "approved": "Approved by"}


@dataclass(frozen=True)
class Said:
    """One statement, ready to be shown; what a kind of statement lacks is ""."""

    number: int
    role: str
    who: str
    when: str
    text: str
    finding: Subset | None
    anchor: str
    place: str
    figure: str
    until: str
    result: str  # of the rule that a waiver is on, as the audit judged it


@dataclass(frozen=True)
class People:
    """All statements of an audit by kind, each the oldest first."""

    sign_offs: list[Said]
    dissents: list[Said]
    notes: list[Said]
    waivers: list[Said]
    head: str
    missing: str

    def notes_of(self, finding: Subset) -> list[Said]:
        """Return the notes on a finding."""
        return [note for note in self.notes if note.finding == finding]


def people(record: AuditRecord, annotations: Sequence[Annotation]) -> People:
    """Sort what was said by its kind, and say who has not signed off.

    Args:
        record: of the audit.
        annotations: what was said, the oldest first; its chain was looked at before.
    """
    results = {rule.figure: rule.waived or rule.result for rule in record.verdict.rules}
    said = {entry.number: _said(entry, results) for entry in annotations}
    there = {entry.what for entry in annotations}
    missing = [role for role in SIGN_OFFS if role not in there]
    return People(
        sign_offs=[said[entry.number] for entry in annotations if entry.what in SIGN_OFFS],
        dissents=[said[entry.number] for entry in annotations if entry.what == "dissent"],
        notes=[said[entry.number] for entry in annotations if entry.what == "note"],
        waivers=[said[entry.number] for entry in annotations if entry.what == "waiver"],
        head=annotations[-1].digest if annotations else "",
        missing=_missing(missing),
    )


def _missing(roles: Sequence[str]) -> str:
    if len(roles) == len(SIGN_OFFS):
        return "Nobody has signed off: nobody is named who prepared, reviewed or approved this audit."
    return f"Nobody is named who {' or '.join(roles)} it." if roles else ""


def _said(entry: Annotation, results: Mapping[str, str]) -> Said:
    on = entry.finding
    return Said(
        number=entry.number,
        role=_ROLES.get(entry.what, ""),
        who=text.shorten(entry.who, _NAME),
        when=text.utc(entry.when),
        text=text.shorten(entry.text, _TEXT),
        finding=on,
        anchor="" if on is None else anchor(on),
        place="" if on is None else numbered(on),
        figure="" if entry.figure is None else text.shorten(figure_name(entry.figure), 200),
        until="" if entry.until is None else entry.until.isoformat(),
        result=results.get(entry.figure or "", ""),
    )
