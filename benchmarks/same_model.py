"""Does an audit of two models that are as good as the same confirm anything?

    python benchmarks/same_model.py
    python benchmarks/same_model.py --audits 5

Both questions, five directions each, half of the samples for the search and half for the test, all else at the
library's defaults. The baseline is the demonstration's, on subsamples of its scenes, or that of a world of
significance.py (a point near one of 30 topics, with noise), another one for each audit. The candidate is

- ``itself``: the same embeddings;
- ``rotation``: each modality turned by its own random rotation, so that exact kernels are equal up to rounding;
- ``bf16``: embeddings rounded to bfloat16;
- ``noise of 5 %``: each embedding moved by 5 % of its length in a random direction of its own.

Nothing is to be confirmed. Results are written to same_model.md and same_model.json beside this file.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import koda  # noqa: E402
from benchmarks.common import POOL_SEED, about, audit, demo_tables, in_words, split  # noqa: E402
from benchmarks.significance import World  # noqa: E402
from koda.config import SignificanceConfig  # noqa: E402
from koda.embeddings import EmbeddingTable  # noqa: E402
from koda.typing import FloatArray  # noqa: E402

SEARCH = koda.DiscrepancyConfig(n_directions=5, device="cpu")
JUDGED = SignificanceConfig()
Change = Callable[[FloatArray, np.random.Generator], FloatArray]


def itself(x: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return the same embeddings."""
    return x


def turned(x: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return the embeddings turned by a random orthogonal matrix."""
    d = x.shape[1]
    return x.astype(np.float64) @ np.linalg.qr(rng.standard_normal((d, d)))[0]


def rounded(x: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return the embeddings rounded to bfloat16."""
    return torch.from_numpy(np.ascontiguousarray(x)).to(torch.bfloat16).float().numpy()


def noisy(x: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return the embeddings, each moved by 5 % of its length."""
    step = rng.standard_normal(x.shape)
    step /= np.linalg.norm(step, axis=1, keepdims=True)
    return x + 0.05 * np.linalg.norm(x, axis=1, keepdims=True) * step


CHANGES: dict[str, Change] = {"itself": itself, "rotation": turned, "bf16": rounded, "noise of 5 %": noisy}


def changed(table: EmbeddingTable, change: Change, rng: np.random.Generator) -> EmbeddingTable:
    """Return the table with a change made to each modality."""
    return EmbeddingTable(table.keys, **{name: change(getattr(table, name), rng) for name in table.modalities})


def sample(data: str, n: int, seed: int, pool: EmbeddingTable) -> EmbeddingTable:
    """Return n samples under the baseline."""
    if data == "worlds":
        return World("noise", 20_000 + seed).draw(n)[0][0]
    rows = np.random.default_rng([POOL_SEED, seed]).choice(pool.n, size=n, replace=False)
    return pool.take(np.sort(rows)).only(("image", "text"))


def run(baseline: EmbeddingTable, change: Change, seed: int) -> dict[str, Any]:
    """Return what one audit says."""
    rng = np.random.default_rng([seed, 3])
    began = time.perf_counter()
    tables = (baseline, changed(baseline, change, rng))
    done = audit(tables, *split(baseline.keys, rng), SEARCH, JUDGED)
    held = [one for side in done.tested for one in side]
    differences = [one.difference.value for one in held]
    return {
        "directions": len(held),
        "confirmed": done.confirms(JUDGED.alpha),
        "largest_difference": max(differences, default=0.0),
        "smallest_p": min((one.p_value for one in held if one.p_value is not None), default=1.0),
        "goes_on": any(side and side[-1].difference.value > JUDGED.materiality for side in done.tested),
        "seconds": time.perf_counter() - began,
    }


def table(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = [
        "# Audits of a model beside its own copy",
        "",
        in_words(results["about"], results["seconds"]),
        "",
        f"Audits of both questions, {SEARCH.n_directions} directions each, over n samples, half of them for the search "
        f"and half for the test; limit and materiality {JUDGED.materiality:g} in typical ties, alpha {JUDGED.alpha:g}, "
        "p-values adjusted over both questions as in an audit whose search may go on. What the copies are stands in "
        "same_model.py. Right is: nothing confirmed. *Directions*: of both questions, mean over the audits; exact "
        "kernels that are equal leave none. *Largest difference*: held out, in ties, of an audit's directions, median "
        "and most. *Goes on*: audits whose last direction is material, so that koda would search on.",
        "",
        "| data | candidate | n | audits | confirm anything | directions | largest difference | least p | goes on |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in results["rows"]:
        runs = row["audits"]
        d = [one["largest_difference"] for one in runs]
        wrong = sum(one["confirmed"] > 0 for one in runs)
        lines.append(
            f"| {row['data']} | {row['candidate']} | {row['n']} | {len(runs)} | {wrong} "
            f"| {np.mean([one['directions'] for one in runs]):.1f} | {np.median(d):.2g}, {max(d):.2g} "
            f"| {min(one['smallest_p'] for one in runs):.2g} | {sum(one['goes_on'] for one in runs)} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--audits", type=int, default=20, help="of each pair")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of same_model.md and same_model.json")
    chosen = parser.parse_args()
    began = time.perf_counter()
    pool, _ = demo_tables()
    results: dict[str, Any] = {"about": about(), "rows": []}
    for data in ("demo", "worlds"):
        for name, change in CHANGES.items():
            row: dict[str, Any] = {"data": data, "candidate": name, "n": chosen.samples, "audits": []}
            results["rows"].append(row)
            for seed in range(chosen.audits):
                row["audits"].append(run(sample(data, chosen.samples, seed, pool), change, seed))
                print(f"{data}, {name}, {seed}: {row['audits'][-1]}", file=sys.stderr, flush=True)
            results["seconds"] = round(time.perf_counter() - began)
            (chosen.output / "same_model.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            (chosen.output / "same_model.md").write_text(table(results), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
