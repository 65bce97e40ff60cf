"""What people say of an audit after it: added to a chain beside its record, and read back whole or not at all.

Figures and verdict stay as they were recorded. The chain shows that an entry was changed, taken out or put in; whoever
can write the file can write a chain of his own, which only a signature over it would show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from koda.audit.folders import ANNOTATIONS, RECORD, is_listed
from koda.errors import ConfigError, DataError, StoreError, did_you_mean, nearest
from koda.records import SIGN_OFFS, Annotation, Annotations, AuditRecord, What
from koda.records.subsets import Subset
from koda.storage import digest_json, digest_once

_LONGEST_NAME, _LONGEST_TEXT = 200, 10_000  # characters
_MEND = "Put the file back from a copy. To begin anew, move it away and say again with koda annotate what it said."


@dataclass(frozen=True)
class Statement:
    """What somebody says of an audit.

    Args:
        what: kind of statement.
        who: name of the person.
        text: of a dissent or a note, or the reason of a waiver.
        finding: that a note is on, such as `lost 1`.
        figure: of the policy, that a waiver is on.
        until: the last day of a waiver.
    """

    what: What
    who: str
    text: str = ""
    finding: str | None = None
    figure: str | None = None
    until: date | None = None


def read_annotations(folder: Path) -> tuple[Annotation, ...]:
    """Return what was said of an audit, the oldest first.

    Args:
        folder: of the audit.

    Raises:
        StoreError: the file is missing though the manifest lists it, or its chain is broken, or it is of another
            record than the one beside it.
    """
    chain = _read_chain(folder)
    return () if chain is None else tuple(chain.entries)


def with_statement(folder: Path, record: AuditRecord, said: Statement, now: datetime) -> Annotations:
    """Return the annotations of an audit with one more at their end.

    Args:
        folder: of the audit.
        record: of the audit.
        said: what is added.
        now: when; it is stored in UTC.

    Raises:
        ConfigError: a statement that is empty, too long, or of a finding or figure that the record lacks.
        StoreError: the annotations that are there are damaged.
    """
    chain = _read_chain(folder)
    entries = [] if chain is None else chain.entries
    about = digest_once(folder / RECORD)
    finding = _check(record, said, now.astimezone(UTC).date())
    unsealed = Annotation(
        number=len(entries) + 1,
        when=now.astimezone(UTC).replace(microsecond=0),
        what=said.what,
        who=said.who.strip(),
        text=said.text.strip(),
        finding=finding,
        figure=said.figure,
        until=said.until,
        previous=entries[-1].digest if entries else about,
        digest="",
    )
    entry = unsealed.model_copy(update={"digest": _digest(unsealed)})
    return Annotations(audit=record.id, record=about, entries=[*entries, entry], head=entry.digest)


def waiver_setting(entry: Annotation) -> str:
    """Return a waiver as the configuration of the next audit would have it."""
    import yaml

    waiver = {"figure": entry.figure, "person": entry.who, "reason": entry.text, "expires": entry.until}
    return yaml.safe_dump({"waivers": [waiver]}, sort_keys=False, allow_unicode=True, width=1000)


def _read_chain(folder: Path) -> Annotations | None:
    path = folder / ANNOTATIONS
    try:
        chain = Annotations.from_json(path.read_bytes(), str(path))
        fault = _fault(chain, digest_once(folder / RECORD))
    except FileNotFoundError as error:
        if not path.exists() and not is_listed(folder, ANNOTATIONS):
            return None
        raise StoreError(f"{error.filename} is missing.", _MEND) from error
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}.", _MEND) from error
    except DataError as error:
        raise StoreError(error.message, error.remedy or _MEND) from error
    if fault is not None:
        raise StoreError(f"{path} is damaged: {fault}.", _MEND)
    return chain


def _fault(chain: Annotations, record: str) -> str | None:
    """Say what is wrong with a chain, if anything is."""
    if chain.record != record:
        return f"it is about another record than the {RECORD} beside it"
    before = record
    for number, entry in enumerate(chain.entries, start=1):
        if entry.number != number or entry.previous != before:
            return f"entry {number} does not follow the one before it; an entry was taken out, put in or moved"
        if entry.digest != _digest(entry):
            return f"entry {number} is not as it was written"
        before = entry.digest
    if chain.head != before:
        return "its head is not the digest of its last entry; entries were cut off its end, or the head was changed"
    return None


def _digest(entry: Annotation) -> str:
    return digest_json(entry.model_dump(mode="json", exclude={"digest"}))


def _check(record: AuditRecord, said: Statement, today: date) -> Subset | None:
    """Check what is said against the record, and return the finding that it is on."""
    _check_text("the name", said.who, _LONGEST_NAME)
    if said.what not in SIGN_OFFS:
        what = {"dissent": "what the dissent says", "note": "the note", "waiver": "the reason of the waiver"}[said.what]
        _check_text(what, said.text, _LONGEST_TEXT)
    if said.what == "waiver":
        _check_waiver(record, said, today)
    return None if said.finding is None else _finding_of(record, said.finding)


def _check_text(what: str, text: str, longest: int) -> None:
    if not text.strip():
        raise ConfigError(f"{what.capitalize()} is empty.", "Say it in words.")
    if len(text) > longest:
        raise ConfigError(
            f"{what.capitalize()} has {len(text)} characters, over the {longest} that fit.", "Shorten it."
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ConfigError(f"{what.capitalize()} is no text in UTF-8.", "Set LANG=C.UTF-8 and type it again.") from error


def _check_waiver(record: AuditRecord, said: Statement, today: date) -> None:
    figures = list(dict.fromkeys(rule.figure for rule in record.verdict.rules))
    if said.figure not in figures:
        hint = did_you_mean(nearest(said.figure or "", figures, alike=0.4))
        known = f"The rules are on: {', '.join(figures)}." if figures else "Its policy has no rules."
        raise ConfigError(f"No rule of this audit is on the figure {said.figure!r}.", f"{hint} {known}".strip())
    if said.until is None or said.until < today:
        raise ConfigError(
            f"A waiver until {said.until} is over already; today is {today} (UTC).", "Give a later --until."
        )


def _finding_of(record: AuditRecord, name: str) -> Subset:
    known: Mapping[str, Subset] = {str(finding.subset): finding.subset for finding in record.findings}
    if name not in known:
        there = f"It has: {', '.join(known)}." if known else "It has none."
        raise ConfigError(f"The audit has no finding {name!r}.", there)
    return known[name]
