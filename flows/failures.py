"""What went wrong, in words, and the exit code of a verdict."""

from __future__ import annotations

import os
import time

from flows.environment import koda_home
from koda.errors import KodaError
from koda.secrets import redact

_FULL_BELOW_BYTES = 2**20  # with less free nothing can go on


def code_of_verdict(verdict: str, strict: bool) -> int:
    """Return the exit code of an audit that ran."""
    return int(verdict == "fail" or (strict and verdict == "inconclusive"))


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
        if isinstance(here, OSError) and (explained := explain_os_error(here, koda_home())) is not None:
            return explained
        if "database or disk is full" in str(here):
            return full_disk(koda_home())
        here = here.__cause__ or here.__context__
    # of a full disk Prefect's server only says that it did not start
    if disk_usage(nearest_existing(koda_home())).free < _FULL_BELOW_BYTES:
        return full_disk(koda_home())
    return None


def unexpected(error: BaseException) -> str:
    """Write down the traceback of an error that koda did not foresee, and say where it is."""
    import traceback

    text = redact("".join(traceback.format_exception(error)))
    line = redact(f"The run failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    path = koda_home() / "logs" / f"failure-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as failure:
        return f"{line}\n  The traceback could not be written to {path}: {failure.strerror}."
    return f"{line}\n  This is not your fault but koda's; the traceback is in {path}"
