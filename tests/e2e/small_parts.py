"""The command `koda`, which ranks so few queries at a time that 90 are several parts, and notes what workers finish."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flows.cli import main
from flows.environment import koda_home
from koda.metrics import retrieval
from tasks.clusters import Cluster

__all__ = ["main"]

retrieval._QUERIES = 2  # of this process: workers are handed the parts
_submit = Cluster.submit


def _noted(cluster: Cluster, function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    wait = _submit(cluster, function, *arguments)

    def result() -> Any:
        found = wait()
        with (koda_home() / "parts").open("a", encoding="utf-8") as parts:
            print(function.__name__, file=parts)
        return found

    return result


Cluster.submit = _noted  # type: ignore[method-assign]
