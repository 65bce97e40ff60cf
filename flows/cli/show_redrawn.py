"""What people see of a report that was drawn again, and of what was said of an audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows.cli.strict_json import strict_json
from flows.terminal import console, escape, notes, short_path, show_notes

if TYPE_CHECKING:
    from koda.audit.redrawing import Redrawn
    from koda.records import Annotation


def show_redrawn(drawn: Redrawn) -> None:
    """Say where the report lies."""
    for name, path in (("html", drawn.html), ("pdf", drawn.pdf)):
        if path is not None:
            console.print(f"  {name:<9} {escape(short_path(str(path)))}", soft_wrap=True)
    show_notes(drawn.notes)


def show_annotated(drawn: Redrawn) -> None:
    """Say what was added; of a waiver also how the next audit comes to heed it."""
    said = drawn.annotations[-1]
    console.print(f"{escape(drawn.id)}, entry {said.number}: {_in_words(said)}")
    show_redrawn(drawn)
    if said.what == "waiver":
        from koda.audit.annotations import waiver_setting

        notes.print("The verdict stays as it is. The next audit heeds the waiver if its configuration has:")
        for line in waiver_setting(said).splitlines():
            notes.print(f"  {escape(line)}", soft_wrap=True)


def redrawn_as_json(drawn: Redrawn) -> str:
    """Return the report's files and what is said in it as JSON."""
    pdf = None if drawn.pdf is None else str(drawn.pdf)
    said: list[dict[str, Any]] = [entry.model_dump(mode="json", exclude_none=True) for entry in drawn.annotations]
    paths = {"folder": str(drawn.html.parent), "html": str(drawn.html), "pdf": pdf}
    return strict_json({"id": drawn.id, "paths": paths, "annotations": said, "notes": drawn.notes})


def _in_words(said: Annotation) -> str:
    who = f"[bold]{escape(said.who)}[/]"
    if said.what in ("prepared", "reviewed", "approved"):
        return f"{said.what} by {who}"
    if said.what == "waiver":
        return f"waiver of {escape(str(said.figure))} by {who} until {said.until}"
    on = "" if said.finding is None else f" on {escape(str(said.finding))}"
    return f"{said.what}{on} by {who}"
