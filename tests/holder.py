"""A process that keeps a database open, as a shell or a notebook does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def hold(path: Path, *, read_only: bool = False) -> subprocess.Popen[str]:
    """Open a database in another process, and keep it open until that is killed."""
    opened = f"c = duckdb.connect({str(path)!r}, read_only={read_only})"
    program = f"import duckdb, time; {opened}; print('open', flush=True); time.sleep(300)"
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    return holder
