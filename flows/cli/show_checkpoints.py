"""How what is watched is shown: a line for each thing that happens, and the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from flows.cli.strict_json import strict_json
from flows.terminal import VERDICT_LOOKS, console, escape, fits, notes, say, short_path

if TYPE_CHECKING:
    from koda.checkpoints import Happened
    from koda.records.checkpoint import CheckpointEntry

_COLOURS = {
    "found": "cyan", "refused": "red", "failed": "red", "not promoted": "red", "gone": "yellow", "put off": "yellow",
    "promoted": "green",
}  # fmt: skip
_LOOKS = {"audited": "green", "refused": "red", "failed": "red", "gone": "yellow"}
_ID = 12  # letters of a digest that are shown


def event_of(happened: Happened, home: Path) -> dict[str, Any]:
    """Return what is printed as JSON of something that happened."""
    entry = happened.entry
    known: dict[str, Any] = {"event": happened.event, "checkpoint": happened.path, "label": happened.label}
    if entry is not None:
        known |= {"digest": entry.digest, "state": entry.state, "audit": entry.audit_id, "verdict": entry.verdict}
    if happened.event == "audited" and entry is not None and entry.audit_id is not None:
        known["report"] = str(home / "audits" / entry.audit_id / "report.html")
    return {**known, "reason": happened.reason}


def show_event(happened: Happened, home: Path) -> None:
    """Show something that happened as one line, and why below it."""
    event = event_of(happened, home)
    what, label = happened.event, escape(happened.label)
    if what == "audited" and event["verdict"] in VERDICT_LOOKS:
        symbol, colour = VERDICT_LOOKS[event["verdict"]]
        verdict = f"[bold {colour}]{symbol} {event['verdict'].upper()}[/]"
        console.print(f"{verdict}  {label}  {escape(short_path(event['report']))}", soft_wrap=True)
        return
    console.print(f"[{_COLOURS.get(what, 'default')}]{what}[/]  {label}", soft_wrap=True)
    if happened.reason and what != "gone":
        say(escape(" ".join(happened.reason.split())), 4)


def checkpoints_as_json(entries: list[CheckpointEntry]) -> str:
    """Return the ledger of checkpoints as JSON."""
    return strict_json([entry.model_dump(mode="json", exclude={"version"}) for entry in entries])


def show_checkpoints(entries: list[CheckpointEntry]) -> None:
    """Show the ledger of checkpoints, the latest change first, and why those stand where they do that have no audit."""
    if not entries:
        notes.print("No checkpoint was watched yet. Begin with: koda watch CONFIG.yaml")
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("digest", "state", "verdict", "attempts", "changed (UTC)", "audit", "checkpoint"):
        table.add_column(column, no_wrap=True)
    for entry in entries:
        table.add_row(*_row(entry))
    if fits(table):
        console.print(table)
    else:
        for entry in entries:
            *line, label = _row(entry)
            console.print("  ".join(part for part in line if part), soft_wrap=True)
            say(label, 4)
    for entry in entries:
        if entry.reason and entry.state != "gone":
            say(f"{entry.digest[:_ID]} {escape(' '.join(entry.reason.split()))}")
        if entry.retry_at is not None:
            say(f"{entry.digest[:_ID]} is tried again after {entry.retry_at:%Y-%m-%d %H:%M} UTC")


def _row(entry: CheckpointEntry) -> list[str]:
    symbol, colour = VERDICT_LOOKS.get(entry.verdict or "", ("", "default"))
    return [
        entry.digest[:_ID],
        f"[{_LOOKS.get(entry.state, 'default')}]{entry.state}[/]",
        f"[{colour}]{symbol} {escape(entry.verdict)}[/]" if entry.verdict else "",
        str(entry.attempts),
        f"{entry.changed:%Y-%m-%d %H:%M}",
        escape(entry.audit_id or ""),
        escape(entry.label) + (f" and {len(entry.paths) - 1} more" if len(entry.paths) > 1 else ""),
    ]
