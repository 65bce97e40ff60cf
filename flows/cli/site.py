"""The command `koda site`: one page over all audits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.destinations import destination
from flows.cli.options import JsonOption, answer, home

if TYPE_CHECKING:
    from koda.site import BuiltSite


def site(
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Where index.html goes; by default into site/ of KODA_HOME."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Build a static page over all audits in KODA_HOME: search, filters, sorting, trends, links to the reports.

    Only audits that changed since the last time are read. The page opens from the disk, and asks no server anything.
    """

    def work() -> BuiltSite:
        from koda.site import build_site

        with destination("--out", out):
            return build_site(home(), out)

    def to_json(built: BuiltSite) -> str:
        from dataclasses import asdict

        from flows.cli.strict_json import strict_json

        return strict_json({**asdict(built), "index": str(built.index)})

    answer(work, as_json, _show, to_json)


def _show(built: BuiltSite) -> None:
    from flows.terminal import console, escape, notes, short_path, show_notes
    from koda.wording import counted

    console.print(f"  index     {escape(short_path(str(built.index)))}", soft_wrap=True)
    damaged = f", {built.damaged} of them damaged" if built.damaged else ""
    rest = ", the others as they were" if built.read < built.audits else ""
    notes.print(f"  {counted(built.audits, 'audit')}{damaged}; {built.read} read{rest}")
    show_notes(built.notes)
