"""The command `koda prune`: what no kept audit refers to is removed; reports and records stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import JsonOption, answer, home

if TYPE_CHECKING:
    from koda.audit.pruning import Pruned


def prune(
    keep: Annotated[
        str | None,
        typer.Option(
            "--keep",
            metavar="TIME",
            help="Keep what audits refer to that were asked for within this time: 90d, 12w, 36h.",
        ),
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option(
            "--max-size",
            metavar="SIZE",
            help="Remove what belongs to the audits asked for the longest ago until the artifacts fit: 50GB, 800MiB.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would go, and remove nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove artifacts that no kept audit refers to: embeddings, searches, evaluations. Reports and records stay.

    With both options what is older than --keep goes, and then what it takes to reach --max-size. What a run that
    goes on needs never goes. An audit whose artifacts are gone verifies as before, and makes them anew when it is
    asked for again.
    """

    def work() -> Pruned:
        from flows.prefect_retention import forget
        from koda.audit.pruning import prune as remove
        from koda.audit.retention import Retention
        from koda.config.amounts import parse_size, parse_time
        from koda.errors import ConfigError

        if keep is None and max_size is None:
            raise ConfigError("What is to stay?", "Give --keep 90d, --max-size 50GB, or both; --dry-run only lists.")
        retention = Retention(
            None if keep is None else parse_time(keep, "--keep"),
            None if max_size is None else parse_size(max_size, "--max-size"),
        )
        pruned = remove(home(), retention, dry_run=dry_run)
        return pruned if dry_run else pruned.with_notes(forget(home(), retention.keep))

    from flows.cli.strict_json import strict_json

    answer(work, as_json, _show, lambda pruned: strict_json(pruned.to_json()))


def _show(pruned: Pruned) -> None:
    from rich.table import Table

    from flows.terminal import console, escape, notes, say, short_path, show_notes
    from koda.config.amounts import size_in_words
    from koda.wording import counted

    if pruned.removals:
        table = Table("kind", "key", "size", "audits", "why", box=None)
        for removal in pruned.removals:
            item, audits = removal.item, removal.audits
            named = ", ".join(audits[:2]) + (f" and {len(audits) - 2} more" if len(audits) > 2 else "")
            table.add_row(
                *map(escape, (item.kind, item.key[:12], size_in_words(item.size), named or "none", removal.why))
            )
        console.print(table)
    verb = "would go" if pruned.dry_run else "removed"
    console.print(
        f"{counted(len(pruned.removals), 'artifact')} {verb}, {size_in_words(pruned.freed)}; the artifacts "
        f"{'would then ' if pruned.dry_run else ''}take {size_in_words(pruned.after)}"
    )
    if pruned.log is not None:
        say(f"listed in {escape(short_path(str(pruned.log)))}", to=notes)
    show_notes(pruned.notes)
