"""How small a lost group would an audit have found and confirmed? Spike-ins by share and size of the data.

    python benchmarks/spike_in.py
    python benchmarks/spike_in.py --samples 1000 4000 --trials 3

A real audit of a pair of models is searched and tested first, both questions at the library's defaults, since the
directions of a trial are tested beside its others. Then, in each trial of ``koda.audit.spike_in``, a random sample and
its nearest m = share x n samples under the baseline become a group that the candidate does not tie together, and search
and test are made again. A trial counts where a confirmed direction has a lobe of which at least half is the group.

- ``demo``: the demonstration's scenes under its baseline and its candidate, which differ by more than the group;
- ``world``: significance.py's world of two models that differ by independent noise alone, both modalities.

Trials use at most 2048 samples for the search and 2048 for the test, so 16 000 samples show what 4000 do, by design.
Results are written to spike_in.md and spike_in.json beside this file.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import koda  # noqa: E402
from benchmarks.common import Tables, about, audit, demo_tables, in_words, split  # noqa: E402
from benchmarks.significance import World  # noqa: E402
from koda.audit.spike_in import DIRECTIONS, MAX_SAMPLES, spike_ins  # noqa: E402
from koda.config import SignificanceConfig  # noqa: E402
from koda.records.controls import SPIKE_IN_SHARES  # noqa: E402

SEARCH = koda.DiscrepancyConfig(device="cpu", tolerance=1e-3)  # tighter proofs change no share
JUDGED = SignificanceConfig()


def samples_of(data: str, n: int) -> Tables:
    """Return n samples under the baseline and the candidate."""
    if data == "world":
        return World("joint", 40_000).draw(n)[0]
    both = ("image", "text")
    rows = np.arange(n)
    baseline, candidate = (table.only(both).take(rows) for table in demo_tables())
    return baseline, candidate


def run(data: str, n: int, trials: int) -> dict[str, Any]:
    """Audit the pair, and put groups into it."""
    began = time.perf_counter()
    tables = samples_of(data, n)
    discovery, confirmation = split(tables[0].keys, np.random.default_rng(SEARCH.seed))
    done = audit(tables, discovery, confirmation, SEARCH, JUDGED)
    audited = time.perf_counter() - began
    lost, gained = ([held.p_value for held in side] for side in done.tested)
    others = (lost[DIRECTIONS:], gained)
    ready = spike_ins(*tables, discovery, confirmation, done.solutions[0], SEARCH, JUDGED, others)
    shares = {}
    for share in SPIKE_IN_SHARES:
        made = [ready.trial(share, number) for number in range(trials)]
        shares[f"{share:g}"] = {
            "size": made[0].size,
            "detected": sum(trial.detected for trial in made),
            "differences": [trial.difference for trial in made],
        }
    return {
        "data": data,
        "n": n,
        "trials": trials,
        "others": len(others[0]) + len(others[1]),
        "confirmed": done.confirms(JUDGED.alpha),
        "shares": shares,
        "seconds_audit": audited,
        "seconds_trial": (time.perf_counter() - began - audited) / (trials * len(SPIKE_IN_SHARES)),
    }


def table(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    heads = " | ".join(f"{share:.1%}" for share in SPIKE_IN_SHARES)
    lines = [
        "# Lost groups that an audit would have found",
        "",
        in_words(results["about"], results["seconds"]),
        "",
        "Groups of a share of the samples that the candidate is made to lose, each found and confirmed among the first "
        f"{DIRECTIONS} directions or not, at the library's defaults (limit and materiality {JUDGED.materiality:g} in "
        "typical ties); how stands in spike_in.py. In brackets: the group's samples in the trial, and the median "
        "held-out difference of the direction that found it, in ties. *Others*: directions of the audit itself that a "
        "trial's are tested beside; *confirmed*: how many directions that audit confirms.",
        "",
        f"Trials use at most {MAX_SAMPLES} samples for the search and as many for the test, so 16 000 samples show "
        "what 4000 do, by design; only what is drawn, and the p-values of the others, change.",
        "",
        f"| data | n | {heads} | others | confirmed | audit | a trial |",
        f"| --- | ---: |{' --- |' * len(SPIKE_IN_SHARES)} ---: | ---: | ---: | ---: |",
    ]
    for row in results["rows"]:
        cells = []
        for each in row["shares"].values():
            found = [d for d in each["differences"] if d is not None]
            middle = f", {np.median(found):.3f}" if found else ""
            cells.append(f"{each['detected']} of {row['trials']} ({each['size']}{middle})")
        lines.append(
            f"| {row['data']} | {row['n']} | {' | '.join(cells)} | {row['others']} | {row['confirmed']} "
            f"| {row['seconds_audit']:.0f} s | {row['seconds_trial']:.1f} s |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[1000, 4000, 16_000])
    parser.add_argument("--trials", type=int, default=5, help="at each share")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of spike_in.md and spike_in.json")
    chosen = parser.parse_args()
    began = time.perf_counter()
    results: dict[str, Any] = {"about": about(), "rows": []}
    for n in chosen.samples:
        for data in ("demo", "world"):
            results["rows"].append(run(data, n, chosen.trials))
            results["seconds"] = round(time.perf_counter() - began)
            print(f"{results['rows'][-1]}", file=sys.stderr, flush=True)
            (chosen.output / "spike_in.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            (chosen.output / "spike_in.md").write_text(table(results), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
