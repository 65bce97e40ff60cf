"""Planted groups: does a search find what only the target ties together, and nothing else?

    python benchmarks/planted.py
    python benchmarks/planted.py --samples 2000 4000 --seeds 5 --methods default spec

Two models see the same n samples, images and texts, in 64 dimensions each. A sample is a point near one of 30 topics
that both models share; each model adds its own noise, turns the space by its own rotation, and normalises. On top of
that stand groups, disjoint and at random places:

- five **target-only** groups of 4, 3, 2, 1.5 and 1 % of the samples: around a centre of their own under the target,
  spread over the topics as all others under the reference. These are to be found.
- **shared** groups, around centres of their own under both models. A decoy: the two models differ by degree only.
- **reference-only** groups, around a centre under the reference alone. A decoy as well.

How tight a group is, relative to the spread of all samples, is 0.25 for those that one model has; for the shared
ones it is drawn. The settings:

- ``alike``: decoys of the sizes of the planted groups; each model's spread of a shared group is drawn on its own from
  [0.25, 0.5], so that either model may be the tighter one.
- ``sharper``: seven shared groups of 4 to 10 %; the reference's spread is from [0.3, 0.6], the target's is 0.4 to 1
  times that: the target knows what the reference knows, only more sharply. Of the largest group both have the same.
- ``sharper, one bandwidth``: the same with sigma = 0.5 for both models, as is usual for differences of kernels, so
  that no choice of bandwidths takes the difference of degree away.

Each direction is read through ``koda.slices``. The purity of a lobe is the largest share of one target-only group in
it; that of a direction is its purer lobe's. A planted group counts as found where a lobe is at least 80 % of it.

The three settings were kept after a look at some twelve variants of sizes, spreads and noise, with one to four seeds
each and n from 1000 to 2000. In none of them did SPEC miss most groups in ten directions; what it loses is their rank,
and their purity. Results are written to planted.md and planted.json beside this file.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import koda  # noqa: E402
from benchmarks.common import about, in_words  # noqa: E402
from koda.devices import device_of  # noqa: E402

PLANTED = (0.04, 0.03, 0.02, 0.015, 0.01)
TIGHT = 0.25  # spread of a group that one model alone has
FOUND = 0.8  # purity from which a lobe counts as the group
FIXED = 20  # samples of a lobe at a fixed size
METHODS: dict[str, dict[str, Any]] = {
    "default": {},
    "quantile": {"eps_quantile": 0.5},
    "spec": {"method": "spec"},
}
NAMES = {
    "default": f"KODA, share {koda.DiscrepancyConfig().max_reference_share:g}",
    "quantile": "KODA, q = 0.5",
    "spec": "SPEC",
}


@dataclass(frozen=True)
class Setting:
    """Sizes and spreads of the decoys.

    Args:
        shared, reference_only: sizes, as shares of the samples.
        spread: range of the reference's spread of a shared group.
        factor: range of the target's, in units of the reference's; None for a draw of its own from ``spread``.
        noise: of each model.
        sigma: bandwidth of the search.
    """

    shared: tuple[float, ...]
    reference_only: tuple[float, ...]
    spread: tuple[float, float]
    factor: tuple[float, float] | None
    noise: float = 0.15
    sigma: float | str = "auto"


_SHARPER = ((0.1, 0.08, 0.08, 0.06, 0.06, 0.04, 0.04), (0.06, 0.04, 0.02), (0.3, 0.6), (0.4, 1.0))
SETTINGS = {
    "alike": Setting(PLANTED, PLANTED, (0.25, 0.5), None),
    "sharper": Setting(*_SHARPER),
    "sharper, one bandwidth": Setting(*_SHARPER, sigma=0.5),
}


@dataclass(frozen=True)
class Planted:
    """Two models, and the rows of the groups that the target alone has, largest first."""

    target: koda.EmbeddingTable
    reference: koda.EmbeddingTable
    groups: tuple[np.ndarray, ...]


def plant(n: int, setting: Setting, seed: int, *, d: int = 64, topics: int = 30) -> Planted:
    """Draw the two models; see the top of this file."""
    rng = np.random.default_rng(seed)
    places = iter(rng.permutation(n))
    groups = [
        (kind, np.array([next(places) for _ in range(round(size * n))]))
        for kind, sizes in (("target", PLANTED), ("shared", setting.shared), ("reference", setting.reference_only))
        for size in sizes
    ]
    spreads: list[dict[str, float]] = []
    for kind, _ in groups:
        reference = rng.uniform(*setting.spread)
        target = rng.uniform(*setting.spread) if setting.factor is None else reference * rng.uniform(*setting.factor)
        if kind != "shared":
            reference = target = TIGHT
        elif setting.factor is not None and all(k != "shared" for k, _ in groups[: len(spreads)]):
            target = reference  # the largest
        spreads.append({"target": target, "reference": reference})
    topic = rng.integers(0, topics, n)
    parts: dict[str, dict[str, np.ndarray]] = {"target": {}, "reference": {}}
    for modality in ("image", "text"):
        # unit variance: 0.36 between the topics, 0.64 within
        broad = 0.6 * rng.normal(size=(topics, d))[topic] + 0.8 * rng.normal(size=(n, d))  # (n, d)
        centres = rng.normal(size=(len(groups), d))
        for role, tables in parts.items():
            x = broad.copy()
            for (kind, rows), spread, centre in zip(groups, spreads, centres, strict=True):
                if kind in (role, "shared"):
                    x[rows] = centre + spread[role] * rng.normal(size=(len(rows), d))
            x += setting.noise * rng.normal(size=(n, d))
            x = x @ np.linalg.qr(rng.normal(size=(d, d)))[0]
            tables[modality] = x / np.linalg.norm(x, axis=1, keepdims=True)
    keys = [f"{i:06d}" for i in range(n)]
    tables = [koda.EmbeddingTable(keys, **parts[role]) for role in ("target", "reference")]
    return Planted(tables[0], tables[1], tuple(rows for kind, rows in groups if kind == "target"))


@dataclass(frozen=True)
class Score:
    """How one search did.

    Args:
        found: planted groups that some lobe of the ten directions is, of 5.
        found_first: the same for the first five directions.
        purity: mean over the first five directions of the purer lobe's, at the size that the slice has.
        purity_fixed: the same for the first 20 samples of a lobe.
        eps: the limit in units of 1 / n; under 1 it asks for a negative share.
        gap: the largest that was proved.
    """

    found: int
    found_first: int
    purity: float
    purity_fixed: float
    eps: float
    gap: float


def score(planted: Planted, config: koda.DiscrepancyConfig, *, first: int = 5) -> Score:
    """Search, read the slices, and compare them with what was planted."""
    solution = koda.find_discrepancies(planted.target, planted.reference, config)
    member = {planted.target.keys[row]: g for g, rows in enumerate(planted.groups) for row in rows}

    def purity(keys: Sequence[str]) -> tuple[float, int]:
        counts = np.bincount([member[key] for key in keys if key in member], minlength=len(planted.groups))
        return (float(counts.max()) / len(keys), int(counts.argmax())) if len(keys) else (0.0, -1)

    found: set[int] = set()
    found_first: set[int] = set()
    by_size, fixed = [], []
    for number, s in enumerate(koda.slices(solution, planted.target, planted.reference)):
        lobes = [purity(lobe.members) for lobe in (s.positive, s.negative)]
        groups = {group for share, group in lobes if share >= FOUND}
        found |= groups
        if number < first:
            found_first |= groups
            by_size.append(max(lobes)[0])
            fixed.append(max(purity(lobe.keys[:FIXED])[0] for lobe in (s.positive, s.negative)))
    missing = [0.0] * (first - len(by_size))  # a direction that was not found is not pure
    return Score(
        len(found),
        len(found_first),
        float(np.mean(by_size + missing)),
        float(np.mean(fixed + missing)),
        solution.eps * len(solution.keys),
        max((d.gap for d in solution.directions), default=0.0),
    )


def summary(runs: Sequence[Score]) -> dict[str, float]:
    """Return the means over the seeds, and the least number found."""
    means = {name: float(np.mean([getattr(r, name) for r in runs])) for name in Score.__dataclass_fields__}
    return {**means, "found_least": min(r.found for r in runs), "purity_least": min(r.purity for r in runs)}


def table(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = [
        "# Planted groups",
        "",
        f"{in_words(results['about'], results['seconds'])} "
        f"Seeds 0 to {results['seeds'] - 1}, 10 directions, proved to {results['tolerance']:g}.",
        "",
        "Five groups of 1 to 4 % of the samples that the target alone ties together, among groups that both models or "
        "the reference alone have; how they are made stands in planted.py. *Found*: groups of which a lobe of the ten "
        "directions is made to 80 % or more, mean and least over the seeds; *among 5*: within the first five "
        "directions. *Purity*: mean over the first five directions of the purer lobe's, at the size of the slice, "
        f"mean and least, and of its first {FIXED} samples. *n eps*: the limit on the reference energy; under 1 it "
        "asks for a negative share, which the default limit, a share in units of the typical tie, never does.",
        "",
        "| n | setting | method | found of 5 | among 5 | purity | top 20 | n eps |",
        "| ---: | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for run in results["runs"]:
        s = run["summary"]
        limit = "" if run["method"] == "spec" else f"{s['eps']:.2f}"
        lines.append(
            f"| {run['n']} | {run['setting']} | {NAMES[run['method']]} | {s['found']:.1f} ({s['found_least']}) "
            f"| {s['found_first']:.1f} | {s['purity']:.2f} ({s['purity_least']:.2f}) | {s['purity_fixed']:.2f} "
            f"| {limit} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[2000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--tolerance", type=float, default=1e-3, help="relative gap to prove")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of planted.md and planted.json")
    chosen = parser.parse_args()
    device = device_of(chosen.device)
    began = time.perf_counter()
    results: dict[str, Any] = {
        "about": about() | ({"device": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}),
        "seeds": chosen.seeds,
        "tolerance": chosen.tolerance,
        "settings": {name: asdict(SETTINGS[name]) for name in chosen.settings},
        "runs": [],
    }
    for n in chosen.samples:
        for name in chosen.settings:
            runs: dict[str, list[Score]] = {method: [] for method in chosen.methods}
            for seed in range(chosen.seeds):
                planted = plant(n, SETTINGS[name], seed)
                for method in chosen.methods:
                    config = koda.DiscrepancyConfig(
                        n_directions=10,
                        tolerance=chosen.tolerance,
                        device=chosen.device,
                        sigma=SETTINGS[name].sigma,
                        **METHODS[method],
                    )
                    runs[method].append(score(planted, config))
                    print(f"n {n}, {name}, seed {seed}, {method}: {runs[method][-1]}", file=sys.stderr, flush=True)
            results["runs"] += [
                {
                    "n": n,
                    "setting": name,
                    "method": method,
                    "summary": summary(scores),
                    "seeds": list(map(asdict, scores)),
                }
                for method, scores in runs.items()
            ]
            results["seconds"] = round(time.perf_counter() - began)
            # written as it goes: a run that is cut short leaves what it has
            (chosen.output / "planted.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            (chosen.output / "planted.md").write_text(table(results), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
