"""How a command that is over ends: with its code, after all that is called at the exit, and never in silence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import atexit, sys
from flows.signals import leave_as_the_last
codes = []
atexit.register(leave_as_the_last, codes)
atexit.register(print, "called at the exit")
class Loud:
    def __del__(self):
        print("garbage")
loud = Loud(); loud.itself = loud
print("done")
codes += {codes}
"""


def _run(codes: str) -> subprocess.CompletedProcess[str]:
    script = SCRIPT.replace("{codes}", codes)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


def test_it_ends_with_its_code_after_all_that_is_called_at_the_exit():
    ended = _run("[7]")
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, "done\ncalled at the exit\n", "")


def test_without_a_code_the_interpreter_ends_as_ever():
    ended = _run("[]")
    assert (ended.returncode, ended.stdout) == (0, "done\ncalled at the exit\ngarbage\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
def test_output_that_cannot_be_written_is_no_success():
    script = SCRIPT.replace("{codes}", "[0]").replace("atexit.register(print", "(print")
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, text=True, env=buffered, check=False
        )
    assert ended.returncode == 120  # the interpreter's own code for it
    assert "No space left" in ended.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_command_whose_answer_cannot_be_written_says_so_in_a_line_and_exits_with_3(unbuffered):
    command = [sys.executable, "-c", "from flows.cli import main; main()", "figures", "--json"]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            command,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            check=False,
        )
    assert ended.returncode == 3
    assert ended.stderr.startswith("koda: What the command prints on stdout could not be written: ")
    assert ended.stderr.count("\n") == 1


def test_a_command_without_stdout_ends_without_a_traceback():
    command = f'"{sys.executable}" -c "from flows.cli import main; main()" figures --json >&-'
    ended = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True, check=False)
    assert "Traceback" not in ended.stderr
