"""`KODA_LOG=json`: what is said on stderr, as one JSON object a line, for who collects logs.

Each has `time` (UTC, RFC 3339), `level`, `event` and `message`, and fields such as `audit`, `run` and `step`. What
libraries, native code and other processes write there becomes a line with the event `output`, so that there is nothing
else. What a command was asked for goes to stdout as ever.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from koda.wording import printable, printable_json

VARIABLE = "KODA_LOG"
_KNOWN = ("", "json")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SECONDS_FOR_THE_REST = 0.2

Level = Literal["info", "warning", "error"]
_fields: ContextVar[dict[str, Any] | None] = ContextVar("_fields", default=None)


def as_json() -> bool:
    """Tell whether logs are to be JSON."""
    return os.environ.get(VARIABLE) == "json"


def fault() -> str | None:
    """Say what is wrong with KODA_LOG, if anything is."""
    value = os.environ.get(VARIABLE, "")
    if value in _KNOWN:
        return None
    return f"{VARIABLE} is {value!r}, which is no way to log.\n  Set {VARIABLE}=json, or unset it for text."


@contextlib.contextmanager
def fields(**known: Any) -> Iterator[None]:
    """Have every line that is logged within say these things too."""
    token = _fields.set({**(_fields.get() or {}), **known})
    try:
        yield
    finally:
        _fields.reset(token)


def log(event: str, message: str, level: Level = "info", **more: Any) -> None:
    """Write a line, where logs are JSON; else nothing.

    Args:
        event: what happened, in a few words that are always the same.
        message: what happened, for people.
        level: info, warning or error.
        more: fields of this line.
    """
    if as_json():
        _write(_real(), event, message, level, more)


def complain(message: str) -> None:
    """Say on stderr that something went wrong."""
    if as_json():
        log("error", message, "error")
    else:
        print(f"koda: {printable(message)}", file=sys.stderr)


def _write(stream: TextIO, event: str, message: str, level: Level, more: dict[str, Any]) -> None:
    time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = {"time": time, "level": level, "event": event, "message": message, **(_fields.get() or {}), **more}
    text = printable_json(json.dumps(line, ensure_ascii=False, default=str))
    with contextlib.suppress(OSError, ValueError):  # nobody reads it, which is no reason to fail
        stream.write(text.encode("utf-8", "backslashreplace").decode() + "\n")
        stream.flush()


def _real() -> TextIO:
    """Return where lines are written: stderr as it was before it became one of lines."""
    return sys.stderr.real if isinstance(sys.stderr, Lines) else sys.stderr


class Lines(io.TextIOBase):
    """A stream that makes a line of the log of each line that is written to it.

    Args:
        event: of its lines.
        real: where they go; None for stderr.
    """

    def __init__(self, event: str, real: TextIO | None = None) -> None:
        self._event, self._to, self._begun = event, real, ""
        self._lock = threading.RLock()

    @property
    def real(self) -> TextIO:
        """Where the lines go."""
        return _real() if self._to is None else self._to

    encoding = "utf-8"
    errors = "backslashreplace"

    def writable(self) -> bool:
        """Tell that it can be written to."""
        return True

    def isatty(self) -> bool:
        """Tell that it is no terminal."""
        return False

    def fileno(self) -> int:
        """Return the number of stderr, for processes that are given it."""
        return self.real.fileno()

    def write(self, text: str) -> int:
        """Log the lines that end in a text, and keep the rest until it ends; of a line drawn anew, its last state."""
        with self._lock:
            *lines, self._begun = (self._begun + text).split("\n")
            for line in lines:
                self._log(line)
        return len(text)

    def finish(self) -> None:
        """Log what has not ended."""
        with self._lock:
            rest, self._begun = self._begun, ""
            self._log(rest)

    def _log(self, line: str) -> None:
        if shown := _ANSI.sub("", line.rstrip().rpartition("\r")[2]).strip():
            _write(self.real, self._event, shown, "info", {})


#: what koda itself tells people goes here, whether or not stderr as a whole is one of lines
NOTES = Lines("note")


@contextlib.contextmanager
def lines_only() -> Iterator[None]:
    """Have all that Python code writes to stderr be lines of the log, where logs are JSON."""
    if not as_json() or isinstance(sys.stderr, Lines):
        yield
        return
    before = sys.stderr
    sys.stderr = here = Lines("output", before)
    try:
        yield
    finally:
        here.finish()
        sys.stderr = before


@contextlib.contextmanager
def all_lines_only() -> Iterator[None]:
    """Have what native code and other processes write to stderr be lines of the log too, where logs are JSON.

    It is for a process that ends soon after: what native code says then is lost.
    """
    if not as_json():
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    real = os.fdopen(kept, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    reader = threading.Thread(target=_read_on, args=(reading, real), daemon=True, name="koda-log")
    reader.start()
    sys.stderr = here = Lines("output", real)
    try:
        yield
    finally:
        here.finish()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # so that the pipe ends, unless another process has it too
        reader.join(_SECONDS_FOR_THE_REST)


def _read_on(reading: int, real: TextIO) -> None:
    lines = Lines("output", real)
    with os.fdopen(reading, encoding="utf-8", errors="backslashreplace") as pipe:
        for line in pipe:
            lines.write(line)
    lines.finish()
