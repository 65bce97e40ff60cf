"""What people see of a calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.padding import Padding
from rich.table import Table

from flows.terminal import console, escape, say, short_path, show_steps
from koda.wording import counted

if TYPE_CHECKING:
    from koda.records import CalibratedRule, Spread


def show_calibration(result: dict[str, Any]) -> None:
    """Show for each rule what equals show, the bound, and the limits; then what was not calibrated, and the paths."""
    from koda.records import CalibratedRule

    rules = [CalibratedRule.model_validate(rule) for rule in result["rules"]]
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("figure", overflow="fold")
    for column in ("limit", "min", "median", "max", "bound", "written"):
        table.add_column(column, no_wrap=True)
    for rule in rules:
        for row in _rows(rule):
            table.add_row(*row)
    audits = counted(len(result["audits"]), "audit")
    console.print(f"\n  What {audits} of equals show, its {100 * result['level']:g} % bound, the limits:")
    console.print(Padding(table, (1, 0, 1, 2), expand=False))
    say("warn: of the figure; fail: of the far ends of its intervals; a limit beyond the bound stays where it is")
    for rule in rules:
        if rule.note is not None:
            say(f"[yellow]not calibrated[/]: {escape(rule.figure)}, {escape(rule.note)}")
    moved = [rule.figure for rule in rules if rule.moved]
    say(f"limits moved: {escape(', '.join(moved))}" if moved else "no limit had to be moved")
    for name, path in result["paths"].items():
        console.print(f"  {name:<9} {escape(short_path(path))}", soft_wrap=True)
    show_steps(result)


def _rows(rule: CalibratedRule) -> list[tuple[str, ...]]:
    """A row for each limit of a rule."""
    limits = (
        ("warn", rule.values, rule.warn_before, rule.warn),
        ("fail", rule.ends, rule.fail_before, rule.fail),
    )
    set_limits = [limit for limit in limits if limit[3] is not None]
    return [
        (escape(rule.figure) if number == 0 else "", name, *_spread(spread), _limit(before, now))
        for number, (name, spread, before, now) in enumerate(set_limits)
    ]


def _spread(spread: Spread | None) -> tuple[str, ...]:
    if spread is None:
        return ("-",) * 4
    return tuple(f"{value:.3g}" for value in (spread.least, spread.median, spread.most, spread.bound))


def _limit(before: float | None, now: float | None) -> str:
    return f"{now:g}" if before == now else f"[bold]{now:g}[/], was {before:g}"
