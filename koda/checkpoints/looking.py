"""One look at what is watched: which checkpoints stand still and open, what is refused, and what has gone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from koda.checkpoints import entries
from koda.checkpoints.finding import find
from koda.checkpoints.looks import look_again, recall, remember
from koda.checkpoints.opening import Opened, line_of, open_checkpoint, settings_of, watched
from koda.checkpoints.places import Found
from koda.checkpoints.remote import fetch, forget
from koda.config import AuditConfig
from koda.errors import ConfigError, KodaError, MachineError, StoreError
from koda.records.checkpoint import CheckpointEntry
from koda.storage.checkpoints import CheckpointLedger

What = Literal["found", "refused", "gone", "audited", "failed", "put off", "promoted", "not promoted", "trouble"]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is to be audited.

    Args:
        path: where it lies, or its URL.
        label: the candidate's name in reports.
        digest: of what it is.
        id: of its entry in the ledger.
    """

    path: str
    label: str
    digest: str
    id: str


@dataclass(frozen=True)
class Happened:
    """What there is to tell of a checkpoint.

    Args:
        event: what happened.
        path, label: of the checkpoint.
        reason: why, in words.
        entry: of the ledger.
    """

    event: What
    path: str
    label: str
    reason: str | None = None
    entry: CheckpointEntry | None = None


@dataclass
class Look:
    """What a look has shown.

    Args:
        found: how many checkpoints there are.
        ready: what is to be audited now, the oldest first.
        unsettled: places of what changed between looks, or was not looked at often enough.
        happened: what there is to tell.
        trouble: what kept koda from looking at something, and is no fault of it.
    """

    found: int = 0
    ready: list[Checkpoint] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)
    happened: list[Happened] = field(default_factory=list)
    trouble: list[KodaError] = field(default_factory=list)


def look_around(config: AuditConfig, home: Path) -> Look:
    """Look at everything that is watched, and enter what is new in the ledger.

    Args:
        config: with the section `watch`.
        home: KODA_HOME.

    Raises:
        ConfigError: no such section, or one that cannot be used.
        MachineError: a store behind a URL does not answer.
        StoreError: the disk is full, read-only or forbidden.
    """
    watch, look, ledger = watched(config), Look(), CheckpointLedger(home)
    line = line_of(config)
    for entry in _interrupted(ledger, config):
        _recover(config, home, ledger, entry, look)
    found = find(watch)
    still = look_again(home, found, watch)
    look.found = len(found)
    standing = {each.location for each in still}
    look.unsettled = [each.location for each in found if each.location not in standing]
    here: dict[str, str | None] = {each.location: None for each in found}  # location -> entry of what lies there
    for each in still:
        opened = _opened(config, home, each, look)
        if opened is None:
            continue
        entry, news = entries.seen(home, config, each, opened)
        here[each.location] = entry.id
        if opened.reason is not None:
            if news:
                look.happened.append(Happened("refused", each.location, each.label, opened.reason, entry))
            if each.is_remote:
                forget(home, each)
            continue
        if news:
            look.happened.append(Happened("found", each.location, each.label, None, entry))
        known = any(entry.id == ready.id for ready in look.ready)
        if not known and entries.is_due(entry, config) and not ledger.is_claimed(entry.id):
            look.ready.append(Checkpoint(each.location, each.label, entry.digest, entry.id))
    for entry in ledger.entries():
        if entry.line == line and _waits(entry, config) and not _is_there(entry, here):
            _note_gone(config, home, ledger, entry, look)
    if look.happened:
        ledger.follow()
    return look


def identify(config: AuditConfig, home: Path, found: Found) -> Opened:
    """Say what a checkpoint is, from memory where it did not change since it was read.

    Raises:
        KodaError: what is no fault of the checkpoint.
        OSError: it cannot be read now.
    """
    settings = settings_of(config)
    opened = recall(home, found, settings)
    if opened is None:
        opened = open_checkpoint(config, found, place_of(home, found))
        remember(home, found, settings, opened)
    return opened


def place_of(home: Path, found: Found) -> Path:
    """Return where a checkpoint lies on this machine; it is fetched there if it has to be."""
    return fetch(home, found) if found.is_remote else Path(found.location)


def _opened(config: AuditConfig, home: Path, found: Found, look: Look) -> Opened | None:
    """Say what a checkpoint is; None where that cannot be known now, or it went meanwhile."""
    try:
        return identify(config, home, found)
    except (ConfigError, StoreError):
        raise
    except KodaError as error:
        trouble: KodaError = error
    except OSError as error:
        trouble = MachineError(f"{found.location} cannot be read: {error.strerror or error}.", "It is tried again.")
    if found.is_remote or Path(found.location).exists():
        look.trouble.append(trouble)
    return None


def _interrupted(ledger: CheckpointLedger, config: AuditConfig) -> list[CheckpointEntry]:
    """Return the checkpoints that a process with this configuration was auditing when it ended."""
    line = line_of(config)
    auditing = [entry for entry in ledger.entries() if entry.line == line and entry.state == "auditing"]
    return [entry for entry in auditing if entries.is_ours(entry, config) and not ledger.is_claimed(entry.id)]


def _recover(config: AuditConfig, home: Path, ledger: CheckpointLedger, entry: CheckpointEntry, look: Look) -> None:
    """Enter the audit of a process that was killed after it had published it; any other is run again."""
    with ledger.claim(entry.id) as ours:
        if not ours:
            return
        now = ledger.read(entry.id)
        if now is None or now.state != "auditing":
            return
        record = entries.published(home, now.audit_id, now.weights)
        if record is None:
            entries.ready_again(home, now)
        else:
            now = entries.audited(home, config, now, record.id, record.verdict.status)
            look.happened.append(Happened("audited", now.paths[-1], now.label, None, now))


def _waits(entry: CheckpointEntry, config: AuditConfig) -> bool:
    if entry.state == "auditing":
        return entries.is_ours(entry, config)
    return entry.state == "ready" or (entry.state == "failed" and entry.retry_at is not None)


def _note_gone(config: AuditConfig, home: Path, ledger: CheckpointLedger, entry: CheckpointEntry, look: Look) -> None:
    """Enter that a checkpoint has gone, unless somebody is at it, or has come to the end of its audit meanwhile."""
    with ledger.claim(entry.id) as ours:
        now = ledger.read(entry.id)
        if ours and now is not None and _waits(now, config):
            now = entries.gone(home, now)
            look.happened.append(Happened("gone", now.paths[-1], now.label, now.reason, now))


def _is_there(entry: CheckpointEntry, here: dict[str, str | None]) -> bool:
    """Tell whether a checkpoint may still lie in one of its places: another one may have taken it."""
    for path in entry.paths:
        if path in here:
            if here[path] in (entry.id, None):  # None: it is being written, or could not be read now
                return True
        elif "://" not in path and Path(path).exists():
            return True
    return False
