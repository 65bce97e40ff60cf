"""What several benchmarks share: the machine in words, the demonstration's scenes embedded once, and whole audits."""

from __future__ import annotations

import datetime
import os
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import koda
from koda.config import DataConfig, ModelSpec, SignificanceConfig
from koda.datasets import read_dataset
from koda.demo import model_path, write_data
from koda.demo.data import TABLE
from koda.discrepancy import Solution
from koda.discrepancy.blocks import Kernels, SampledKernel
from koda.discrepancy.multiplicity import adjusted_p_values
from koda.discrepancy.significance import HeldOut, confirm
from koda.embeddings import EmbeddingTable
from koda.extraction import embedding_key, extract, load_embeddings
from koda.models import resolve_model
from koda.storage import ArtifactStore

POOL, POOL_SEED = 16_000, 21  # scenes that no training saw
WORK = Path(tempfile.gettempdir()) / "koda-benchmarks"  # embeddings stay there for the next call
MODELS = ("baseline", "candidate")
Tables = tuple[EmbeddingTable, EmbeddingTable]  # of the baseline and of the candidate


def about() -> dict[str, Any]:
    """Return the date, the kind of machine, and the versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.machine())
    return {
        "date": datetime.date.today().isoformat(),
        "device": f"{cpu}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "koda": koda.__version__,
    }


def in_words(about: Mapping[str, Any], seconds: float) -> str:
    """Return the line of a report that says where and with what it was made, and how long it took."""
    used = f"{about['threads']} thread{'s' if about['threads'] > 1 else ''} used"
    versions = ", ".join(f"{name} {about[name]}" for name in ("torch", "numpy", "python", "koda"))
    took = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
    return f"{about['date']}, {about['device']} ({used}), {versions}. It took {took}."


def demo_tables(n: int = POOL, seed: int = POOL_SEED) -> Tables:
    """Return the embeddings of the demonstration's scenes under its baseline and its candidate; they are made once."""
    folder = WORK / f"scenes-{n}-{seed}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_data(folder, n, seed)
    dataset = read_dataset(DataConfig(path=str(folder / TABLE)))
    store = ArtifactStore(WORK / "artifacts")
    tables = []
    for name in MODELS:
        model = resolve_model(ModelSpec(name=f"local-dir:{model_path(name)}", precision="fp32"))
        extract(store, dataset, model)
        tables.append(load_embeddings(store, embedding_key(dataset, model), dataset))
    return tables[0], tables[1]


def split(keys: tuple[str, ...], rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Return a random half of the samples for the search and the other for the test, each sorted.

    Of sorted keys, and with the generator of an audit's seed, they are that audit's own.
    """
    order = rng.permutation(len(keys))
    m = round(len(keys) / 2)
    confirmation, discovery = (sorted(keys[row] for row in part) for part in (order[:m], order[m:]))
    return discovery, confirmation


@dataclass(frozen=True)
class Audit:
    """Both questions searched and tested: "lost" (the target is the baseline) and "gained".

    Args:
        solutions, kernels, tested, p_values: of each question; the kernels are over all samples that were given, the
            p-values are adjusted over both.
    """

    solutions: tuple[Solution, Solution]
    kernels: tuple[Kernels, Kernels]
    tested: tuple[tuple[HeldOut, ...], tuple[HeldOut, ...]]
    p_values: tuple[list[float | None], list[float | None]]

    def confirms(self, alpha: float) -> int:
        """Return how many directions are confirmed."""
        return sum(p is not None and p < alpha for side in self.p_values for p in side)


def audit(
    tables: Tables,
    discovery: list[str],
    confirmation: list[str],
    search: koda.DiscrepancyConfig,
    significance: SignificanceConfig,
) -> Audit:
    """Search and test both questions as an audit does, in one step.

    The kernels are made once over the samples of both tables, as in the evaluation of an audit.
    """
    solutions = [
        koda.find_discrepancies(target.select(discovery), reference.select(discovery), search)
        for target, reference in (tables, tables[::-1])
    ]
    pair = solutions[0].kernels  # the other question has the same two
    target, reference = (
        SampledKernel.kept(table, kernel, pair.ties[role], search.device)
        for table, kernel, role in zip(tables, (pair.target, pair.reference), ("target", "reference"), strict=True)
    )
    kernels = ((target, reference), (reference, target))
    tested = [
        confirm(solution, *ordered, confirmation, significance, both)
        for solution, ordered, both in zip(solutions, (tables, tables[::-1]), kernels, strict=True)
    ]
    adjusted = adjusted_p_values(
        [[held.p_value for held in side] for side in tested], search.n_directions, search.max_directions
    )
    return Audit((solutions[0], solutions[1]), kernels, (tested[0], tested[1]), (adjusted[0], adjusted[1]))
