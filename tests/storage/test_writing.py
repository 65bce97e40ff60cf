"""Files are written whole or not at all, and what a killed writer left is removed, but nothing of a living one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from koda.audit.consistency import check_store
from koda.audit.runs import running
from koda.storage import write_atomically
from koda.storage.writing import remove_unfinished

_WRITER = """
import os, signal, sys
import koda.storage.writing as writing
from pathlib import Path

def killed(handle):
    os.kill(os.getpid(), signal.{signal})

os.fsync = killed
writing.write_atomically(Path(sys.argv[1]), b"half")
"""
PLACES = [
    "references/audit-1.json",
    "running/run.json",
    "notifications/waiting/a.json",
    "serve.json",
    "sweeps/sweep-1/sweep.json",
]


def write_and(signal: str, path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", _WRITER.format(signal=signal), str(path)])


def test_a_folder_that_goes_meanwhile_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> list[Path]:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(Path, "glob", gone)
    remove_unfinished(tmp_path)


def unfinished(home: Path) -> list[Path]:
    return [path for path in home.rglob(".*.tmp") if path.stat().st_size]


def test_what_a_killed_writer_left_is_removed_by_the_next_run(tmp_path: Path) -> None:
    writers = [write_and("SIGKILL", tmp_path / place) for place in PLACES]
    assert [writer.wait(60) for writer in writers] == [-9] * len(PLACES)
    assert len(unfinished(tmp_path)) == len(PLACES)
    others = [tmp_path / "references" / name for name in (".somebody-else-s.tmp", ".01234567-0123456789abcdef.tmp")]
    old = tmp_path / "references" / ".76543210-0123456789abcdef.tmp"  # of another machine, a week ago
    for path in (*others, old):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    with running(tmp_path, "audit-1", []):
        assert sorted(unfinished(tmp_path)) == sorted(others)
    assert not [tmp_path / place for place in PLACES if (tmp_path / place).exists()]


def test_what_a_living_writer_writes_stays(tmp_path: Path) -> None:
    path = tmp_path / "references" / "audit-1.json"
    writer = write_and("SIGSTOP", path)
    try:
        os.waitid(os.P_PID, writer.pid, os.WSTOPPED)
        (before,) = unfinished(tmp_path)
        remove_unfinished(tmp_path)
        assert unfinished(tmp_path) == [before]
        assert [check.found for check in check_store(tmp_path) if check.name == "leftovers"] == []
    finally:
        writer.kill()
        writer.wait()
    remove_unfinished(tmp_path)
    assert not unfinished(tmp_path)


@pytest.mark.parametrize("place", PLACES)
def test_whoever_removes_all_the_time_disturbs_no_writer(tmp_path: Path, place: str) -> None:
    ended = threading.Event()

    def remove() -> None:
        while not ended.is_set():
            remove_unfinished(tmp_path)

    remover = threading.Thread(target=remove)
    remover.start()
    try:
        for number in range(100):
            write_atomically(tmp_path / place, str(number).encode())
            assert (tmp_path / place).read_bytes() == str(number).encode()
    finally:
        ended.set()
        remover.join()
    assert not list(tmp_path.rglob(".*.tmp"))
