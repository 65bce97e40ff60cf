"""Time and memory of the discrepancy engine, each figure beside its yardstick, measured in the same run.

    python benchmarks/engine.py
    python benchmarks/engine.py --sizes 16384 --features 1000 --device cuda

"features to 10 directions" is: random features, covariance, search with proofs, read-out with the final checks. With no
more samples than coordinates it is what koda does there: exact kernels, search, read-out; their matrices stand in the
column of the features. Beside each stage stands the least time that the measured peaks of the machine allow
(benchmarks/roofline.py). The yardsticks are the bare products of the same size, a clean-room core of SPEC (float
features given; covariance, Cholesky, eigendecomposition; paper arXiv 2505.11162 in our own words), and Algorithm 1 of
the KODA paper with a full eigendecomposition for every lambda. Results are written to engine.json, engine.md and
engine.svg beside this file.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.data import pair  # noqa: E402
from benchmarks.roofline import Peaks, bounds, exact_work, feature_work  # noqa: E402
from koda import DiscrepancyConfig, EmbeddingTable  # noqa: E402
from koda.devices import device_of, has_int8_products  # noqa: E402
from koda.discrepancy.checks import checked_directions  # noqa: E402
from koda.discrepancy.forms import FeatureForms, exact_forms  # noqa: E402
from koda.discrepancy.limits import ShareLimit  # noqa: E402
from koda.discrepancy.solver.state import SolverRequest  # noqa: E402
from koda.discrepancy.solver.subspace import solve_subspace  # noqa: E402
from koda.kernels import choose_kernels  # noqa: E402
from koda.kernels.covariance import StackedFeatures, accumulate  # noqa: E402
from koda.kernels.features import draw_pair  # noqa: E402

DIRECTIONS = 10
STAGES = ("features", "covariance", "search", "read")
AIMS = {  # (n, r) -> (yardstick, at most so many times it); "seconds" is itself
    (4096, 500): ("seconds", 1.0), (4096, 1000): ("seconds", 2.5), (4096, 3000): ("seconds", 12.0),
    (16_384, 500): ("fp32", 2.5), (16_384, 1000): ("fp32", 1.2), (16_384, 3000): ("fp32", 1.2),
    (65_536, 1000): ("int8", 2.5),
}  # fmt: skip
EVALUATIONS = 20  # of lambda for a direction of Algorithm 1: bisection to a millionth


def timed(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Return (seconds, result), the device's queue included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began, result


def engine(n: int, r: int, device: torch.device, repeats: int) -> dict[str, Any]:
    """Time the stages from embeddings in memory to checked directions; the best total of the repeats."""
    target, reference = pair(n)
    exact = n <= 4 * r
    config = DiscrepancyConfig(features="orf", n_features=r, device=str(device), n_directions=DIRECTIONS)
    kernels = choose_kernels(target, reference, config)
    limit = ShareLimit(config.max_reference_share).energy(n, kernels.ties["reference"])
    request = SolverRequest(limit, DIRECTIONS, stop_without_gain=True)
    maps = draw_pair(kernels, target, reference, r, seed=0)
    best: dict[str, Any] = {}
    for _ in range(repeats):
        if exact:
            t_features, forms = timed(lambda: exact_forms(target, reference, kernels, device), device)
            stages = {"features": t_features, "covariance": 0.0}
            more: dict[str, Any] = {}
        else:
            features = StackedFeatures(
                target, reference, maps, device, cache_bytes=2**31 if device.type == "cuda" else 2**29
            )
            t_features, _ = timed(lambda features=features: sum(1 for _ in features.chunks()), device)
            t_gram, blocks = timed(lambda features=features: accumulate(features), device)
            stages = {"features": t_features, "covariance": t_gram}
            more = {"digest": blocks.digest(), "features_kept": bool(features._cache)}
            forms = FeatureForms(blocks, features, False, {})
        stages["search"], raw = timed(lambda forms=forms: solve_subspace(forms.space(DIRECTIONS), request), device)
        read = partial(
            checked_directions, forms, target.keys, raw.directions, limit.eps, request.tolerance, kernels.ties
        )
        stages["read"], directions = timed(read, device)
        total = sum(stages.values())
        if not more.get("features_kept", True):
            total -= t_features  # the products make them again
        if not best or total < best["total"]:
            best = {
                **stages, "total": total, "exact": exact, "dimensions": sum(maps[0].dims),
                "directions": len(directions), "worst_gap": max((d.gap for d in directions), default=None),
                "block_steps": raw.iterations, **raw.details, **more,
            }  # fmt: skip
    return best


def least_seconds(figures: dict[str, Any], peaks: Peaks) -> dict[str, float]:
    """Return stage -> the least seconds that the machine's peaks allow for the work that was done."""
    proofs = 1  # all directions at once; further factorisations are those of preconditioners
    counts = (figures["block_steps"], figures["basis"], figures["factorisations"] - proofs, proofs, DIRECTIONS)
    n, d = figures["n"], figures["dimensions"]
    work = exact_work(n, d, *counts) if figures["exact"] else feature_work(n, figures["r"], d, *counts)
    return bounds(work, peaks)


def bare_fp32(n: int, width: int, device: torch.device) -> float:
    """Time one full X'X in float32, by chunks where X would not fit."""
    rows = min(n, 16_384 if device.type == "cpu" else n)
    x = torch.randn(rows, width, device=device)
    out = torch.zeros(width, width, device=device)
    x[:256].T @ x[:256]

    def work() -> None:
        for _ in range(n // rows):
            out.addmm_(x.T, x)

    return timed(work, device)[0]


def bare_int8(n: int, width: int, device: torch.device) -> float:
    """Time one full X'X of int8 with int32 sums."""
    x = torch.randint(-127, 128, (n, width), dtype=torch.int8, device=device).T.contiguous()
    torch._int_mm(x[:, :64].contiguous(), x[:, :64].contiguous().T)
    return timed(lambda: torch._int_mm(x, x.T), device)[0]


def spec_core(n: int, r: int, device: torch.device) -> float:
    """Time SPEC's core on float features that are given: covariance, Cholesky, eigendecomposition of A - eta B."""
    phi = torch.randn(n, 4 * r, device=device) / (2 * r) ** 0.5

    def work() -> None:
        g = (phi.T @ phi / n).double()  # (D, D)
        g.diagonal().add_(1e-8 * float(g.trace()) / g.shape[0])
        factor = torch.linalg.cholesky(g)
        sign = torch.ones(4 * r, dtype=torch.float64, device=device)
        sign[2 * r :] = -1
        vectors = torch.linalg.eigh(factor.T @ (sign[:, None] * factor)).eigenvectors
        phi @ torch.linalg.solve_triangular(factor.T, vectors[:, -DIRECTIONS:], upper=True).float()

    return timed(work, device)[0]


def spec_direct(n: int, r: int, device: torch.device) -> float:
    """Time SPEC without a Cholesky factor: all eigenvectors of [[C_AA, C_AB], [-C_BA, -C_BB]], not symmetric."""
    phi = torch.randn(n, 4 * r, device=device) / (2 * r) ** 0.5

    def work() -> None:
        g = phi.T @ phi / n  # (D, D)
        g[2 * r :] *= -1
        torch.linalg.eig(g)

    return timed(work, device)[0]


def algorithm_1(g: torch.Tensor, split: int, eps: float) -> tuple[float, list[float]]:
    """Time Algorithm 1: for each direction a search over lambda, a full eigendecomposition at every step."""

    def work() -> list[float]:
        factor = torch.linalg.cholesky(g + 1e-13 * torch.eye(len(g), dtype=g.dtype, device=g.device))  # G = L L'
        a = factor[:split].T @ factor[:split]
        b = factor[split:].T @ factor[split:]
        energies = []
        for _ in range(DIRECTIONS):
            low, high, best = 1e-4, 1e4, None
            for _ in range(EVALUATIONS):
                multiplier = (low * high) ** 0.5
                y = torch.linalg.eigh(a - multiplier * b).eigenvectors[:, -1]
                if float(y @ b @ y) <= eps:
                    high, best = multiplier, y
                else:
                    low = multiplier
            if best is None:
                break
            energies.append(float(best @ a @ best))
            for m in (a, b):
                mine = m @ best
                m -= torch.outer(best, mine) + torch.outer(mine, best) - torch.outer(best, best) * (best @ mine)
        return energies

    return timed(work, g.device)


def memory(n: int, r: int) -> dict[str, float]:
    """Measure the peak of a search over two folders on disk, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        for name, table in zip(("target", "reference"), pair(n), strict=True):
            table.save(f"{folder}/{name}")
        code = [sys.executable, __file__, "--memory-of", folder, "--features", str(r)]
        done = subprocess.run(code, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _memory_of(folder: str, r: int) -> None:
    import koda

    peak, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.01):
            status = Path("/proc/self/status").read_text()
            peak[0] = max(peak[0], int(status.split("RssAnon:")[1].split()[0]))

    thread = threading.Thread(target=watch)
    thread.start()
    tables = [EmbeddingTable.open(f"{folder}/{name}") for name in ("target", "reference")]
    began = time.perf_counter()
    solution = koda.find_discrepancies(*tables, DiscrepancyConfig(features="orf", n_features=r))
    seconds = time.perf_counter() - began
    stop.set()
    thread.join()
    kept = len(solution.keys) * 4 * r
    kept = kept if kept <= 2**29 else 0
    print(json.dumps({"peak_gb": peak[0] / 2**20, "kept_gb": kept / 2**30, "seconds": seconds}))


def _ratio(figures: dict[str, Any], name: str, upside: bool) -> str:
    if not figures.get(name):
        return "–"
    value = figures[name] / figures["total"] if upside else figures["total"] / figures[name]
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def write(results: dict[str, Any], out: Path) -> None:
    """Write the figures as JSON, Markdown and a plot."""
    out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    lines = [
        "# The discrepancy engine: time and memory", "",
        f"{results['device']}, {results['threads']} threads, torch {results['torch']}, Python {results['python']}, "
        f"{results['date']}. int8 products in hardware: {'yes' if results['int8'] else 'no'}.", "",
        "Seconds from embeddings in memory to ten proved and checked directions, and ratios within the same run.", "",
        "| n | r | features | covariance | search | read | total | / fp32 X'X | / int8 X'X | SPEC core / "
        "| SPEC, non-symmetric / | Algorithm 1 / | worst gap |",
        "| --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]  # fmt: skip
    for f in results["runs"]:
        size = f"{f['n']} | {f['r']}{' (exact)' if f['exact'] else ''}"
        gap = "–" if f["worst_gap"] is None else f"{f['worst_gap']:.0e}"
        lines.append(
            f"| {size} | {f['features']:.2f} | {f['covariance']:.2f} | {f['search']:.2f} "
            f"| {f['read']:.2f} | **{f['total']:.2f}** | {_ratio(f, 'fp32', False)} | {_ratio(f, 'int8', False)} "
            f"| {_ratio(f, 'spec', True)} "
            f"| {_ratio(f, 'spec_direct', True)} | {_ratio(f, 'algorithm_1', True)} | {gap} |"
        )
    lines += ["", "\"/ X'X\": our total over the bare product, smaller is better. \"SPEC core /\" and the others: "
              "their time over our total, larger is better. A dash was not measured. (exact): no more samples than "
              "coordinates, so exact kernels, whose matrices stand in the column of the features."]  # fmt: skip
    lines += _roofline(results)
    if results["memory"]:
        lines += ["", "| n | r | peak anonymous memory | of it kept features | seconds from folders on disk |",
                  "| --: | --: | --: | --: | --: |"]  # fmt: skip
        for f in results["memory"]:
            lines.append(
                f"| {f['n']} | {f['r']} | {f['peak_gb']:.2f} GB | {f['kept_gb']:.2f} GB | {f['seconds']:.1f} |"
            )
    out.with_suffix(".md").write_text("\n".join(lines) + "\n")
    _plot(results, out.with_suffix(".svg"))


def _roofline(results: dict[str, Any]) -> list[str]:
    """Return the table of what each stage took beside the least it could, and whether the aims are met."""
    peaks = results["peaks"]
    lines = [
        "", "## Roofline", "",
        f"Measured in the same run: products of {peaks['fp64'] / 1e9:.0f} (float64), {peaks['fp32'] / 1e9:.0f} "
        f"(float32) and {peaks['int8'] / 1e9:.0f} (int8) billion operations a second, and "
        f"{peaks['bandwidth'] / 1e9:.1f} GB a second through a "
        "product with eight columns. A cell is seconds taken / the least that these allow for the operations and bytes "
        "of the stage.", "",
        "| n | r | features | covariance | search | read | total | aim | reached |",
        "| --: | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]  # fmt: skip
    missed, aims = [], 0
    for f in results["runs"]:
        cells = [f"{f[stage]:.2f} / {f['least'][stage]:.2f}" for stage in STAGES]
        cells.append(f"{f['total']:.2f} / {sum(f['least'].values()):.2f}")
        aim = AIMS.get((f["n"], f["r"]))
        words = ["–", "–"]
        if aim is not None and (aim[0] == "seconds" or f.get(aim[0])):
            yardstick, most = aim
            reached = f["total"] if yardstick == "seconds" else f["total"] / f[yardstick]
            unit = " s" if yardstick == "seconds" else f" x {yardstick}"
            words = [f"{most:g}{unit}", f"{reached:.2f}{unit}"]
            aims += 1
            if reached > most:
                worst = max(STAGES, key=lambda stage, f=f: f[stage] - f["least"][stage])
                missed.append(
                    f"- n = {f['n']}, r = {f['r']}: {words[1]}, aim {words[0]}. The least that the peaks allow is "
                    f"{sum(f['least'].values()):.2f} s; most of what is over it, {f[worst] - f['least'][worst]:.2f} s, "
                    f"is in the stage {worst}."
                )
        lines.append(f"| {f['n']} | {f['r']} | {' | '.join(cells + words)} |")
    if missed:
        return [*lines, "", "Missed:", "", *missed]
    return [*lines, "", "Every aim is met."] if aims else lines


def _plot(results: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    runs = results["runs"]
    figure, (axes, cost) = plt.subplots(2, 1, figsize=(8, 0.5 * len(runs) + 6), height_ratios=[len(runs) + 2, 12])
    left = np.zeros(len(runs))
    for stage, colour in zip(STAGES, ("#4477aa", "#66ccee", "#ee6677", "#ccbb44"), strict=True):
        share = np.array([f[stage] / f["fp32"] for f in runs])
        axes.barh(range(len(runs)), share, left=left, color=colour, label=stage)
        left += share
    axes.axvline(1.2, color="black", linestyle="--", linewidth=1)
    axes.set_yticks(range(len(runs)), [f"n = {f['n']}, r = {f['r']}" for f in runs])
    axes.set_xlabel("time over one bare float32 X'X of the same size (goal from n = 16k on: 1.2)")
    axes.invert_yaxis()
    axes.legend(frameon=False)
    for r, colour in zip(sorted({f["r"] for f in runs}), ("#4477aa", "#ee6677", "#228833", "#ccbb44"), strict=False):
        mine = sorted((f for f in runs if f["r"] == r), key=lambda f: f["n"])
        sizes = [f["n"] for f in mine]
        cost.loglog(sizes, [f["total"] for f in mine], "o-", color=colour, label=f"r = {r}")
        cost.loglog(sizes, [sum(f["least"].values()) for f in mine], ":", color=colour)
        cost.loglog(sizes, [f["fp32"] for f in mine], "--", color=colour, linewidth=1)
    cost.set_xlabel("samples n")
    cost.set_ylabel("seconds")
    cost.set_title("to ten proved directions; dashed: bare float32 X'X; dotted: the least by the peaks", fontsize=9)
    cost.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[4096, 16_384, 65_536])
    parser.add_argument("--features", type=int, nargs="*", default=[500, 1000, 3000])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--algorithm-1", type=int, nargs="*", default=[500], metavar="R", help="at 4096 samples")
    parser.add_argument("--memory", type=int, nargs="*", default=[16_384, 65_536], metavar="N")
    parser.add_argument("--out", type=Path, default=HERE / "engine")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        _memory_of(arguments.memory_of, arguments.features[0])
        return
    device = device_of(arguments.device)
    cpu = next(
        (x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), ""
    )
    results: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{cpu or platform.machine()} "
        f"({torch.backends.cpu.get_cpu_capability()})",
        "threads": torch.get_num_threads(), "torch": torch.__version__, "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"), "int8": has_int8_products(device), "runs": [], "memory": [],
    }  # fmt: skip
    peaks = Peaks.of(device)
    results["peaks"] = asdict(peaks)
    for r in arguments.features:
        for n in arguments.sizes:
            figures = {"n": n, "r": r, "fp32": bare_fp32(n, 4 * r, device)}
            figures |= engine(n, r, device, arguments.repeats)
            figures["least"] = least_seconds(figures, peaks)
            figures["fp32"] = min(figures["fp32"], bare_fp32(n, 4 * r, device))
            if results["int8"] or n * r <= 4096 * 500:
                figures["int8"] = bare_int8(n, 4 * r, device)
            if 4 * r < n <= 16_384 and r <= 1000:  # with fewer samples its Cholesky factor does not exist
                figures["spec"] = spec_core(n, r, device)
            if [n, r] in ([4096, 500], [16_384, 1000]):
                figures["spec_direct"] = spec_direct(n, r, device)
            if n == 4096 and r in arguments.algorithm_1:
                figures["algorithm_1"], figures["algorithm_1_energies"] = _algorithm_1_of(n, r, device)
            results["runs"].append(figures)
            print(json.dumps({k: v for k, v in figures.items() if k != "digest"}), flush=True)
            write(results, arguments.out)
    for n in arguments.memory if device.type == "cpu" else []:
        results["memory"].append({"n": n, "r": 1000, **memory(n, 1000)})
        write(results, arguments.out)
    print(arguments.out.with_suffix(".md").read_text())


def _algorithm_1_of(n: int, r: int, device: torch.device) -> tuple[float, list[float]]:
    target, reference = pair(n)
    config = DiscrepancyConfig(features="orf", n_features=r, device=str(device))
    kernels = choose_kernels(target, reference, config)
    maps = draw_pair(kernels, target, reference, r, seed=0)
    limit = ShareLimit(config.max_reference_share).energy(n, kernels.ties["reference"])
    blocks = accumulate(StackedFeatures(target, reference, maps, device))
    return algorithm_1(blocks.g, blocks.split, limit.eps)


if __name__ == "__main__":
    main()
