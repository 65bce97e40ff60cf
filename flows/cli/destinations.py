"""Where a command is told to write: what is refused there is said with the name of the option, before any work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flows.environment import koda_home

if TYPE_CHECKING:
    from koda.storage.places import Kind


@contextlib.contextmanager
def destination(named: str, path: Path | None, kind: Kind = "folder") -> Iterator[None]:
    """Check that something can be written where an option says, and tell what fails there later as that option's.

    Args:
        named: the option, or what the argument is called.
        path: its value; None: it is not given.
        kind: what it is to be.

    Raises:
        ConfigError: nothing can be written there.
        WriteError: the disk is full.
    """
    if path is None:
        yield
        return
    from koda.errors import ConfigError, WriteError
    from koda.storage.places import check_place

    try:
        check_place(path, kind)
        yield
    except WriteError as error:
        if error.is_full or not _is_at(error.path, path.absolute(), kind):
            raise
        example = "the name of a file in a folder" if kind == "file" else "the name of a folder"
        raise ConfigError(f"{named} {error.message}", f"Give {example} where you may write.") from error


def _is_at(failed: Path, path: Path, kind: Kind) -> bool:
    """Tell whether what failed is what the option names, or lies in it; the results of a run may lie there as well."""
    if failed.is_relative_to(koda_home()) and not path.is_relative_to(koda_home()):
        return False
    return failed.is_relative_to(path) if kind == "folder" else failed in (path, path.parent)
