"""What a cluster of the run's own takes and brings: covariance sums and extraction, by one process and by workers.

    python benchmarks/cluster.py
    python benchmarks/cluster.py --samples 30000 --scenes 2048

Each kind of runner is measured with 1 and 2 workers, in one run beside the same work in this process: the seconds until
the first part can be worked on, those of an empty part, of the covariance of random embeddings (64 + 64 dimensions, r =
500), and of the extraction of the demonstration's scenes. All processes have one thread of torch, so that two workers
have two cores. The results of all are the same bytes, or the benchmark fails. Results are written to cluster.md.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])  # the workers of Ray find this module there

from flows.engine import koda_flow  # noqa: E402

EMPTY_PARTS = 20
RUNNERS = (("threads", 1), ("dask", 1), ("dask", 2), ("ray", 1), ("ray", 2))


def nothing() -> None:
    """Do nothing, as a part."""


@koda_flow("cluster-benchmark")
def measured(home: str, kind: str, workers: int, samples: int, scenes: int) -> dict[str, Any]:
    """Measure one kind of runner."""
    from koda.config import RunnerConfig
    from koda.kernels.covariance import accumulate
    from koda.kernels.covariance_parts import summed_by
    from koda.parallel import current, in_order
    from tasks.clusters import workers_of

    settings = {"kind": kind} if kind == "threads" else {"kind": kind, "workers": workers}
    seconds: dict[str, Any] = {}
    with workers_of(RunnerConfig.model_validate(settings), Path(home)):
        cluster = current()
        if cluster is not None:
            seconds["start"], _ = _timed(lambda: cluster.size)
            list(in_order(cluster, nothing, [()] * workers))
            taken, _ = _timed(lambda: list(in_order(cluster, nothing, [()] * EMPTY_PARTS)))
            seconds["part"] = taken / EMPTY_PARTS
        features = _features(samples)
        sums = (lambda: accumulate(features)) if cluster is None else (lambda: summed_by(cluster, features))
        seconds["covariance"], blocks = _timed(sums)
        seconds["extraction"], digest = _timed(lambda: _extracted(Path(home), scenes))
    return {**seconds, "kind": kind, "workers": workers, "digests": (blocks.digest(), digest)}


def _timed(work: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def _features(samples: int) -> Any:
    import numpy as np
    import torch

    from koda import EmbeddingTable
    from koda.kernels import Kernel
    from koda.kernels.covariance import StackedFeatures
    from koda.kernels.features import draw_features

    rng = np.random.default_rng(0)
    keys = [f"{row:07d}" for row in range(samples)]
    tables = [EmbeddingTable(keys, *(rng.normal(size=(samples, 64)).astype("f4") for _ in range(2))) for _ in range(2)]
    maps = [draw_features(Kernel({"image": 9.0, "text": 9.0}), table, 500) for table in tables]
    return StackedFeatures(tables[0], tables[1], (maps[0], maps[1]), torch.device("cpu"), cache_bytes=0)


def _extracted(home: Path, scenes: int) -> str:
    from koda.config import DataConfig, ModelSpec
    from koda.datasets import read_dataset
    from koda.demo import model_path, write_data
    from koda.demo.data import TABLE
    from koda.extraction import extract
    from koda.models import resolve_model
    from koda.storage import ArtifactStore

    write_data(home / "scenes", scenes, 21)
    dataset = read_dataset(DataConfig(path=str(home / "scenes" / TABLE)))
    model = resolve_model(ModelSpec(name=f"local-dir:{model_path('baseline')}", precision="fp32"), "cpu")
    return extract(ArtifactStore(home / "artifacts"), dataset, model, device="cpu")


def page(about: str, rows: list[dict[str, Any]], samples: int, scenes: int) -> str:
    """Return the results as Markdown."""
    alone = rows[0]
    lines = [
        "# Clusters of the run's own",
        "",
        about,
        "",
        f"Covariance: {samples} pairs, D = 2000, in parts of 14336 rows. Extraction: {scenes} scenes, in shards of "
        "1024; in brackets: times as quick as one process. All results were the same bytes.",
        "",
        "| runner | workers | start | an empty part | covariance | extraction |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        start, part = (f"{row['start']:.1f} s", f"{1000 * row['part']:.0f} ms") if "part" in row else ("", "")
        taken = [f"{row[name]:.1f} s ({alone[name] / row[name]:.2f})" for name in ("covariance", "extraction")]
        lines.append(f"| {row['kind']} | {row['workers']} | {start} | {part} | {taken[0]} | {taken[1]} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure every kind of runner, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--scenes", type=int, default=8192)
    asked = parser.parse_args()
    from common import about, in_words

    began = time.perf_counter()
    rows = []
    for kind, workers in RUNNERS:
        with tempfile.TemporaryDirectory() as home:
            rows.append(measured(home, kind, workers, asked.samples, asked.scenes))
        print({name: value for name, value in rows[-1].items() if name != "digests"}, flush=True)
    if len({row["digests"] for row in rows}) > 1:
        sys.exit("the results differ")
    words = in_words(about(), time.perf_counter() - began)
    load = f" The load of the machine was {os.getloadavg()[1]:.0f}."
    (HERE / "cluster.md").write_text(page(words + load, rows, asked.samples, asked.scenes), encoding="utf-8")


if __name__ == "__main__":
    import cluster  # the workers find the parts of a module by its name

    cluster.main()
