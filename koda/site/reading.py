"""An audit's folder, read for the page over all audits: whether it is whole, and what is shown of it."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from koda.audit.annotations import read_annotations
from koda.audit.figures_of import figures_of
from koda.audit.folders import MANIFEST, RECORD, changed_files
from koda.errors import KodaError, StoreError
from koda.policy import unit_of
from koda.records import SIGN_OFFS, Annotation, AuditRecord, Estimate
from koda.report import text
from koda.report.figures import figure_name
from koda.storage import digest_json, digest_once
from koda.units import NAMES
from koda.wording import counted, one_line

#: figures of the table, with their headings; the trend has all
HEADLINES = {
    "lost.max_share": "Share lost",
    "gained.max_share": "Share gained",
    "retrieval.drop": "Fall of recall",
    "zero_shot.drop": "Fall of zero-shot",
}
_NAME, _TEXT = 80, 120  # characters shown
_DIGITS = 6  # of a figure in the page


def read_folder(folder: Path, before: dict[str, Any]) -> dict[str, Any]:
    """Read the folder of an audit.

    Args:
        folder: of the audit.
        before: what was read of it the last time; of a record that is the one that it was, that is taken.

    Returns:
        Plain data, safe to show: `digest` of the record, `audit` what the record says (None where it cannot be read),
        `people` what was said of it, and `damage` in words, "" where there is none.
    """
    changed, damage = _changed(folder)
    digest, audit, people = "", None, {}
    try:
        digest = digest_once(folder / RECORD)
        if RECORD not in changed:
            known = before.get("audit") if before.get("digest") == digest else None
            audit = known or _told(AuditRecord.from_json((folder / RECORD).read_bytes(), RECORD))
            people = _people(read_annotations(folder))
    except OSError as error:
        damage = damage or f"{RECORD}: {error.strerror}"
    except KodaError as error:
        damage = damage or error.message.replace(f"{folder}{os.sep}", "")
    return {"digest": digest, "audit": audit, "people": people, "damage": text.shorten(one_line(damage), 300)}


def _changed(folder: Path) -> tuple[list[str], str]:
    """Return which files are not as they were written, and say so; "" where all are."""
    if not (folder / MANIFEST).is_file():
        return [], f"{MANIFEST} is missing"
    try:
        changed = changed_files(folder)
    except StoreError:
        return [], f"{MANIFEST} cannot be read"
    missing = [name for name in changed if not (folder / name).is_file()]
    others = [name for name in changed if name not in missing]
    words = [f"{', '.join(names)}: {what}" for names, what in ((others, "changed"), (missing, "missing")) if names]
    return changed, "; ".join(words)


def _told(record: AuditRecord) -> dict[str, Any]:
    figures = figures_of(record)
    return {
        "title": text.shorten(one_line(record.title), _TEXT),
        "verdict": record.verdict.status,
        "reason": text.shorten(one_line(next(iter(record.verdict.reasons), "")), _TEXT),
        "candidate": text.shorten(one_line(record.candidate.label), _NAME),
        "baseline": text.shorten(one_line(record.baseline.label), _NAME),
        "data": text.shorten(one_line(record.data.name), _NAME),
        "n": text.number(record.data.n_compared),
        "ended": text.as_utc(record.ended).strftime("%Y-%m-%dT%H:%M:%S"),
        "line": digest_json([record.baseline.weights_digest, record.data.name])[:12],
        "data_digest": record.data.digest[:12],
        "policy_digest": digest_json(record.config.get("policy"))[:12],
        "headlines": [_cell(name, figures.get(name)) for name in HEADLINES],
        "figures": {name: _numbers(seen) for name, seen in figures.items()},
        "names": {name: text.shorten(figure_name(name), _TEXT) for name in figures},
        "units": {name: NAMES[unit] for name in figures if NAMES[unit := unit_of(name)]},
    }


def _cell(name: str, seen: Estimate | None) -> list[Any]:
    """Return a figure as the table has it: value, interval, and the number that it is sorted by."""
    if seen is None:
        return [text.NONE, "", None]
    return [*text.share_parts(seen, unit_of(name)), _numbers(seen)[0]]


def _numbers(seen: Estimate) -> list[float | None]:
    ends = (seen.value, seen.low, seen.high)
    return [round(end, _DIGITS) if end is not None and math.isfinite(end) else None for end in ends]


def _people(annotations: tuple[Annotation, ...]) -> dict[str, str]:
    """Return who signed off, the latest of each role, and how much else was said."""
    found = {entry.what: text.shorten(one_line(entry.who), _NAME) for entry in annotations if entry.what in SIGN_OFFS}
    signed: dict[str, str] = {role: found[role] for role in reversed(SIGN_OFFS) if role in found}
    counts = {what: sum(entry.what == what for entry in annotations) for what in ("dissent", "waiver", "note")}
    more = ", ".join(counted(count, what) for what, count in counts.items() if count)
    return {**signed, **({"more": more} if more else {})}
