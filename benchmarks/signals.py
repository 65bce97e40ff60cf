"""Send signals to an audit at many moments, and see how it ends and what it leaves.

    python benchmarks/signals.py
    python benchmarks/signals.py --moments 5 --out benchmarks/signals.md

An audit of 90 pictures and two tiny models, made anew with `--fresh` in a home that holds its first run, is started in
a process group of its own, as from a terminal. At each of the moments, spread evenly over the time that it takes
undisturbed, the whole group gets SIGINT or SIGHUP, or the command alone SIGTERM or SIGKILL. Then

1. the command must end within 10 seconds, with the exit code of the signal (a signal that comes before the command
   listens, or when it is done, ends it as any other program);
2. 10 seconds later no process may be left that has this home in its environment;
3. the same command, without `--fresh`, must end with the verdict of the undisturbed run;
4. the store must be whole: `koda verify` of the audit, every artifact with the digests in its mark, and no temporary
   file.

What does not hold is printed, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.common import about
from koda.storage import digest_file
from tests import prefect_server
from tests.flows.workplace import make_workplace

SIGNALS = {signal.SIGINT: True, signal.SIGTERM: False, signal.SIGHUP: True, signal.SIGKILL: False}  # to the group?
SECONDS_TO_END = SECONDS_TO_VANISH = 10
KODA = [sys.executable, "-c", "from flows.cli import main; main()"]


@dataclass
class Outcome:
    """What one signal at one moment led to."""

    signal: signal.Signals
    after: float
    seconds: float = 0.0
    code: int = 0
    wrong: list[str] = field(default_factory=list)


class Place:
    """A folder with a configuration and a home, and the undisturbed run."""

    def __init__(self, folder: Path) -> None:
        place = make_workplace(folder)
        self.home = place.home
        self.command = [*KODA, "audit", str(place.config), "--json", "--set", "significance.stability=0"]
        self.environment = {
            **{name: value for name, value in prefect_server.without().items() if name != "PYTEST_CURRENT_TEST"},
            "KODA_HOME": str(self.home),
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }
        self.first = self.run()  # which also makes Prefect's database
        begun = time.monotonic()
        self.run("--fresh")
        self.length = time.monotonic() - begun

    def run(self, *more: str) -> dict[str, Any]:
        done = subprocess.run([*self.command, *more], env=self.environment, capture_output=True, text=True, timeout=600)
        result = json.loads(done.stdout) if done.stdout.startswith("{") else {}
        return {**result, "code": done.returncode, "told": done.stderr[-400:]}

    def send(self, number: signal.Signals, after: float) -> Outcome:
        outcome = Outcome(number, after)
        process = subprocess.Popen(
            [*self.command, "--fresh"], env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, preexec_fn=_as_in_a_terminal,
        )  # fmt: skip
        time.sleep(after)
        was_over = process.poll() is not None
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if SIGNALS[number] else os.kill)(process.pid, number)
        begun = time.monotonic()
        try:
            outcome.code = process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            outcome.wrong.append(f"it runs on {SECONDS_TO_END} s after the signal")
            process.kill()
            process.wait()
        outcome.seconds = time.monotonic() - begun
        right = {-number} if number == signal.SIGKILL else {128 + number, -number}
        if not was_over and outcome.code not in right | {self.first["code"]}:
            outcome.wrong.append(f"it ends with {outcome.code}")
        outcome.wrong += self.left()
        outcome.wrong += self.again()
        return outcome

    def left(self) -> list[str]:
        """Wait for the processes of the home to vanish, and name those that stay."""
        give_up = time.monotonic() + SECONDS_TO_VANISH
        while (left := self.processes()) and time.monotonic() < give_up:
            time.sleep(0.2)
        return [f"it leaves {command}" for command in left]

    def processes(self) -> list[str]:
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"KODA_HOME={self.home}".encode() in (path / "environ").read_bytes().split(b"\0"):
                    found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:80])
        return found

    def again(self) -> list[str]:
        """Run the command once more, and look at the store."""
        result = self.run()
        if (result["code"], result.get("id")) != (self.first["code"], self.first["id"]):
            return [f"then the command ends with {result['code']}: {result['told']}"]
        wrong = [] if result["verdict"] == self.first["verdict"] else [f"then the verdict is {result['verdict']}"]
        verify = [*KODA, "verify", result["paths"]["folder"]]
        if subprocess.run(verify, env=self.environment, capture_output=True).returncode:
            wrong.append("then the audit does not verify")
        for mark in (self.home / "artifacts").glob("*/*/complete.json"):
            for name, entry in json.loads(mark.read_bytes())["files"].items():
                if digest_file(mark.parent / name) != entry["sha256"]:
                    wrong.append(f"then {mark.parent.name}/{name} is not what its mark says")
        return wrong + [f"then {path.name} is left" for path in self.home.rglob("*.tmp")]


def _as_in_a_terminal() -> None:
    for number in SIGNALS:
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)


def table(outcomes: list[Outcome], place: Place) -> str:
    machine = about()
    lines = [
        "# Signals to an audit",
        "",
        f"{machine['date']}, {machine['device']}, torch {machine['torch']}, python {machine['python']}, koda "
        f"{machine['koda']}. Undisturbed the audit takes {place.length:.0f} s.",
        "",
        "What is sent and what must hold stands in signals.py. *Exit codes*: a negative one is of a process that "
        "the signal ended before it listened, or of SIGKILL; that of the verdict is of a run that was over. *Ended*: "
        "seconds from the signal to the end of the command.",
        "",
        "| signal | moments | exit codes | ended, median | ended, most | something wrong |",
        "| --- | ---: | --- | ---: | ---: | ---: |",
    ]
    for number in SIGNALS:
        of_it = [outcome for outcome in outcomes if outcome.signal == number]
        if not of_it:
            continue
        codes = sorted({outcome.code for outcome in of_it})
        counts = ", ".join(f"{code} ({sum(outcome.code == code for outcome in of_it)})" for code in codes)
        seconds = sorted(outcome.seconds for outcome in of_it)
        wrong = sum(bool(outcome.wrong) for outcome in of_it)
        lines.append(
            f"| {number.name} | {len(of_it)} | {counts} | {seconds[len(seconds) // 2]:.1f} s | {seconds[-1]:.1f} s "
            f"| {wrong} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=20, help="of each signal")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="koda-signals-") as folder:
        place = Place(Path(folder))
        for moment in range(options.moments):
            for number in SIGNALS:
                outcome = place.send(number, place.length * (moment + 0.5) / options.moments)
                outcomes.append(outcome)
                told = "; ".join(outcome.wrong) or "right"
                print(
                    f"{number.name:8} {outcome.after:5.1f} s: {outcome.code}, {outcome.seconds:.1f} s, {told}",
                    flush=True,
                )
                if options.out is not None:
                    options.out.write_text(table(outcomes, place), encoding="utf-8")
    print(table(outcomes, place))
    return int(any(outcome.wrong for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
