"""New checkpoints, each audited against the baseline exactly once, whatever ends in between.

A look finds what is to be audited, and an audit is taken up under a claim that the kernel takes back from a process
that is killed; the ledger says before the audit begins which one it will be, so that the next look finishes it. Who
audits calls :func:`look` and then :func:`audit_checkpoint` for each that it returns, from as many processes as he
likes.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flows import logs
from flows.environment import make_prefect_home
from flows.failures import in_words, unexpected
from flows.limits import time_limit
from flows.runners import working
from flows.signals import first_signal
from flows.telling import tell_error, tell_verdict
from flows.terminal import watch as progress
from koda.audit.folders import AUDITS, RECORD
from koda.audit.plan import AuditPlan, prepare
from koda.checkpoints import Checkpoint, Happened, Look, entries, look_around, promote, watched
from koda.checkpoints.finding import at
from koda.checkpoints.looking import identify, place_of
from koda.checkpoints.looks import stands_still
from koda.checkpoints.opening import line_of, spec_of
from koda.checkpoints.places import Found
from koda.checkpoints.remote import forget
from koda.config import AuditConfig
from koda.errors import KodaError, MachineError, ModelError, PrerequisiteError, StoreError
from koda.records import AuditRecord
from koda.records.checkpoint import CheckpointEntry
from koda.storage.checkpoints import CheckpointLedger

#: for so long a notification that could not be sent is tried again
_TOLD_WITHIN = timedelta(days=1)


@dataclass
class Outcome:
    """What came of taking up a checkpoint.

    Args:
        result: of its audit, as `koda audit --json` prints it; None where there was nothing to do, or it failed.
        happened: what there is to tell.
        trouble: what kept it from being audited, and is no fault of it: it is tried again.
        notes: what people are to know.
    """

    result: dict[str, Any] | None = None
    happened: list[Happened] = field(default_factory=list)
    trouble: KodaError | None = None
    notes: list[str] = field(default_factory=list)


def look(config: AuditConfig, home: Path) -> list[Checkpoint]:
    """Make one look and return the checkpoints that stand still, open, and are not audited yet, the oldest first.

    Args:
        config: with the section `watch`.
        home: KODA_HOME.

    Raises:
        ConfigError: no such section, or one that cannot be used.
        MachineError: a store behind a URL does not answer.
        StoreError: the disk is full, read-only or forbidden.
    """
    return survey(config, home)[0].ready


def audit_checkpoint(
    config: AuditConfig, home: Path, checkpoint: str, trigger: str = "checkpoint"
) -> dict[str, Any] | None:
    """Audit the checkpoint at a path or URL as the candidate, unless it is audited, or somebody is at it.

    One that cannot be loaded, whose audit fails, or that has gone is noted in the ledger.

    Args:
        config: with the section `watch`.
        home: KODA_HOME.
        checkpoint: where it lies.
        trigger: what began it.

    Returns:
        What `koda audit --json` prints; None where there was nothing to do, or the audit failed.

    Raises:
        KodaError: what is no fault of the checkpoint; it is audited by the next that takes it up.
    """
    outcome = take_up(config, home, checkpoint, trigger)
    if outcome.trouble is not None:
        raise outcome.trouble
    if outcome.result is None:
        return None
    return {**outcome.result, "notes": [*outcome.result.get("notes", []), *outcome.notes]}


def survey(config: AuditConfig, home: Path) -> tuple[Look, list[str]]:
    """Make one look, and do what is left to follow from earlier audits; return what was seen, and notes.

    Raises:
        ConfigError: somebody who can never be told, and as for :func:`look`.
        MachineError, StoreError: as for :func:`look`.
    """
    if config.notify:
        from koda.notification import check_targets  # which brings in Apprise

        check_targets(config.notify, with_variables=True)
    seen = look_around(config, home)
    notes = [] if seen.found else [f"No checkpoint file or model folder matches watch.path: {watched(config).path}"]
    ledger, line = CheckpointLedger(home), line_of(config)
    for entry in ledger.entries():
        if entry.line != line or not (entries.is_to_tell(entry, config) or entries.is_to_promote(entry, config)):
            continue
        with ledger.claim(entry.id) as ours:
            now = ledger.read(entry.id)
            if ours and now is not None and now.state != "auditing":
                happened, said = _follow_up(config, home, now)
                seen.happened += happened
                notes += said
    _log(seen.happened)
    return seen, notes


def take_up(config: AuditConfig, home: Path, checkpoint: str, trigger: str = "checkpoint") -> Outcome:
    """Do what :func:`audit_checkpoint` does, and say what happened."""
    watch, ledger = watched(config), CheckpointLedger(home)
    found = at(watch, checkpoint)
    if found is None or not stands_still(home, found, watch):
        return Outcome()  # the next look enters it as gone, or waits until it stands still
    try:
        opened = identify(config, home, found)
    except (KodaError, OSError) as error:
        if at(watch, checkpoint) is None:
            return Outcome()
        return Outcome(trouble=in_words(error) or MachineError(unexpected(error)))
    entry, news = entries.seen(home, config, found, opened)
    outcome = Outcome()
    if news and opened.reason is not None:
        outcome.happened.append(Happened("refused", found.location, found.label, opened.reason, entry))
    with ledger.claim(entry.id) as ours:
        now = ledger.read(entry.id) or entry
        if ours and opened.reason is None and entries.is_due(now, config):
            now = _audit(config, home, found, now, trigger, outcome)
            if found.is_remote and now.state != "ready":
                forget(home, found)
        if ours and now.state != "auditing":
            happened, notes = _follow_up(config, home, now)
            outcome.happened += happened
            outcome.notes += notes
    ledger.follow()
    _log(outcome.happened)
    return outcome


def release() -> None:
    """Give back what torch keeps for itself of the memory of the GPU."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def _audit(
    config: AuditConfig, home: Path, found: Found, entry: CheckpointEntry, trigger: str, outcome: Outcome
) -> CheckpointEntry:
    """Audit a checkpoint whose claim is held, or take over what an earlier try published; return its entry."""
    record = entries.published(home, entry.audit_id, entry.weights)
    try:
        with time_limit(config.limits.minutes), working(config.runner, home):
            if record is None:
                spec = spec_of(config, found, place_of(home, found))
                plan = prepare(config.model_copy(update={"candidate": spec}), home)
                if plan.models["candidate"].fingerprint.weights != entry.weights:
                    raise ModelError(f"{found.location} changed while it was taken up.", "The next look takes it.")
                entry = entries.begin(home, config, entry, found.label, plan.audit_id)
                record = entries.published(home, plan.audit_id, entry.weights)
            result = _run(plan, trigger) if record is None else _of_record(home, record)
    except Exception as error:
        if first_signal() is not None:  # of which what it broke off made an error
            entries.ready_again(home, entry)
            raise
        return _not_audited(config, home, found, entry, error, outcome)
    except BaseException:
        with contextlib.suppress(Exception):
            entries.ready_again(home, entry)
        raise
    entry = entries.audited(home, config, entry, result["id"], result["verdict"])
    outcome.result = {**result, "checkpoint": found.location, "label": found.label, "digest": entry.digest}
    outcome.happened.append(Happened("audited", found.location, found.label, None, entry))
    return entry


def _run(plan: AuditPlan, trigger: str) -> dict[str, Any]:
    """Run the audit in this process: within the flow run that goes on, if any, which is its own; else as one."""
    from prefect.context import FlowRunContext

    from flows.audit import audit, run_audit
    from tasks.plans import hand_over

    if (
        FlowRunContext.get() is not None
    ):  # who cancels that run cancels the audit, and its name and tags are the audit's
        return run_audit(plan, trigger=trigger)
    make_prefect_home()
    with progress(hand_over(plan)):
        result: dict[str, Any] = audit(plan.settings, str(plan.home), trigger=trigger)
    return result


def _of_record(home: Path, record: AuditRecord) -> dict[str, Any]:
    """Return what is known of an audit that was published before."""
    folder = home / AUDITS / record.id
    paths = {"folder": str(folder), "html": str(folder / "report.html"), "record": str(folder / RECORD)}
    return {"id": record.id, "verdict": record.verdict.status, "reasons": record.verdict.reasons, "paths": paths}


def _not_audited(
    config: AuditConfig, home: Path, found: Found, entry: CheckpointEntry, error: Exception, outcome: Outcome
) -> CheckpointEntry:
    """Enter why a checkpoint could not be audited: it went or changed, it is no model, or something else failed."""
    there = at(watched(config), found.location)
    if there is None:
        entry = entries.gone(home, entry)
        outcome.happened.append(Happened("gone", found.location, found.label, entry.reason, entry))
        return entry
    if there.stamp != found.stamp:
        outcome.happened.append(Happened("put off", found.location, found.label, "It changed meanwhile.", entry))
        return entries.ready_again(home, entry)
    foreseen = in_words(error)
    if isinstance(foreseen, StoreError | MachineError | PrerequisiteError):
        outcome.trouble = foreseen
        return entries.ready_again(home, entry)
    reason = unexpected(error) if foreseen is None else str(foreseen)
    if isinstance(foreseen, ModelError) and (found.location in reason or found.label in reason):
        entry = entries.refused(home, config, entry, reason)
        outcome.happened.append(Happened("refused", found.location, found.label, reason, entry))
        return entry
    entry = entries.failed(home, config, entry, reason)
    outcome.happened.append(Happened("failed", found.location, found.label, reason, entry))
    return entry


def _follow_up(config: AuditConfig, home: Path, entry: CheckpointEntry) -> tuple[list[Happened], list[str]]:
    """Tell of an entry and promote its checkpoint, as far as that is due; its claim is held.

    A promotion that was broken off is not run again: nobody knows how far it came.
    """
    happened: list[Happened] = []
    notes: list[str] = []
    if entries.is_to_tell(entry, config):
        notes += _tell(config, home, entry)
        if not notes or datetime.now(UTC) - entry.changed > _TOLD_WITHIN:
            entry = entries.followed(home, entry, told="done")
    if not entries.is_to_promote(entry, config):
        return happened, notes
    problem: str | None = "koda ended while the promotion ran; it is not run a second time"
    if entry.promoted == "due":
        if config.promote is None:
            return happened, notes
        entry = entries.followed(home, entry, promoted="begun")
        problem = promote(config.promote, home, entry, _secret_names(config))
    entry = entries.followed(home, entry, reason=problem, promoted="done" if problem is None else "failed")
    happened.append(Happened("not promoted" if problem else "promoted", entry.paths[-1], entry.label, problem, entry))
    if problem is not None:
        notes += tell_error(config, home, f"promotion-{entry.id}", entry.label, problem, "promotion of {} failed")
    return happened, notes


def _tell(config: AuditConfig, home: Path, entry: CheckpointEntry) -> list[str]:
    """Send the notification of an entry: its verdict, or that there is none; return what could not be sent."""
    if entry.state == "audited":
        return tell_verdict(config, home, entry.audit_id or "")
    key, why = f"checkpoint-{entry.digest}", entry.reason or entry.state
    if entry.state == "failed":  # once while it is tried again, and once when it no longer is
        key += f"-{entry.line[:8]}-{(entry.settings or '')[:8]}-{'last' if entry.retry_at is None else 'again'}"
        why += "\n" + (
            f"It was tried {entries.MOST_FAILURES} times, and is tried again when the configuration changes."
            if entry.retry_at is None
            else f"It is tried again after {entry.retry_at:%Y-%m-%d %H:%M} UTC, {entries.MOST_FAILURES} times in all."
        )
    return tell_error(config, home, key, entry.label, why)


def _secret_names(config: AuditConfig) -> set[str]:
    """Return the variables with which notifications are sent, which are no business of a program of a promotion."""
    if not config.notify:
        return set()
    from koda.notification import variables_of

    return variables_of(config.notify)


def _log(happened: list[Happened]) -> None:
    """Have what went wrong with a checkpoint stand in the log, where logs are JSON; the rest is said on stdout."""
    for each in happened:
        if each.event in ("failed", "refused", "not promoted"):
            words = f"{each.label} {each.event}: {' '.join((each.reason or '').split())}"
            logs.log("error", words, "error", checkpoint=each.path)
        elif each.event in ("gone", "put off"):
            logs.log("note", f"{each.label} {each.event}: {each.reason}", checkpoint=each.path)
