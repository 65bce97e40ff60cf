"""The command `koda annotate`: what people say of an audit after it, added to a chain beside its record."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import AuditArgument, JsonOption, answer, home
from flows.cli.show_redrawn import redrawn_as_json, show_annotated

if TYPE_CHECKING:
    from koda.audit.annotations import Statement
    from koda.audit.redrawing import Redrawn

_ASK = "Give one of --prepared, --reviewed, --approved, --dissent, --note and --waive."


def annotate(
    audit: AuditArgument,
    prepared: Annotated[str | None, typer.Option("--prepared", metavar="NAME", help="Who prepared the audit.")] = None,
    reviewed: Annotated[str | None, typer.Option("--reviewed", metavar="NAME", help="Who reviewed it.")] = None,
    approved: Annotated[str | None, typer.Option("--approved", metavar="NAME", help="Who approved it.")] = None,
    dissent: Annotated[
        str | None, typer.Option("--dissent", metavar="TEXT", help="What somebody objects; with --by.")
    ] = None,
    note: Annotated[str | None, typer.Option("--note", metavar="TEXT", help="A note; with --by.")] = None,
    finding: Annotated[
        str | None, typer.Option("--finding", metavar="FINDING", help='That the note is on, such as "lost 1".')
    ] = None,
    waive: Annotated[
        str | None,
        typer.Option("--waive", metavar="FIGURE", help="State a waiver of a rule; with --by, --reason and --until."),
    ] = None,
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who says so.")] = None,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why the figure is waived.")] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="DATE", help="Last day of the waiver, such as 2027-03-31.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Add to an audit who prepared, reviewed or approved it, a dissent, a note or a waiver; draw its report again.

    Figures and verdict stay as they were recorded. What was said is kept in annotations.json in the audit's folder, and
    nothing of it is ever taken out.
    """

    def said() -> Statement:
        from koda.audit.annotations import Statement
        from koda.errors import ConfigError

        signed = {"prepared": prepared, "reviewed": reviewed, "approved": approved}
        texts = {"dissent": dissent, "note": note, "waiver": waive}
        given = [what for what, value in (signed | texts).items() if value is not None]
        if len(given) != 1:
            raise ConfigError("What is to be added?" if not given else "That is more than one thing.", _ASK)
        what = given[0]
        beside = {"--by": by, "--finding": finding, "--reason": reason, "--until": until}
        asked = {"dissent": ["--by"], "note": ["--by"], "waiver": ["--by", "--reason", "--until"]}.get(what, [])
        option = {"waiver": "--waive"}.get(what, f"--{what}")
        if lacking := [name for name in asked if beside[name] is None]:
            raise ConfigError(f"{option} lacks {' and '.join(lacking)}.", "koda annotate --help says what each is.")
        taken = [*asked, *(["--finding"] if what == "note" else [])]
        if idle := [name for name, value in beside.items() if value is not None and name not in taken]:
            raise ConfigError(f"{' and '.join(idle)} does not go with {option}.", "Leave it out.")
        if what in signed:
            return Statement(what, signed[what] or "")  # type: ignore[arg-type]
        if what == "waiver":
            return Statement("waiver", by or "", reason or "", figure=waive, until=_day(until or ""))
        return Statement(what, by or "", texts[what] or "", finding and finding.lower())  # type: ignore[arg-type]

    def work() -> Redrawn:
        statement = said()
        from koda.audit.redrawing import annotate as add

        return add(home(), audit, statement)

    answer(work, as_json, show_annotated, redrawn_as_json)


def _day(text: str) -> date:
    from koda.errors import ConfigError

    try:
        return date.fromisoformat(text.strip())
    except ValueError as error:
        raise ConfigError(f"--until {text!r} is no date.", "Give one such as 2027-03-31.") from error
