"""What follows when a watched checkpoint was audited: a file that names it, and a program of the team's own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path

from koda.audit.folders import AUDITS, RECORD
from koda.config import PromoteConfig
from koda.errors import ConfigError, KodaError, reason_of
from koda.records.checkpoint import CheckpointEntry
from koda.secrets import redact
from koda.storage import write_atomically

SECONDS = 600.0  # that a hook may take
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def check_program(promotion: PromoteConfig | None) -> None:
    """Refuse a program that cannot be run, before a night of audits ends with it.

    Raises:
        ConfigError: there is none of that name, or it is not executable.
    """
    if promotion is None or not promotion.run or _PLACEHOLDER.search(promotion.run[0]):
        return
    program = promotion.run[0]
    if shutil.which(program) is None:
        there = "/" in program and Path(program).is_file()
        what = "is not executable" if there else "is not there" if "/" in program else "is no program on the PATH"
        remedy = f"chmod +x {program}" if there else "A path is relative to the configuration, and has a slash in it."
        raise ConfigError(f"promote.run: {redact(program)} {what}.", remedy)


def promote(promotion: PromoteConfig, home: Path, entry: CheckpointEntry, without: Collection[str] = ()) -> str | None:
    """Run the program and then write the file that a promotion consists of: the file names what was promoted whole.

    The program runs without a shell, in its own folder where it is given by a path, else in that of the file, else in
    KODA_HOME. It gets what the file holds as JSON on stdin; what it prints goes to a file in KODA_HOME/logs.

    Args:
        promotion: what is to be done.
        home: KODA_HOME.
        entry: of the checkpoint, which is audited.
        without: variables of the environment that the program is not to have.

    Returns:
        What went wrong, in words; None where nothing did.
    """
    told = told_of(home, entry)
    target = None if promotion.write is None else Path(promotion.write)
    try:
        if target is not None:  # where the program may run, and what would fail after it fails before
            target.parent.mkdir(parents=True, exist_ok=True)
        problem = _run(promotion, home, told, without) if promotion.run else None
        if target is not None and problem is None:
            write_atomically(target, (json.dumps(told, indent=1) + "\n").encode())
    except (OSError, KodaError) as error:
        return f"{target} could not be written: {reason_of(error)}"
    return problem


def told_of(home: Path, entry: CheckpointEntry) -> dict[str, str | None]:
    """Return what is told of a checkpoint that was audited, by the names that arguments have in braces, and more."""
    folder = home / AUDITS / (entry.audit_id or "")
    return {
        "checkpoint": entry.paths[-1],
        "label": entry.label,
        "digest": entry.digest,
        "weights": entry.weights,
        "audit": entry.audit_id,
        "verdict": entry.verdict,
        "report": str(folder / "report.html"),
        "record": str(folder / RECORD),
        "folder": str(folder),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _run(promotion: PromoteConfig, home: Path, told: Mapping[str, str | None], without: Collection[str]) -> str | None:
    # in one pass, so that a path with braces in it stays what it is
    command = [_PLACEHOLDER.sub(lambda match: str(told.get(match[1]) or ""), part) for part in promotion.run]
    log = home / "logs" / f"promotion-{told['audit']}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.log"
    name = redact(command[0])
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output, subprocess.Popen(
            command, cwd=_folder_of(promotion, home), stdin=subprocess.PIPE, stdout=output, stderr=output,
            start_new_session=True, env={name: value for name, value in os.environ.items() if name not in without},
        ) as process:  # fmt: skip
            try:
                process.communicate(json.dumps(told).encode(), timeout=SECONDS)
            except subprocess.TimeoutExpired:
                _end(process)
                return f"{name} had not ended after {SECONDS / 60:g} minutes and was ended; its output is in {log}"
            except BaseException:  # koda is told to end
                _end(process)
                raise
    except (OSError, ValueError) as error:
        return f"{name} could not be run: {redact(str(error))}"
    if process.returncode:
        return f"{name} ended with code {process.returncode}; its output is in {log}"
    return None


def _folder_of(promotion: PromoteConfig, home: Path) -> Path:
    program = promotion.run[0]
    if "/" in program:
        return Path(program).parent
    return home if promotion.write is None else Path(promotion.write).parent


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program with all that it started."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
