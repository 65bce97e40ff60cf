"""What people see of a figure over the audits, and of what the steps took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from flows.terminal import UNBROKEN, VERDICT_LOOKS, console, escape, notes, say, short_path
from koda.units import interval, measured
from koda.wording import counted

if TYPE_CHECKING:
    from koda.audit.trends import Trend, TrendLine, TrendPoint
    from koda.units import Unit

_BARS = "▁▂▃▄▅▆▇█"
_BROKEN = "│"  # between two audits that do not mean the same
_CHANGED = {"data": "the data are others", "policy": "the policy is another"}


def show_trend(trend: Trend) -> None:
    """Show a figure over the audits: a table and a sparkline for each line of audits that can be compared."""
    from koda.policy import unit_of

    if not trend.lines:
        notes.print("No audit is like that.")
        return
    unit = unit_of(trend.figure)
    console.print(f"[bold]{escape(trend.figure)}[/]: {escape(trend.words)}; {trend.bad} a limit is bad")
    for line in trend.lines:
        console.print(f"\nagainst [bold]{escape(line.baseline)}[/] on [bold]{escape(line.data)}[/]")
        table = Table(box=None, padding=(0, 2, 0, 0))
        for column in ("ended (UTC)", "id", "candidate", "value", "interval", "verdict"):
            table.add_column(column, no_wrap=True, justify="right" if column == "value" else "left")
        for point in line.points:
            if point.breaks:
                table.add_row("", f"[dim]{'; '.join(_CHANGED[name] for name in point.breaks)}[/]", "", "", "", "")
            table.add_row(*_row(point, unit))
        console.print(table, width=None if console.is_terminal else UNBROKEN)
        _show_course(line, unit)


def _row(point: TrendPoint, unit: Unit) -> list[str]:
    symbol, colour = VERDICT_LOOKS[point.verdict]
    return [
        f"{point.ended:%Y-%m-%d %H:%M}",
        escape(point.id),
        escape(point.candidate),
        measured(point.value, unit),
        interval(point.low, point.high, unit),
        f"[{colour}]{symbol} {point.verdict}[/]",
    ]


def _show_course(line: TrendLine, unit: Unit) -> None:
    """Show how a figure went: drawn on a terminal, and in words."""
    values = [point.value for point in line.points if point.value is not None]
    if not values:
        say("no audit of these has the figure")
        return
    first, last, least, most = (measured(value, unit) for value in (values[0], values[-1], min(values), max(values)))
    words = f"{first} at first, {last} at last; from {least} to {most}"
    say(f"{sparkline(line)}  {words}" if console.is_terminal else words)


def sparkline(line: TrendLine) -> str:
    """Draw the values of a line of audits, a bar each, with a rule where two do not mean the same."""
    values = [point.value for point in line.points if point.value is not None]
    low, high = min(values), max(values)
    drawn = ""
    for point in line.points:
        drawn += _BROKEN if point.breaks else ""
        if point.value is None:
            drawn += " "
        else:
            part = (point.value - low) / (high - low) if high > low else 0.5
            drawn += _BARS[min(int(part * len(_BARS)), len(_BARS) - 1)]
    return drawn


def show_spending(spending: dict[str, Any]) -> None:
    """Show what each step took over the runs, and all of them together."""
    total = spending["total"]
    if not spending["steps"]:
        notes.print("The database knows no step of these audits.")
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("step", "executed", "cached", "seconds", "median", "longest", "memory", "GPU memory", "device"):
        table.add_column(column, no_wrap=True, justify="left" if column in ("step", "device") else "right")
    for row in spending["steps"]:
        table.add_row(escape(row["step"]), *_costs(row))
    between = total["between_seconds"]
    if between is not None:
        table.add_row("between the steps", "", "", _seconds(between))
    table.add_row("[bold]total[/]", *_costs({**total, "seconds": total["seconds"] + (between or 0.0)}))
    console.print(table, width=None if console.is_terminal else UNBROKEN)
    console.print(f"  over {counted(total['runs'], 'run')}; memory is the most that the process had")


def _costs(row: dict[str, Any]) -> list[str]:
    return [
        str(row["executed"]),
        str(row["cached"]),
        *(_seconds(row.get(name)) for name in ("seconds", "median_seconds", "longest_seconds")),
        *(_size(row[name]) for name in ("peak_bytes", "peak_device_bytes")),
        escape(", ".join(row["devices"] or [])),
    ]


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _size(value: int | None) -> str:
    return "" if value is None else f"{value / 2**20:.0f} MiB"


def show_exported_figures(written: dict[str, Any]) -> None:
    """Say what was written, and where."""
    rows, audits = counted(written["rows"], "figure"), counted(written["audits"], "audit")
    console.print(f"{rows} of {audits} in {escape(short_path(written['path']))}", soft_wrap=True)
