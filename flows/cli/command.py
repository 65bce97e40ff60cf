"""What all commands do with a command line that is wrong: say so harmlessly, in the JUnit file too."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typer.core import TyperCommand, TyperGroup

from flows import logs
from flows.cli.options import leave_error
from koda.wording import printable

_JUNIT = "--junit"


class Command(TyperCommand):
    """A command that quotes control characters as text, and leaves no stale JUnit file."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line; what is wrong with it is an error in the JUnit file that it names."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            _make_harmless(error)
            junit = _junit_of(given) if hasattr(error, "format_message") and _takes_junit(self) else None
            if junit is not None:
                leave_error(junit, str(error))
            raise


class Group(TyperGroup):
    """The command itself, which quotes what is no subcommand as text, and logs as KODA_LOG says."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Any:
        """Run the command; where logs are JSON, what is wrong with the command line is a line of them too."""
        if (fault := logs.fault()) is not None:
            if "--json" in (sys.argv if args is None else args):
                print(json.dumps({"error": fault, "exit_code": 2}, indent=1))
            logs.complain(fault)
            sys.exit(2)
        if not logs.as_json():
            return super().main(args, *more, **options)
        with logs.lines_only():
            try:
                code = super().main(args, *more, **{**options, "standalone_mode": False})
            except Exception as error:
                if not hasattr(error, "format_message"):
                    raise
                logs.complain(error.format_message() or "No command is given.")
                code = getattr(error, "exit_code", 2)
        sys.exit(code if isinstance(code, int) else 0)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the subcommand."""
        try:
            return super().resolve_command(ctx, args)
        except Exception as error:
            _make_harmless(error)
            raise


def _make_harmless(error: Exception) -> None:
    message = getattr(error, "message", None)
    if isinstance(message, str):
        error.message = printable(message)  # type: ignore[attr-defined] # which click's errors have


def _takes_junit(command: TyperCommand) -> bool:
    return any(_JUNIT in parameter.opts for parameter in command.params)


def _junit_of(args: Sequence[str]) -> Path | None:
    """Return the file that a command line names, whatever else is wrong with it."""
    for place, arg in enumerate(args):
        if arg.startswith(f"{_JUNIT}="):
            return Path(arg.partition("=")[2])
        if arg == _JUNIT and place + 1 < len(args):
            return Path(args[place + 1])
    return None
