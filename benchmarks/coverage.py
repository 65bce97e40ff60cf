"""Do the stated 95 % intervals of the held-out shares hold the truth?

    python benchmarks/coverage.py
    python benchmarks/coverage.py --audits 20 --data demo

Audits of both questions, two directions each, on seeded subsamples of a large data set, half of each for the search
and half for the test. The truth of a direction is the share of the same values (the direction extended to new samples
by its own eigen-equation), under the same kernels, in units of the same typical ties, on thousands of pairs of the data
set that are not in the subsample: as many as make 8192 with it, whose kernel matrices can be kept. Data sets of 16 000:

- ``demo``: the demonstration's scenes under its baseline and its candidate, which differ in one colour;
- ``world``: one world of significance.py with noise in both models and a group of 1 % that the baseline alone has: of
  an audit of 1200 pairs 6 are of the group and held out, of one of 4000 pairs 20.

The truth is itself taken on finitely many samples, so an exact interval would hold it in a little under 95 %. Right is
92 to 98 %. What matters to a verdict is the low end of a difference: it is to be over the truth in 2.5 % at the most.

An interval rests on the samples that carry the direction, (sum f^2)^2 / sum f^4 of those held out; a second table shows
the coverage by their number.

Results are written to coverage.md and coverage.json beside this file.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import koda  # noqa: E402
from benchmarks.common import POOL, POOL_SEED, Tables, about, audit, demo_tables, in_words, split  # noqa: E402
from benchmarks.significance import World  # noqa: E402
from koda.config import SignificanceConfig  # noqa: E402
from koda.discrepancy.blocks import KEPT_SAMPLES  # noqa: E402
from koda.discrepancy.extension import extended  # noqa: E402
from koda.discrepancy.significance import held_out_shares  # noqa: E402
from koda.statistics import normal_quantile  # noqa: E402
from koda.typing import SIDES  # noqa: E402

DATA = {"demo, 1200": ("demo", 1200), "world, 1200": ("world", 1200), "world, 4000": ("world", 4000)}
SEARCH = koda.DiscrepancyConfig(n_directions=2, device="cpu", tolerance=1e-4)
JUDGED = SignificanceConfig()
FIGURES = ("target_share", "reference_share", "difference")
BINS = ((0, 15), (15, 30), (30, 60), (60, 120), (120, math.inf))  # samples that carry a direction
Z = normal_quantile(0.95)
Row = Mapping[str, Any]


def pool_of(data: str) -> Tables:
    """Return the whole data set under both models."""
    if data == "demo":
        baseline, candidate = demo_tables()
        both = ("image", "text")
        return baseline.only(both), candidate.only(both)
    return World("planted", 30_000).draw(POOL)[0]


def run(pool: Tables, n: int, seed: int) -> list[Row]:
    """Return of each direction of one audit its figures, as (stated, its error, its interval, the truth, its error)."""
    rng = np.random.default_rng([POOL_SEED, seed])
    order = rng.permutation(len(pool[0].keys))
    drawn, others = (tuple(pool[0].keys[row] for row in part) for part in (order[:n], order[n:KEPT_SAMPLES]))
    tables = (pool[0].select([*drawn, *others]), pool[1].select([*drawn, *others]))
    discovery, confirmation = split(drawn, rng)
    done = audit(tables, discovery, confirmation, SEARCH, JUDGED)
    rows: list[Row] = []
    for side, solution, kernels, tested, adjusted in zip(
        SIDES, done.solutions, done.kernels, done.tested, done.p_values, strict=True
    ):
        f = np.square(extended(solution, kernels, confirmation))  # (k, m)
        carriers = np.square(f.sum(axis=1)) / np.square(f).sum(axis=1)  # (k,)
        truths = held_out_shares(extended(solution, kernels, others).T, others, kernels, JUDGED.materiality)
        for held, truth, p, number in zip(tested, truths, adjusted, carriers, strict=True):
            figures = {}
            for name in FIGURES:
                stated, true = getattr(held, name), getattr(truth, name)
                figures[name] = [
                    float(f"{v:.5g}") for v in (stated.value, stated.se, stated.low, stated.high, true.value, true.se)
                ]
            rows.append(
                {
                    "side": side,
                    "direction": held.direction,
                    "confirmed": p is not None and p < JUDGED.alpha,
                    "carriers": round(float(number), 1),
                    **figures,
                }
            )
    return rows


def covered(rows: Sequence[Row], figure: str) -> dict[str, float]:
    """Return how often the intervals of a figure hold the truth, and how far the estimates spread."""
    value, se, low, high, truth, own = np.array([row[figure] for row in rows]).T
    error = value - truth
    return {
        "coverage": float(np.mean((low <= truth) & (truth <= high))),
        "normal": float(np.mean(np.abs(error) <= Z * se)),  # of intervals of 1.96 standard errors to either side
        "over": float(np.mean(low > truth)),
        "bias": float(error.mean()),
        "spread": math.sqrt(max(0.0, float(np.var(error, ddof=1)) - float(np.mean(np.square(own))))),
        "se": float(se.mean()),
        "truth": float(truth.mean()),
    }


def groups_of(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the directions of all audits by what they are."""
    groups = {
        f"{side} {number}": [row for row in rows if (row["side"], row["direction"]) == (side, number)]
        for side in SIDES
        for number in range(1, SEARCH.n_directions + 1)
    }
    groups["confirmed"] = [row for row in rows if row["confirmed"]]
    groups["not confirmed"] = [row for row in rows if not row["confirmed"]]
    groups["all"] = list(rows)
    return {name: group for name, group in groups.items() if len(group) > 1}


def table(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    by_data = {data: [row for rows in audits for row in rows] for data, audits in results["audits"].items()}
    lines = [
        "# Coverage of the stated intervals",
        "",
        in_words(results["about"], results["seconds"]),
        "",
        f"Audits of both questions, {SEARCH.n_directions} directions each, on subsamples of {POOL} pairs, half for the "
        "search and half for the test; the truth is that of the same direction on thousands of pairs that are not in "
        "the audit. How stands in coverage.py. Shares are in units of the typical tie. The cells: how many of the "
        "stated 95 % intervals hold the truth, and (standard deviation over the audits of estimate less truth, without "
        "that of the truth; mean stated standard error). Right is 92 to 98 %. Stated intervals reach farther on the "
        "side to which the influences are skewed; *normal*: the coverage of the difference by intervals of 1.96 "
        "standard errors to either side. *Low end over*: intervals of the "
        "difference that lie wholly above the truth, which alone could make a test confirm what is not there; right "
        "is at most 2.5 %.",
        "",
        "| data, pairs | directions | number | true difference | target share | reference share | difference "
        "| normal | low end over |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for data, rows in by_data.items():
        for name, group in groups_of(rows).items():
            each = {figure: covered(group, figure) for figure in FIGURES}
            cells = [f"{c['coverage']:.1%} ({c['spread']:.4f}; {c['se']:.4f})" for c in each.values()]
            d = each["difference"]
            lines.append(
                f"| {data} | {name} | {len(group)} | {d['truth']:.4f} | {' | '.join(cells)} "
                f"| {d['normal']:.1%} | {d['over']:.1%} |"
            )
    lines += [
        "",
        "The difference, by how many held-out samples carry the direction, (sum f^2)^2 / sum f^4; in all data sets:",
        "",
        "| carried by | number | coverage | normal | low end over | spread | stated |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for low, high in BINS:
        group = [row for rows in by_data.values() for row in rows if low <= row["carriers"] < high]
        if len(group) > 1:
            c = covered(group, "difference")
            words = f"{low} to {high}" if high < math.inf else f"{low} and more"
            lines.append(
                f"| {words} | {len(group)} | {c['coverage']:.1%} | {c['normal']:.1%} | {c['over']:.1%} "
                f"| {c['spread']:.4f} | {c['se']:.4f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=100, help="of each data set and size")
    parser.add_argument("--data", nargs="+", choices=list(DATA), default=list(DATA))
    parser.add_argument("--output", type=Path, default=HERE, help="folder of coverage.md and coverage.json")
    chosen = parser.parse_args()
    began = time.perf_counter()
    results: dict[str, Any] = {"about": about(), "audits": {}}
    for name in chosen.data:
        data, n = DATA[name]
        pool = pool_of(data)
        audits = results["audits"][name] = []
        for seed in range(chosen.audits):
            audits.append(run(pool, n, seed))
            results["seconds"] = round(time.perf_counter() - began)
            print(f"{name} {seed}: {results['seconds']} s", file=sys.stderr, flush=True)
            if seed % 10 == 9 or seed == chosen.audits - 1:
                (chosen.output / "coverage.json").write_text(json.dumps(results) + "\n", encoding="utf-8")
                (chosen.output / "coverage.md").write_text(table(results), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
