"""What every command shares: its options, where KODA_HOME is, and how it says what went wrong."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from flows.environment import settle
from koda.errors import KodaError, SolverError, TrainingError

_NO_ROOM = 2**20  # bytes; with less free nothing can go on

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


def koda_home() -> Path:
    """KODA_HOME as an absolute path."""
    return Path(os.environ.get("KODA_HOME") or "koda-runs").expanduser().absolute()


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
            fail(str(told), as_json, exit_code_of(told))
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


def code_of_verdict(verdict: str, strict: bool) -> int:
    """Return the exit code of an audit that ran."""
    return int(verdict == "fail" or (strict and verdict == "inconclusive"))


def exit_code_of(error: KodaError) -> int:
    """Return the exit code of an error that was meant for people."""
    return 3 if isinstance(error, SolverError | TrainingError) else 2


def in_words(error: BaseException) -> KodaError | None:
    """Find the error that was meant for people in a chain that a flow may have wrapped."""
    from shutil import disk_usage

    from koda.storage.artifacts import explain_os_error, full_disk, nearest_existing

    seen: set[int] = set()
    here: BaseException | None = error
    while here is not None and id(here) not in seen:
        seen.add(id(here))
        if isinstance(here, KodaError):
            return here
        if isinstance(here, OSError) and (told := explain_os_error(here, koda_home())) is not None:
            return told
        if "database or disk is full" in str(here):
            return full_disk(koda_home())
        here = here.__cause__ or here.__context__
    if disk_usage(nearest_existing(koda_home())).free < _NO_ROOM:  # Prefect's server only says that it did not start
        return full_disk(koda_home())
    return None


def unexpected(error: BaseException) -> str:
    """Write down the traceback of an error that koda did not foresee, and say where it is."""
    import traceback

    text = "".join(traceback.format_exception(error))
    line = f"The run failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    path = koda_home() / "logs" / f"failure-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as failure:
        return f"{line}\n  The traceback could not be written to {path}: {failure.strerror}."
    return f"{line}\n  This is not your fault but koda's; the traceback is in {path}"


def fail(message: str, as_json: bool, code: int) -> NoReturn:
    """Say what went wrong, as JSON too where that is wanted, and exit."""
    if as_json:
        typer.echo(json.dumps({"error": message, "exit_code": code}, indent=1))
    typer.echo(f"koda: {message}", err=True)
    raise typer.Exit(code)
