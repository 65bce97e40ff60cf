"""The command `koda report`: the report of an audit drawn again from what it left."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.destinations import destination
from flows.cli.options import AuditArgument, JsonOption, answer, home
from flows.cli.show_redrawn import redrawn_as_json, show_redrawn

if TYPE_CHECKING:
    from koda.audit.redrawing import Redrawn


def report(
    audit: AuditArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Leave the audit's own folder as it is, and write the report and its files here.",
        ),
    ] = None,
    no_pdf: Annotated[bool, typer.Option("--no-pdf", help="Draw report.html alone.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Draw the report of an audit again, from its record and thumbnails alone: no models, no data, no database."""

    def work() -> Redrawn:
        from koda.audit.redrawing import redraw

        with destination("--out", out):
            return redraw(home(), audit, out, pdf=not no_pdf)

    answer(work, as_json, show_redrawn, redrawn_as_json)
