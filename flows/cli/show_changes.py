"""What people see of a comparison of audits and of a sweep."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.padding import Padding
from rich.table import Table

from flows.terminal import VERDICT_LOOKS, console, escape, escape_lines, say, short_path
from koda.units import measured

if TYPE_CHECKING:
    from koda.policy import Figure
    from koda.records import Changes, Difference, FigureDifference, SweepCell
    from koda.units import Unit

_TITLES = (
    ("rules", "results of the rules"),
    ("metrics", "figures"),
    ("models", "models"),
    ("data", "data"),
    ("config", "configuration"),
    ("software", "software"),
)
_OF_THE_DATA = ("rules", "metrics")  # of other data they say nothing of the models
_DIGEST = re.compile(r"[0-9a-f]{32,}")
_LONGEST_SHARED_TEXT = 16  # characters; a longer common beginning of two paths is left out


def show_changes(changes: Changes) -> None:
    """Show what changed from one audit to another."""
    from koda.policy import unit_of

    console.print(f"[bold]{escape(changes.before)}[/] -> [bold]{escape(changes.after)}[/]")
    before, after = (_verdict(status) for status in (changes.verdict_before, changes.verdict_after))
    flip = f"{before} -> {after}" if changes.verdict_flipped else f"{after}, as before"
    console.print(f"  verdict: {flip}")
    for reason in changes.not_comparable:
        say(f"[yellow]not comparable[/]: {escape(reason)}")
    label = "" if changes.comparable else " (not comparable)"
    if changes.findings_compared:
        _show_findings(changes, label)
        titles = dict(_TITLES)
    else:
        say("findings, results of the rules and figures: not compared, since the audits are of different data")
        titles = {name: title for name, title in _TITLES if name not in _OF_THE_DATA}
    for name, title in titles.items():
        rows: list[Difference | FigureDifference] = getattr(changes, name)
        if not rows:
            continue
        table = _table(title + (label if name in _OF_THE_DATA else ""), "before", "now")
        for row in rows:
            unit = unit_of(row.name) if name == "metrics" else None
            table.add_row(escape(str(row.name)), *map(escape, _both(row.before, row.after, unit)))
        _show(table)
    if same := [title for name, title in titles.items() if not getattr(changes, name)]:
        say(f"the same: {', '.join(same)}")


def _show_findings(changes: Changes, label: str) -> None:
    """Show the findings that were confirmed in either audit; the others are counted."""
    table = _table(f"finding{label}", "name", "share", "share now", "overlap", short=("share", "share now", "overlap"))
    hidden = 0
    for kept in changes.kept:
        then, now = kept.confirmed_before is not False, kept.confirmed_after is not False
        hidden += not (then or now)
        if then or now:
            name = f"kept {kept.side} {kept.after}" + (f" (was {kept.before})" if kept.before != kept.after else "")
            name += "" if then == now else "\nnow confirmed" if now else "\nno longer confirmed"
            shares = measured(kept.share_before), measured(kept.share_after)
            table.add_row(name, escape(kept.title), *shares, f"{100 * kept.overlap:.0f} %")
    for sign, findings in (("+ new", changes.new), ("- gone", changes.gone)):
        for finding in findings:
            hidden += finding.confirmed is False
            if finding.confirmed is not False:
                share = measured(finding.target_share)
                shares = ("", share) if sign == "+ new" else (share, "")
                table.add_row(f"{sign} {finding.side} {finding.direction}", escape(finding.title), *shares, "")
    if table.row_count:
        _show(table)
    else:
        say("findings: none is confirmed in either")
    if hidden:
        say(f"{hidden} {'finding that is' if hidden == 1 else 'findings that are'} not confirmed are left out here")


def _table(*columns: str, short: Sequence[str] = ()) -> Table:
    """Make a table whose first column, and those that are short, are never broken."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in (columns[0], *short))
    return table


def _show(table: Table) -> None:
    console.print(Padding(table, (1, 0, 0, 2), expand=False))


def _both(before: Any, after: Any, unit: Unit | None) -> list[str]:
    """Write two values so that what differs is seen: digests are cut, and paths where they have begun alike.

    Args:
        before, after: the values.
        unit: of a figure; None where they are none.
    """
    if unit is not None:
        return ["-" if value is None else measured(value, unit) for value in (before, after)]
    texts = [_text(value) for value in (before, after)]
    parts = [text.split("/") for text in texts]
    shared = next((place for place, (a, b) in enumerate(zip(*parts, strict=False)) if a != b), 0)
    if len("/".join(parts[0][:shared])) > _LONGEST_SHARED_TEXT:
        return ["/".join(["…", *path[shared:]]) for path in parts]
    return texts


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(inner)}" for name, inner in value.items())
    return _DIGEST.sub(lambda match: f"{match[0][:12]}…", str(value))


def show_figures(figures: Mapping[str, Figure]) -> None:
    """Show the figures of policies: name, what they are, and which side of a limit is bad."""
    table = _table("figure", "what it is", "bad")
    for name, figure in figures.items():
        table.add_row(name, figure.words, figure.bad)
    console.print(table)
    console.print(
        "\nIn a policy shares, falls and accuracies are fractions: 0.02 is 2 %, and a fall of 2 points. A fall is "
        "positive where the candidate is lower. A rule's `direction` overrides which side is bad."
    )


def show_sweep(result: dict[str, Any]) -> None:
    """Show the matrices of a sweep, the reasons of what did not run, and where the summary is."""
    from koda.records import SweepRecord

    extra = ("paths", "exit_code")
    record = SweepRecord.model_validate({k: v for k, v in result.items() if k not in extra})
    for matrix in record.matrices():
        console.print(f"\n[bold]{escape(matrix.title)}[/]")
        table = _table("candidate", *map(escape, matrix.columns))
        for candidate, cells in matrix.rows:
            table.add_row(escape(candidate), *map(_cell, cells))
        console.print(Padding(table, (0, 0, 0, 2), expand=False))
    for cell in record.cells:
        if cell.error is not None:
            names = f"{escape(cell.candidate)} against {escape(cell.baseline)} on {escape(cell.data)}"
            say(f"\n[dim]– not run:[/] {names}:")
            say(escape_lines(cell.error), 4)
    console.print()
    for name, path in result["paths"].items():
        console.print(f"  {name:<9} {escape(short_path(path))}", soft_wrap=True)


def _cell(cell: SweepCell | None) -> str:
    if cell is None:
        return "-"
    if cell.verdict is None or cell.lost is None or cell.gained is None:
        return "[dim]– not run[/]"
    lines = [_verdict(cell.verdict)]
    for name, side in (("lost", cell.lost), ("gained", cell.gained)):
        lines.append(f"nothing {name}" if side.share is None else f"{name} {measured(side.share)}")
    return "\n".join(lines)


def _verdict(status: str) -> str:
    symbol, colour = VERDICT_LOOKS[status]
    return f"[{colour}]{symbol} {status}[/]"
