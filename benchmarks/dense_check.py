"""The engine against dense float64: ten directions of 8192 samples with r = 1000 Fourier features.

    python benchmarks/dense_check.py [--samples 8192] [--features 1000]

for orthogonal frequencies at the default limit, for independent ones at the paper's q = 0.5, and for a sketch of the
cosine kernel.

The dense side works in orthonormal coordinates of the range of the features (an eigendecomposition of G) and solves
each direction by full eigendecompositions, deflating its own directions before; it shares the small-problem root finder
with the engine and nothing else. Reported for each direction: the relative difference of the objective; and the
largest principal angle between the two ten-dimensional subspaces. Results go to dense_check.json and .md.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.data import pair  # noqa: E402
from koda import DiscrepancyConfig  # noqa: E402
from koda.discrepancy.problem import Problem  # noqa: E402
from koda.discrepancy.solver.direction import constrained_optimum  # noqa: E402
from koda.discrepancy.solver.numerics import complement  # noqa: E402


def check(n: int, r: int, kind: str, quantile: float | None, directions: int) -> dict[str, Any]:
    """Solve by the engine and densely; return what differs."""
    config = DiscrepancyConfig(
        kernel="cosine" if kind == "sketch" else "gaussian", features=kind, n_features=r, n_directions=directions,
        device="cpu", eps_quantile=quantile,
    )  # fmt: skip
    problem = Problem.of(*pair(n), config)
    began = time.perf_counter()
    solution = problem.solve(config)
    seconds = time.perf_counter() - began
    blocks = problem.covariance
    values, vectors = torch.linalg.eigh(blocks.g)
    keep = values > 1e-12 * values[-1]
    half = vectors[:, keep] * values[keep].sqrt()  # (D, m); x = Phi V L^-1/2 y / sqrt(n)
    a, b = (part.T @ part for part in (half[: blocks.split], half[blocks.split :]))
    dense_x, energies, evaluations = [], [], 0
    basis = torch.eye(len(a), dtype=torch.float64)
    began = time.perf_counter()
    for d in solution.directions:
        start = d.multiplier if d.multiplier > 1e-6 else None
        one = constrained_optimum((a + a.T) / 2, (b + b.T) / 2, solution.eps, start=start, accuracy=1e-7)
        evaluations += one.evaluations
        energies.append(one.target)
        dense_x.append(basis @ one.y)
        rest = complement(one.y)
        basis, a, b = basis @ rest, rest.T @ a @ rest, rest.T @ b @ rest
        print(f"{kind} {len(energies)}: {d.target_energy / one.target - 1:+.1e}", flush=True)
    dense_seconds = time.perf_counter() - began
    # coordinates of our directions in the dense basis: y = L^-1/2 V'Phi'x / sqrt(n)
    features = problem.forms.features
    inner = torch.zeros(len(values), len(energies), dtype=torch.float64)
    x = torch.from_numpy(np.stack([d.x for d in solution.directions], 1))
    for rows, phi in features.chunks():
        inner += phi.double().T @ x[rows]
    y = (vectors[:, keep] / values[keep].sqrt()).T @ (inner / features.scales[:, None]) / n**0.5
    cosines = torch.linalg.svdvals(torch.linalg.qr(y).Q.T @ torch.stack(dense_x, 1)).clamp(max=1)
    return {
        "kind": kind, "limit": f"q = {quantile:g}" if quantile else "share 0.003", "n": n, "r": r, "eps": solution.eps,
        "objective": [d.target_energy / e - 1 for d, e in zip(solution.directions, energies, strict=True)],
        "gaps": [d.gap for d in solution.directions],
        "excess": max(d.reference_energy - solution.eps for d in solution.directions),
        "largest_angle": float(torch.arcsin((1 - cosines[-1] ** 2).clamp(min=0).sqrt())),
        "seconds": seconds, "dense_seconds": dense_seconds, "eigendecompositions": evaluations,
    }  # fmt: skip


def main() -> None:
    """Check each kind and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=8192)
    parser.add_argument("--features", type=int, default=1000)
    parser.add_argument("--directions", type=int, default=10)
    parser.add_argument("--out", type=Path, default=HERE / "dense_check")
    arguments = parser.parse_args()
    checks: list[dict[str, Any]] = []
    for kind, quantile in (("orf", None), ("rff", 0.5), ("sketch", None)):
        checks.append(check(arguments.samples, arguments.features, kind, quantile, arguments.directions))
        write(checks, arguments.out)
    print(arguments.out.with_suffix(".md").read_text())


def write(checks: list[dict[str, Any]], out: Path) -> None:
    """Write the figures as JSON and Markdown."""
    about = {"torch": torch.__version__, "python": platform.python_version(), "date": time.strftime("%Y-%m-%d")}
    out.with_suffix(".json").write_text(json.dumps(about | {"checks": checks}, indent=1) + "\n")
    lines = [
        "# The engine against dense float64", "",
        f"torch {about['torch']}, Python {about['python']}, {about['date']}. Differences are relative to the dense "
        "objective, which itself is known to 1e-7.", "",
        "| features | limit | n | r | directions | largest difference of an objective | largest proved gap "
        "| x'Bx - eps | largest angle | engine | dense |",
        "| -- | -- | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]  # fmt: skip
    for f in checks:
        lines.append(
            f"| {f['kind']} | {f['limit']} | {f['n']} | {f['r']} | {len(f['objective'])} "
            f"| {max(map(abs, f['objective'])):.1e} | {max(f['gaps']):.1e} | {f['excess']:.1e} "
            f"| {f['largest_angle']:.1e} rad "
            f"| {f['seconds']:.1f} s | {f['dense_seconds']:.0f} s, {f['eigendecompositions']} eigendecompositions |"
        )
    out.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
