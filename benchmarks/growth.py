"""What `koda audit` and `koda compare` cost as the data grow: seconds, memory and disk, by step.

    python benchmarks/growth.py --sizes 10000 100000
    python benchmarks/growth.py --sizes 1000000 --only compare --home /large/disk

For each size two folders in clip-retrieval's layout are made: image and text embeddings of two models in 512
dimensions, float16, procedural. Both models see the same topics, each through a rotation of its own; the candidate
holds one topic of 3 % of the pairs no longer together, so that there is a finding to make. Both commands then run as a
user runs them, in a process of their own and in a new home. Seconds and CPU seconds of a step are those between the
lines in which the command says that a step is done; "before" and "after" are what lies outside the steps. Peak memory
is anonymous memory (RssAnon of all processes of the command together), read every tenth of a second; what is mapped
from files is not in it. Results are added to growth.json, growth.md and growth.svg beside this file; a size that is
run again replaces its row.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.common import about  # noqa: E402

D, PART = 512, 100_000  # dimensions; pairs of a file
TOPICS, PLANTED, PLANTED_SHARE = 300, 7, 0.03  # topics, their sizes as Zipf says; the one that is scattered
NOISE = {"image": 0.6, "text": 0.7}  # of a sample beside its topic; both models see it
OWN_NOISE = 0.2  # of a model
ROLES = ("baseline", "candidate")
KODA = [sys.executable, "-c", "from flows.cli import main; main()"]
COMMANDS = ("compare", "audit")
_DONE = re.compile(r"^\s+(\S.*): ([\d.]+) s$")  # a line in which a step says that it is done


@dataclass(frozen=True)
class Cost:
    """What one part of a command took."""

    seconds: float
    cpu: float
    memory: int  # bytes at the most


@dataclass
class Run:
    """One command on one size.

    Args:
        command, n: what was run.
        whole: of the command from its start to its end.
        steps: name -> cost, in order.
        disk: kind of artifact -> bytes that are left in the home, or of the results of a comparison.
        found: what it found, in short.
        code: its exit code, which for an audit is that of the verdict.
    """

    command: str
    n: int
    whole: Cost
    steps: dict[str, Cost] = field(default_factory=dict)
    disk: dict[str, int] = field(default_factory=dict)
    found: str = ""
    code: int = 0


def write_folders(folder: Path, n: int) -> None:
    """Write the embeddings of both models over n pairs; the same pairs whatever the number."""
    weights = 1 / (np.arange(TOPICS) + 10.0)
    weights[PLANTED] = 0
    weights *= (1 - PLANTED_SHARE) / weights.sum()
    weights[PLANTED] = PLANTED_SHARE
    spread = ((np.arange(D) + 1.0) ** -0.5).astype(np.float32)  # a spectrum that decays, as of real embeddings
    centres = {name: _normal(2 + k, (TOPICS, D)) * spread for k, name in enumerate(NOISE)}
    rotations = {role: np.linalg.qr(_normal(10 + k, (D, D)))[0] for k, role in enumerate(ROLES)}
    for role in ROLES:
        for place in ("img_emb", "text_emb", "metadata"):
            (folder / role / place).mkdir(parents=True, exist_ok=True)
    for part, first in enumerate(range(0, n, PART)):
        count = min(PART, n - first)
        label = np.random.default_rng([part, 0]).choice(TOPICS, size=PART, p=weights)[:count]
        lost = (label == PLANTED)[:, None]
        for k, (name, noise) in enumerate(NOISE.items()):
            shared = noise * _normal([part, 2 + k], (PART, D))[:count] * spread
            for m, role in enumerate(ROLES):
                x = centres[name][label]
                if role == "candidate":  # each sample of the topic lies in a place of its own
                    x = np.where(lost, _normal([part, 8 + k], (PART, D))[:count] * spread, x)
                x = x + shared + OWN_NOISE * _normal([part, 4 + 2 * k + m], (PART, D))[:count] * spread
                x = x @ rotations[role]
                x /= np.linalg.norm(x, axis=1, keepdims=True)
                place = {"image": "img_emb", "text": "text_emb"}[name]
                np.save(folder / role / place / f"{place}_{part}.npy", x.astype(np.float16))
        keys = [f"{first + row:08d}" for row in range(count)]
        captions = [
            f"topic{topic} with detail{topic * 7 % 100 + row % 10} number{row % 997}" for row, topic in enumerate(label)
        ]
        for role in ROLES:
            columns = pa.table({"key": keys, "caption": captions})
            pq.write_table(columns, folder / role / "metadata" / f"metadata_{part}.parquet")


def _normal(seed: Any, shape: tuple[int, int]) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


class Watch:
    """CPU time and memory of a process and of those that it began, read every tenth of a second."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = threading.Event()
        self._ticks = os.sysconf("SC_CLK_TCK")
        self.cpu: dict[int, float] = {}  # process -> seconds
        self.peak = 0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def take(self) -> tuple[float, int]:
        """Return CPU seconds until now, and the most memory since the last call."""
        self._read()
        peak, self.peak = self.peak, 0
        return sum(self.cpu.values()), peak

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            self._read()

    def _read(self) -> None:
        memory, waiting = 0, [self._pid]
        while waiting:
            pid = waiting.pop()
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                status = Path(f"/proc/{pid}/status").read_text()
                waiting += [
                    int(child)
                    for task in Path(f"/proc/{pid}/task").iterdir()
                    for child in (task / "children").read_text().split()
                ]
            except OSError:
                continue  # it has ended meanwhile
            self.cpu[pid] = (int(fields[11]) + int(fields[12])) / self._ticks
            memory += next((int(s.split()[1]) * 1024 for s in status.splitlines() if s.startswith("RssAnon")), 0)
        self.peak = max(self.peak, memory)


def run(command: str, n: int, arguments: list[str], home: Path) -> tuple[Run, dict[str, Any]]:
    """Run a command and return what it cost and what it printed."""
    environment = {**os.environ, "KODA_HOME": str(home), "PYTHONPATH": str(HERE.parent)}
    began = last = time.monotonic()
    process = subprocess.Popen(
        [*KODA, *arguments, "--json"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    watch = Watch(process.pid)
    answer: list[str] = []
    reader = threading.Thread(target=lambda: answer.append(process.stdout.read() if process.stdout else ""))
    reader.start()
    steps: dict[str, Cost] = {}
    used = 0.0
    most = 0
    said = []
    for line in process.stderr or ():
        said.append(line)
        if not (done := _DONE.match(line)):
            continue
        now = time.monotonic()
        cpu, peak = watch.take()
        most = max(most, peak)
        seconds = float(done[2])
        if not steps:  # the first step began so long ago; its CPU time cannot be told from what came before
            steps["before"] = Cost(round(now - last - seconds, 1), 0.0, 0)
        steps[done[1]] = Cost(seconds, round(cpu - used, 1), peak)
        last, used = now, cpu
    reader.join()
    process.wait()
    watch.end()
    end = time.monotonic()
    total, peak = sum(watch.cpu.values()), watch.peak
    if steps:
        steps["after"] = Cost(round(end - last, 1), round(total - used, 1), peak)
    print("".join(said), file=sys.stderr, flush=True)
    whole = Cost(round(end - began, 1), round(total, 1), max(most, peak))
    printed = json.loads(answer[0]) if answer[0].startswith("{") else {}
    if "error" in printed or not printed:
        raise SystemExit(f"koda {command} ended with {process.returncode}: {answer[0][-400:]}{''.join(said)[-800:]}")
    return Run(command, n, whole, steps, code=process.returncode), printed


def sizes_on_disk(folder: Path) -> dict[str, int]:
    """Return the bytes of what lies in a folder, by the name of what they lie in."""
    return {
        place.name: sum(path.stat().st_size for path in [place, *place.rglob("*")] if path.is_file())
        for place in sorted(folder.iterdir())
    }


def compare(n: int, data: Path, work: Path) -> Run:
    """Measure `koda compare`."""
    out = work / "compared"
    result, printed = run("compare", n, ["compare", *(str(data / role) for role in ROLES), "--out", str(out)], work)
    result.disk = sizes_on_disk(out)
    first = printed["directions"][0] if printed["directions"] else None
    result.found = f"{len(printed['directions'])} directions" + (f", the first: {first['name']}" if first else "")
    return result


def audit(n: int, data: Path, work: Path) -> Run:
    """Measure `koda audit`."""
    config, home = work / "audit.yaml", work / "home"
    lines = [f'{role}: {{name: "embeddings:{data / role}"}}' for role in ROLES]
    config.write_text("\n".join([*lines, f"data: {{path: {data / 'baseline'}, format: embeddings}}", ""]))
    result, printed = run("audit", n, ["audit", str(config)], home)
    result.disk = sizes_on_disk(home / "artifacts") | {
        name: size for name, size in sizes_on_disk(home).items() if name in ("audits", "prefect", "koda.duckdb")
    }
    confirmed = [finding for finding in printed["findings"] if finding["confirmed"]]
    result.found = f"{printed['verdict']}; {len(confirmed)} confirmed" + (
        f", the first: {confirmed[0]['name']}" if confirmed else ""
    )
    return result


def report(results: dict[str, Any], out: Path) -> None:
    """Write results as JSON, as tables and as a plot."""
    out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    machine = results["about"]
    lines = [
        "# What an audit and a comparison cost as the data grow",
        "",
        f"{machine['date']}, {machine['device']}, torch {machine['torch']}, python {machine['python']}, koda "
        f"{machine['koda']}. Pairs of embeddings in 512 dimensions, float16; what is measured and how stands in "
        "growth.py.",
        "",
        "| command | n | seconds | CPU seconds | CPU / n, relative | peak memory | on disk | found |",
        "| --- | --: | --: | --: | --: | --: | --: | --- |",
    ]
    runs = results["runs"]
    base = {command: next((r for r in runs if r["command"] == command), None) for command in COMMANDS}
    for row in runs:
        first, whole = base[row["command"]], row["whole"]
        relative = whole["cpu"] / row["n"] / (first["whole"]["cpu"] / first["n"])
        lines.append(
            f"| {row['command']} | {row['n']} | {whole['seconds']:.0f} | {whole['cpu']:.0f} | {relative:.2f} | "
            f"{_size(whole['memory'])} | {_size(sum(row['disk'].values()))} | {row['found']} |"
        )
    for row in runs:
        lines += ["", f"## koda {row['command']}, {row['n']} pairs", ""]
        if row["steps"]:
            lines += ["| step | seconds | CPU seconds | peak memory |", "| --- | --: | --: | --: |"]
            lines += [
                f"| {name} | {cost['seconds']:.1f} | {'' if name == 'before' else format(cost['cpu'], '.1f')} | "
                f"{'' if name == 'before' else _size(cost['memory'])} |"
                for name, cost in row["steps"].items()
            ]
            lines.append("")
        lines.append("On disk: " + ", ".join(f"{name} {_size(size)}" for name, size in row["disk"].items()) + ".")
    if any(row["steps"] for row in runs):
        lines += ["", "CPU seconds and memory of the first step hold what came before it."]
    out.with_suffix(".md").write_text("\n".join(lines) + "\n")
    _plot(runs, out.with_suffix(".svg"))


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _plot(runs: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (time_of, memory_of) = plt.subplots(1, 2, figsize=(9, 3.6))
    for command, colour in zip(COMMANDS, ("#4477aa", "#ee6677"), strict=True):
        rows = [row for row in runs if row["command"] == command]
        n = [row["n"] for row in rows]
        time_of.plot(n, [row["whole"]["cpu"] for row in rows], "o-", color=colour, label=f"koda {command}")
        memory_of.plot(n, [row["whole"]["memory"] / 1e9 for row in rows], "o-", color=colour)
        if rows:
            slope = [rows[0]["whole"]["cpu"] * size / n[0] for size in n]
            time_of.plot(n, slope, ":", color=colour, linewidth=1, label="in proportion to n")
    for axes, words in ((time_of, "CPU seconds"), (memory_of, "peak memory, GB")):
        axes.set(xscale="log", yscale="log", xlabel="pairs", ylabel=words)
    time_of.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--only", choices=COMMANDS, help="one of the two commands")
    parser.add_argument("--home", type=Path, help="where data and homes are kept, for the next call; else nowhere")
    parser.add_argument("--out", type=Path, default=HERE / "growth")
    arguments = parser.parse_args()
    results: dict[str, Any] = {"about": about(), "runs": []}
    if (before := arguments.out.with_suffix(".json")).is_file():
        results["runs"] = json.loads(before.read_text())["runs"]
    with tempfile.TemporaryDirectory(prefix="koda-growth-") as passing:
        place = (arguments.home or Path(passing)).absolute()
        for n in arguments.sizes:
            data = place / f"pairs-{n}"
            if not (data / "done").is_file():
                write_folders(data, n)
                (data / "done").touch()
            for name in [arguments.only] if arguments.only else COMMANDS:
                with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=place) as work:
                    measured = asdict((compare if name == "compare" else audit)(n, data, Path(work)))
                print(json.dumps({key: measured[key] for key in ("command", "n", "whole", "found")}), flush=True)
                others = [row for row in results["runs"] if (row["command"], row["n"]) != (name, n)]
                results["runs"] = sorted([*others, measured], key=lambda row: (row["command"], row["n"]))
                report(results, arguments.out)


if __name__ == "__main__":
    main()
