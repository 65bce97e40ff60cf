"""What went wrong, in words, and the exit code of a verdict."""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path

from flows.environment import koda_home
from flows.machine import machine_error
from koda.errors import DataError, KodaError, MachineError, StoreError, WriteError, reason_of
from koda.secrets import redact

FULL_BELOW_BYTES = 2**20  # with less free nothing can go on


def code_of_verdict(verdict: str, strict: bool) -> int:
    """Return the exit code of an audit that ran."""
    return int(verdict == "fail" or (strict and verdict == "inconclusive"))


def prefect_is_lost() -> bool:
    """Tell whether the server of this process was killed again and again, so that Prefect cannot be told anything."""
    server = sys.modules.get("flows.server")
    own = None if server is None else server.own_server()
    return own is not None and bool(own.gave_up)


def in_words(error: BaseException) -> KodaError | None:
    """Find the error that was meant for people in a chain that a flow may have wrapped, or what the machine lacked."""
    from shutil import disk_usage

    from koda.storage.writing import explain_os_error, full_disk, nearest_existing

    chain = _chain(error)
    for here in chain:
        if isinstance(here, WriteError):
            return _of_place(here)
        if isinstance(here, KodaError) and not isinstance(here, MachineError):
            return here
        if isinstance(here, PermissionError) and (elsewhere := _outside_home(here)) is not None:
            return DataError(
                f"{elsewhere} cannot be opened: {reason_of(here)}.", "Change its permissions, or its owner."
            )
        if isinstance(here, OSError) and here.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            return DataError(f"{here.filename} cannot be read: {reason_of(here)}.", "Give another path.")
        if isinstance(here, OSError) and (explained := explain_os_error(here, koda_home())) is not None:
            return explained
        if "database or disk is full" in str(here):
            return full_disk(koda_home())
    # of a full disk Prefect's server says that it did not start, or nothing
    disk = disk_usage(nearest_existing(koda_home()))
    if disk.total and disk.free < FULL_BELOW_BYTES:
        return full_disk(koda_home())
    return next((found for here in chain if (found := _of_machine(here)) is not None), None)


def _of_place(error: WriteError) -> KodaError:
    """Return an error with the remedy for where it is: KODA_HOME decides where the results lie, and nothing else."""
    if error.path.is_relative_to(koda_home()):
        return error if error.is_full else StoreError(error.message, "Set KODA_HOME to a folder of your own.")
    remedy = "Free some space there" if error.is_full else "Change its permissions, or its owner"
    return StoreError(error.message, f"{remedy}, and run the same command again.")


def _outside_home(error: OSError) -> Path | None:
    """Return the file of an error where it is none of the results'; koda writes nowhere else but where it is told."""
    if not isinstance(error.filename, str):
        return None
    path = Path(error.filename).absolute()
    return None if path.is_relative_to(koda_home()) else path


def _of_machine(error: BaseException) -> KodaError | None:
    return error if isinstance(error, MachineError) else machine_error(error)


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and what it came from, the latest first."""
    chain: list[BaseException] = []
    here: BaseException | None = error
    while here is not None and here not in chain:
        chain.append(here)
        here = here.__cause__ or here.__context__
    return chain


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
