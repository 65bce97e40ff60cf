"""A command one of whose options takes several values: `--equals A B C`, as well as `--equals A --equals B`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flows.cli.command import Command

_OPTION = "--equals"


class SeveralEquals(Command):
    """A command whose `--equals` takes all that follows it, up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option before each of its values, which is the form that the parser knows."""
        return super().parse_args(ctx, spread(args))


def spread(args: Sequence[str]) -> list[str]:
    """Put the option before each of its values.

    >>> spread(["audit.yaml", "--equals", "a", "b", "--json"])
    ['audit.yaml', '--equals', 'a', '--equals', 'b', '--json']
    """
    spread_out: list[str] = []
    taking = False
    for place, arg in enumerate(args):
        if arg == "--":
            return [*spread_out, *args[place:]]
        if arg.startswith("-"):
            taking = arg == _OPTION or arg.startswith(f"{_OPTION}=")
        elif taking and spread_out[-1] != _OPTION:
            spread_out.append(_OPTION)
        spread_out.append(arg)
    return spread_out
