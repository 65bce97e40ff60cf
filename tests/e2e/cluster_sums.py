"""The covariance of some tables by a cluster of the run's own, and by one process: for a process that a test starts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from flows.engine import koda_flow
from flows.environment import koda_home


@koda_flow("sums")
def sums(home: str, kind: str) -> str:
    """Return the digest of the covariance of 3000 pairs; `threads` has none of the parts."""
    from koda.config import RunnerConfig
    from koda.kernels.covariance import accumulate
    from koda.kernels.covariance_parts import summed_by
    from koda.parallel import current
    from tasks.clusters import workers_of
    from tests.kernels.test_covariance_parts import features_of

    features = features_of(3000)
    with workers_of(RunnerConfig.model_validate({"kind": kind}), Path(home)):
        workers = current()
        return (accumulate(features) if workers is None else summed_by(workers, features, 700)).digest()


def main() -> None:
    """Print the digest for each kind that is asked for."""
    for kind in sys.argv[1:]:
        print(sums(str(koda_home()), kind), flush=True)
    os._exit(0)
