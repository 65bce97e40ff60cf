"""What every command shares: its options, where KODA_HOME is, and how it says what went wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from flows.environment import settle
from flows.failures import in_words, koda_home, unexpected

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, e.g. discrepancy.n_directions=5. Repeatable."),
]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Execute every step again.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
JunitOption = Annotated[
    Path | None, typer.Option("--junit", metavar="FILE", help="Write the rules and their results as JUnit XML.")
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Exit with 1 also when the verdict is inconclusive.")]


def guarded(work: Callable[[], Any], as_json: bool) -> Any:
    """Run work; say in words what went wrong, and exit with its code."""
    settle(koda_home())
    try:
        return work()
    except KeyboardInterrupt:
        fail("Interrupted. Run the same command again: it takes up what is unfinished.", as_json, 130)
    except Exception as error:
        told = in_words(error)
        if told is not None:
            fail(str(told), as_json, told.exit_code)
        fail(unexpected(error), as_json, 3)


def no_stale(junit: Path | None) -> None:
    """Remove the JUnit file of an earlier run, which would pass for this one's if it fails.

    Raises:
        ConfigError: a folder of that name.
        StoreError: it cannot be removed.
    """
    from koda.errors import ConfigError
    from koda.storage.artifacts import explain_os_errors

    if junit is None:
        return
    if junit.is_dir():
        raise ConfigError(f"--junit {junit} is a folder.", "Give the name of a file, such as koda.xml.")
    with explain_os_errors(junit):
        junit.unlink(missing_ok=True)


def fail(message: str, as_json: bool, code: int) -> NoReturn:
    """Say what went wrong, as JSON too where that is wanted, and exit."""
    if as_json:
        typer.echo(json.dumps({"error": message, "exit_code": code}, indent=1))
    typer.echo(f"koda: {message}", err=True)
    raise typer.Exit(code)
