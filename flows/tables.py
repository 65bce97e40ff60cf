"""What people see of a comparison of audits and of a sweep; all of it goes to stderr."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from flows.terminal import LOOKS, console, short_path
from koda.changes import Changes, Difference
from koda.sweeping import SweepCell, SweepRecord

_TITLES = (
    ("metrics", "figures"),
    ("models", "models"),
    ("data", "data"),
    ("config", "configuration"),
    ("software", "software"),
)


def show_changes(changes: Changes) -> None:
    """Show what changed from one audit to another."""
    console.print(f"[bold]{changes.before}[/] -> [bold]{changes.after}[/]")
    for reason in changes.not_comparable:
        console.print(f"  [yellow]not comparable[/], because {escape(reason)}")
    before, after = (_verdict(status) for status in (changes.verdict_before, changes.verdict_after))
    flip = f"{before} -> {after}" if changes.verdict_flipped else f"{after}, as before"
    console.print(f"  verdict   {flip}")
    if not changes.findings_compared:
        console.print("  findings  not compared: the audits are of different data")
    elif not (changes.new or changes.gone or changes.kept):
        console.print("  findings  none in either")
    else:
        console.print(_findings(changes))
    for name, title in _TITLES:
        rows: list[Difference] = getattr(changes, name)
        if not rows:
            console.print(f"  {title:<13} the same")
            continue
        table = Table(title, "before", "after", box=None)
        for row in rows:
            table.add_row(escape(row.name), escape(_told(row.before)), escape(_told(row.after)))
        console.print(table)


def _findings(changes: Changes) -> Table:
    table = Table("finding", "words", "before", "after", "overlap", box=None)
    for kept in changes.kept:
        name = f"kept {kept.side} {kept.after}" + (f" (was {kept.before})" if kept.before != kept.after else "")
        words = escape(", ".join(kept.words[:4]))
        table.add_row(name, words, f"{kept.share_before:.4f}", f"{kept.share_after:.4f}", f"{kept.overlap:.2f}")
    for found in changes.new:
        words = escape(", ".join(found.words[:4]))
        table.add_row(f"+ new {found.side} {found.direction}", words, "", f"{found.target_share:.4f}", "")
    for found in changes.gone:
        words = escape(", ".join(found.words[:4]))
        table.add_row(f"- gone {found.side} {found.direction}", words, f"{found.target_share:.4f}", "", "")
    return table


def show_sweep(result: dict[str, Any]) -> None:
    """Show the matrix of a sweep for each data set, the reasons of what did not run, and where the summary is."""
    extra = ("paths", "exit_code")
    record = SweepRecord.model_validate({k: v for k, v in result.items() if k not in extra})
    for data in record.data:
        table = Table("candidate \\ baseline", *map(escape, record.baselines), title=escape(data), box=None)
        for candidate in record.candidates:
            cells = [record.cell(data, candidate, baseline) for baseline in record.baselines]
            table.add_row(escape(candidate), *map(_cell, cells))
        console.print(table)
    for cell in record.cells:
        if cell.error is not None:
            who = f"{cell.candidate} against {cell.baseline} on {cell.data}"
            console.print(f"  [red]✕[/] {escape(who)}: {escape(cell.error)}")
    console.print()
    for name, path in result["paths"].items():
        console.print(f"  {name:<9} {escape(short_path(path))}", soft_wrap=True)


def _cell(cell: SweepCell | None) -> str:
    if cell is None:
        return "-"
    if cell.verdict is None:
        return "[red]✕ not run[/]"
    return f"{_verdict(cell.verdict)} " + ("nothing lost" if cell.lost_share is None else f"lost {cell.lost_share:.4f}")


def _verdict(status: str) -> str:
    symbol, colour = LOOKS[status]
    return f"[{colour}]{symbol} {status}[/]"


def _told(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)
