"""Which files a model's code reads while it is imported and made: settings, vocabularies, whatever it opens."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from koda.models.tokenizers import files_in, holds_tokenizer
from koda.storage import digest_json, digest_once

_CODE = (".py", ".pyc", ".pyi", ".so", ".lock")
# folders of a prefix; what lies beside them, as in /usr/src/app, is somebody's own
_INSTALLED = ("bin", "etc", "include", "lib", "lib64", "share")
_SYSTEM = (
    *("/proc/", "/sys/", "/dev/", "/etc/", "/bin/", "/lib/", "/lib64/"),
    *(
        f"{prefix}{os.sep}{folder}{os.sep}"
        for prefix in (sys.prefix, sys.base_prefix, "/usr", "/usr/local")
        for folder in _INSTALLED
    ),
)
_watching: list[set[str]] = []  # the files opened so far: by what runs now, after what waits for it
_watcher = threading.local()  # true in the thread that imports
_hooked = threading.Event()


@contextlib.contextmanager
def watch_reads() -> Iterator[set[str]]:
    """Collect the files that are opened for reading within, in this thread; a watch within it takes its own."""
    if not _hooked.is_set():  # a hook stays for ever, so there is one
        sys.addaudithook(_on_event)
        _hooked.set()
    found: set[str] = set()
    before = getattr(_watcher, "on", False)
    _watching.append(found)
    _watcher.on = True
    try:
        yield found
    finally:
        _watcher.on = before
        _watching.pop()


def _on_event(event: str, args: tuple[Any, ...]) -> None:
    if event != "open" or not _watching or not getattr(_watcher, "on", False):
        return
    path, mode, flags = args
    reading = not set("wax+") & set(mode) if isinstance(mode, str) else flags & os.O_ACCMODE == os.O_RDONLY
    if reading and isinstance(path, str | bytes):
        _watching[-1].add(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100 (links are kept)


def digest_reads(paths: Iterable[str], root: Path) -> dict[str, str]:
    """Return name -> digest of files that code read; a tokenizer's others count with the one that was seen.

    Args:
        paths: as they were opened.
        root: the folder of the code; what lies below it goes by its place there, anything else by its name.
    """
    files = {path for path in map(Path, paths) if _counts(path)}
    # tokenizers read some of their files without Python
    files |= {
        path for folder in {file.parent for file in files} if holds_tokenizer(folder) for path in files_in(folder)
    }
    named: dict[str, list[str]] = {}
    for path in sorted(files):
        below = os.path.relpath(path, root).replace(os.sep, "/")
        name = f"read/{path.name if below.startswith('../') else below}"
        with contextlib.suppress(OSError):  # it was for a moment only
            named.setdefault(name, []).append(digest_once(path))
    return {name: found[0] if len(found) == 1 else digest_json(sorted(found)) for name, found in named.items()}


def _counts(path: Path) -> bool:
    packaged = {"site-packages", "dist-packages", "__pycache__"} & set(path.parts)
    installed = str(path).startswith(_SYSTEM)
    return not packaged and not installed and path.suffix not in _CODE and path.is_file()
