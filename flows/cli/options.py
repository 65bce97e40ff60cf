"""What every command shares: its options, and how it answers or says what went wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from flows.environment import koda_home
from flows.failures import in_words, unexpected
from flows.signals import Stopped, first_signal

if TYPE_CHECKING:
    from koda.config import AuditConfig

T = TypeVar("T")

ConfigArgument = Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The configuration of an audit.")]
AuditArgument = Annotated[str, typer.Argument(metavar="ID", help="An audit's id, or the beginning of one.")]
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


def settings_of(set_: list[str] | None) -> dict[str, Any]:
    """Return the changes of `--set`, by key."""
    from koda.config import parse_override

    return dict(parse_override(item) for item in set_ or [])


def load(config: Path, set_: list[str] | None) -> AuditConfig:
    """Read a configuration with the changes of the command line."""
    from koda.config import load_config

    return load_config(config, settings_of(set_))


def _json(result: Any) -> str:
    return json.dumps(result, indent=1, default=str)


def answer(work: Callable[[], T], as_json: bool, show: Callable[[T], None], to_json: Callable[[T], str] = _json) -> T:
    """Run the work of a command and print what came of it; say in words what went wrong, and exit with its code.

    Args:
        work: what the command does.
        as_json: whether the result is printed as JSON on stdout instead of being shown to people.
        show: shows the result.
        to_json: writes the result as JSON.

    Returns:
        The result.
    """
    result = _guarded(work, as_json)
    if as_json:
        typer.echo(to_json(result))
    else:
        show(result)
    return result


def _guarded(work: Callable[[], T], as_json: bool) -> T:
    try:
        return work()
    except Stopped as stopped:
        _fail(str(stopped), as_json, stopped.exit_code)
    except Exception as error:
        if (told := first_signal()) is not None:
            _fail(str(told), as_json, told.exit_code)
        foreseen = in_words(error)
        if foreseen is not None:
            _fail(str(foreseen), as_json, foreseen.exit_code)
        _fail(unexpected(error), as_json, 3)


def _fail(message: str, as_json: bool, code: int) -> NoReturn:
    """Say what went wrong, as JSON too where that is wanted, and exit."""
    if as_json:
        typer.echo(json.dumps({"error": message, "exit_code": code}, indent=1))
    typer.echo(f"koda: {message}", err=True)
    raise typer.Exit(code)


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


def with_junit(
    result: dict[str, Any],
    junit: Path | None,
    strict: bool,
    audits: Sequence[str],
    failed: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Write the verdicts of a run as JUnit XML where that is wanted, and name the file in the result.

    Args:
        result: what the command prints.
        junit: the file, or None.
        strict: as on the command line.
        audits: ids of the audits that ran.
        failed: name -> reason of those that could not be run.
    """
    if junit is None:
        return result
    from koda.audit.publishing import read_published
    from koda.policy.export import junit_xml
    from koda.storage import write_atomically

    records = [read_published(koda_home(), audit) for audit in audits]
    write_atomically(junit, junit_xml(records, strict, failed))
    return {**result, "paths": {**result["paths"], "junit": str(junit.absolute())}}
