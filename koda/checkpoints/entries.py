"""How the entry of a checkpoint changes: seen, taken up, audited, failed, gone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from koda.audit.folders import AUDITS, RECORD, read_record
from koda.audit.publishing import find_published
from koda.checkpoints.opening import Opened, line_of, settings_of, watched
from koda.checkpoints.places import Found
from koda.config import AuditConfig
from koda.errors import KodaError, StoreError
from koda.records import AuditRecord
from koda.records.checkpoint import CheckpointEntry, FollowUp
from koda.secrets import reveal
from koda.storage.checkpoints import CheckpointLedger, entry_id
from koda.storage.database import AuditStore
from koda.storage.digests import digest_json

MOST_FAILURES = 3
_PAUSE_LOOKS = 10  # before the second try; three times as many before the third


def seen(home: Path, config: AuditConfig, found: Found, opened: Opened) -> tuple[CheckpointEntry, bool]:
    """Enter a checkpoint that stands still, or where it lies now; tell whether that is news.

    Args:
        home: KODA_HOME.
        config: what it is audited with.
        found: where it lies.
        opened: what it is.

    Raises:
        StoreError: the disk is full, read-only or forbidden.
    """
    line = line_of(config)
    state: Any = "ready" if opened.reason is None else "refused"
    news = False

    def enter(before: CheckpointEntry | None) -> CheckpointEntry:
        nonlocal news
        now = datetime.now(UTC)
        if before is None:
            news = True
            return CheckpointEntry(
                id=entry_id(opened.digest, line), digest=opened.digest, line=line, paths=(found.location,),
                label=found.label, first_seen=now, changed=now, state=state, reason=opened.reason,
                weights=opened.weights, settings=settings_of(config), told=_due(config, "error", state == "refused"),
                **owner_of(config),
            )  # fmt: skip
        changes = _moved(before, found)
        if before.state == "gone":
            news = True
            changes |= {"state": "ready", "reason": None, "changed": now}
        return before.model_copy(update=changes)

    return CheckpointLedger(home).change(entry_id(opened.digest, line), enter), news


def _moved(before: CheckpointEntry, found: Found) -> dict[str, Any]:
    """Say where a checkpoint lies now: the latest last, and a place where it is no longer not after one where it is."""
    paths = before.paths
    if found.location not in paths:
        paths = (*paths, found.location)
    elif not _may_be_there(paths[-1]):
        paths = (*(path for path in paths if path != found.location), found.location)
    named = any(path.endswith(before.label) and _may_be_there(path) for path in paths)
    return {"paths": paths, "label": before.label if named else found.label}


def _may_be_there(path: str) -> bool:
    return "://" in path or Path(path).exists()


def owner_of(config: AuditConfig) -> dict[str, Any]:
    """Return by what an entry knows the configuration that took it up, which alone tells of it and promotes it."""
    path = watched(config).path
    return {
        "pattern": digest_json(path),
        "targets": digest_json([path, sorted({reveal(each.url) for each in config.notify})]),
    }


def is_ours(entry: CheckpointEntry, config: AuditConfig) -> bool:
    """Tell whether a checkpoint was taken up by what watches the same place; an older koda did not say."""
    return entry.pattern in (None, owner_of(config)["pattern"])


def is_to_tell(entry: CheckpointEntry, config: AuditConfig) -> bool:
    """Tell whether those whom a configuration names are still to be told of an entry."""
    of_now = entry.targets in (None, owner_of(config)["targets"])
    return of_now and entry.told == "due" and entry.state in ("audited", "refused", "failed")


def is_to_promote(entry: CheckpointEntry, config: AuditConfig) -> bool:
    """Tell whether a promotion by a configuration is due, or was broken off."""
    return is_ours(entry, config) and entry.promoted in ("due", "begun")


def is_due(entry: CheckpointEntry, config: AuditConfig) -> bool:
    """Tell whether a checkpoint is to be audited now, if nobody is at it."""
    if entry.state in ("ready", "auditing"):
        return True
    if entry.state not in ("failed", "refused") or entry.weights is None:
        return False
    if entry.settings != settings_of(config):
        return True
    return entry.state == "failed" and entry.retry_at is not None and entry.retry_at <= datetime.now(UTC)


def begin(home: Path, config: AuditConfig, entry: CheckpointEntry, label: str, audit: str) -> CheckpointEntry:
    """Note that the audit of a checkpoint begins, and its id, by which it is known should this process be killed."""
    settings = settings_of(config)
    return _change(
        home, entry, state="auditing", attempts=entry.attempts + 1, audit_id=audit, label=label, verdict=None,
        reason=None, retry_at=None, settings=settings, failures=entry.failures if entry.settings == settings else 0,
        **owner_of(config),
    )  # fmt: skip


def audited(home: Path, config: AuditConfig, entry: CheckpointEntry, audit: str, verdict: str) -> CheckpointEntry:
    """Note that a checkpoint is audited, and what is to follow."""
    promote = config.promote is not None and verdict in config.promote.on
    return _change(
        home, entry, state="audited", audit_id=audit, verdict=verdict, reason=None, retry_at=None,
        told=_due(config, verdict), promoted="due" if promote else "none", **owner_of(config),
    )  # fmt: skip


def failed(home: Path, config: AuditConfig, entry: CheckpointEntry, reason: str) -> CheckpointEntry:
    """Note that the audit of a checkpoint could not be run; it is tried again after a pause, a few times.

    That is told at the first failure and at the last.
    """
    failures = entry.failures + 1
    last = failures >= MOST_FAILURES
    pause = timedelta(seconds=watched(config).every * _PAUSE_LOOKS * 3 ** (failures - 1))
    return _change(
        home, entry, state="failed", failures=failures, reason=reason,
        retry_at=None if last else datetime.now(UTC) + pause,
        told=_due(config, "error") if last or failures == 1 else entry.told, **owner_of(config),
    )  # fmt: skip


def refused(home: Path, config: AuditConfig, entry: CheckpointEntry, reason: str) -> CheckpointEntry:
    """Note that a checkpoint could be read, but is no model that can be audited."""
    told = _due(config, "error")
    return _change(home, entry, state="refused", reason=reason, retry_at=None, told=told, **owner_of(config))


def ready_again(home: Path, entry: CheckpointEntry) -> CheckpointEntry:
    """Note that nothing came of an audit, which is no fault of the checkpoint."""
    return _change(home, entry, state="ready", reason=None)


def gone(home: Path, entry: CheckpointEntry) -> CheckpointEntry:
    """Note that a checkpoint disappeared before it was audited; an audit of it that was begun is none of its own."""
    return _change(
        home, entry, state="gone", reason="It disappeared before it was audited.", retry_at=None,
        audit_id=None, left_off=entry.audit_id or entry.left_off,
    )  # fmt: skip


def followed(home: Path, entry: CheckpointEntry, reason: str | None = None, **what: FollowUp) -> CheckpointEntry:
    """Note how far that has come which follows from a state."""
    return _change(home, entry, **what, **({"reason": reason} if reason is not None else {}))


def published(home: Path, audit: str | None, weights: str | None) -> AuditRecord | None:
    """Return the record of an audit that an earlier try left complete; None where it has to be run, or finished.

    Args:
        home: KODA_HOME.
        audit: its id.
        weights: digest of the weights that it is to be of.
    """
    if audit is None or weights is None or not (home / AUDITS / audit / RECORD).is_file():
        return None
    try:
        record = read_record(find_published(home, audit) / RECORD)
    except (OSError, KodaError):
        return None  # damaged, which the same audit mends
    if record.candidate.weights_digest != weights:
        return None
    return record if _is_stored(home, audit) else None


def _is_stored(home: Path, audit: str) -> bool:
    """Tell whether the database has an audit, or cannot be asked: one that was killed before is finished otherwise."""
    store = AuditStore(home)
    try:
        store.merge()
        return bool(store.query("SELECT id FROM audits WHERE id = ?", [audit]))
    except StoreError:
        return True


def _change(home: Path, entry: CheckpointEntry, **changes: Any) -> CheckpointEntry:
    def change(before: CheckpointEntry | None) -> CheckpointEntry:
        here = before or entry
        if changes.get("state", here.state) != here.state:
            changes["changed"] = datetime.now(UTC)
        return here.model_copy(update=changes)

    return CheckpointLedger(home).change(entry.id, change)


def _due(config: AuditConfig, event: str, really: bool = True) -> FollowUp:
    """Tell whether somebody is to be told of an event."""
    return "due" if really and any(event in target.on for target in config.notify) else "none"
