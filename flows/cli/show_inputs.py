"""What people see of a look at models, data and the machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from flows.terminal import console, escape, escape_lines, notes, short_path
from koda.wording import counted

if TYPE_CHECKING:
    from koda.checks import Check

_STATES = {"ok": ("✓", "green"), "note": ("!", "yellow"), "fault": ("✕", "red")}


def show_models(models: dict[str, Any]) -> None:
    """Show two models side by side; what differs is marked."""
    from koda.typing import ROLES  # with numpy, which is to be imported after the settings of the process

    table = Table("", box=None)
    for role in ROLES:
        table.add_column(role, overflow="fold")
    table.add_column("")
    for name in models["baseline"]:
        values = [_text(models[role][name]) for role in ROLES]
        if not any(values):
            continue
        table.add_row(name.replace("_", " "), *map(escape, values), "" if values[0] == values[1] else "[yellow]≠[/]")
    console.print(table)
    if models["same"]:
        notes.print("  [yellow]note[/]  both are the same model")


def show_data(data: dict[str, Any]) -> None:
    """Show the counts of a data set, what was left out, and a page of its samples."""
    from koda.records import Ledger  # slow to import

    console.print(f"[bold]{escape(data['name'])}[/] ({escape(data['format'])}, {escape(short_path(data['path']))})")
    ledger = Ledger.model_validate(data["ledger"])
    for line, count in ledger.lines("pairs"):
        over = line.startswith("left out") and not data["within_max_rejected"]
        note = "  [red]✕ more than data.max_rejected allows[/]" if over else ""
        console.print(f"  {count:>9} {escape(line)}{note}", soft_wrap=True)
    for note in ledger.notes:
        console.print(f"  [yellow]note[/] {escape(note)}", soft_wrap=True)
    repeats = f" ({counted(data['n_duplicate_images'], 'pair')} repeat one)" if data["n_duplicate_images"] else ""
    empty = f" ({counted(data['n_empty_captions'], 'pair')} with an empty one)" if data["n_empty_captions"] else ""
    console.print(f"  {counted(data['n_images'], 'image')}{repeats}, {counted(data['n_captions'], 'caption')}{empty}")
    if data["n_images"]:
        console.print("  pictures are decoded when they are embedded: what cannot be is left out then")
    if data["metadata_columns"]:
        console.print(f"  metadata: {escape(', '.join(data['metadata_columns']))}")
    console.print(f"  digest {data['digest']}")
    for item in ledger.rejected:
        console.print(
            f"  [yellow]{item.count}[/] {escape(item.kind)}, such as {escape(repr(item.key))}", soft_wrap=True
        )
        if item.reason != item.kind:
            console.print(f"      {escape(item.reason)}", soft_wrap=True)
    table = Table("key", "caption", "image", box=None)
    for sample in data["samples"]:
        image = "none" if sample["image"] is None else short_path(sample["image"])
        table.add_row(*(escape(_cut(text)) for text in (sample["key"], sample["caption"], image)))
    console.print(table)
    console.print(f"  page {data['page']} of {data['pages']}")


def show_export(written: dict[str, Any]) -> None:
    """Show where embeddings were written."""
    from koda.typing import ROLES  # with numpy, which is to be imported after the settings of the process

    for role in ROLES:
        part = written[role]
        dims = ", ".join(f"{name} {d}" for name, d in part["dims"].items())
        samples, folder = counted(part["n"], "sample"), escape(short_path(part["folder"]))
        console.print(f"  {role:<9} {samples} ({dims})  {folder}", soft_wrap=True)


def show_checks(checks: Sequence[Check]) -> None:
    """Show what was looked at, a line each, with the remedy under it."""
    for check in checks:
        symbol, colour = _STATES[check.state]
        console.print(f"[{colour}]{symbol}[/] {escape(check.name):<13} {escape_lines(check.found)}", soft_wrap=True)
        if check.remedy:
            console.print(f"                {escape_lines(check.remedy)}", soft_wrap=True)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(_text, value))
    return "" if value is None else str(value)


def _cut(text: str, length: int = 60) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
