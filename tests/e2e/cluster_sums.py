"""Covariance and kernel products of some tables by a run's own cluster, and by one process: for a test's process."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from flows.engine import koda_flow
from flows.environment import koda_home


@koda_flow("sums")
def sums(home: str, kind: str) -> str:
    """Return the digests of the covariance of 3000 pairs and of products with a kernel; `threads` has no parts."""
    import numpy as np

    from koda.config import RunnerConfig
    from koda.discrepancy import blocks
    from koda.kernels.covariance import accumulate
    from koda.kernels.covariance_parts import summed_by
    from koda.parallel import current
    from tasks.clusters import workers_of
    from tests.kernels.test_covariance_parts import features_of

    blocks._BLOCK_ROWS, blocks._BLOCK_COLUMNS = 256, 1024  # of this process: workers make what they are handed
    features = features_of(3000)
    kernel = blocks.SampledKernel.of(features.target, features.maps[0].kernel, 0.3)
    rows, columns = np.arange(2000, 3000), np.arange(2000)
    weights = np.random.default_rng(0).normal(size=(len(columns), 3))
    with workers_of(RunnerConfig.model_validate({"kind": kind}), Path(home)):
        workers = current()
        covariance = accumulate(features) if workers is None else summed_by(workers, features, 700)
        before = set() if workers is None else _files(workers.exchange.url)
        products = kernel.times(rows, columns, weights)
        if workers is not None:
            left = len(_files(workers.exchange.url) - before)
            assert left == 4 + 2 + 2, left  # the rows, the columns and their weights, which workers read
        return f"{covariance.digest()}-{hashlib.sha256(products.tobytes()).hexdigest()}"


def _files(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def main() -> None:
    """Print the digest for each kind that is asked for."""
    for kind in sys.argv[1:]:
        print(sums(str(koda_home()), kind), flush=True)
    os._exit(0)
