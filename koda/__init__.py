"""koda: find what two vision-language models see differently (KODA, arXiv 2606.04180).

Public names are resolved on first use, so that ``import koda`` loads neither torch nor prefect.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from koda._version import __version__

_HOME = {
    "AuditConfig": "koda.config",
    "AuditRecord": "koda.records",
    "Direction": "koda.discrepancy",
    "DiscrepancyConfig": "koda.config",
    "EmbeddingTable": "koda.embeddings.tables",
    "KodaError": "koda.errors",
    "Slice": "koda.slicing.slices",
    "Solution": "koda.discrepancy",
    "find_discrepancies": "koda.discrepancy",
    "quantile_sweep": "koda.discrepancy",
    "load_config": "koda.config",
    "slices": "koda.slicing.slices",
}

__all__ = [
    "AuditConfig",
    "AuditRecord",
    "Direction",
    "DiscrepancyConfig",
    "EmbeddingTable",
    "KodaError",
    "Slice",
    "Solution",
    "__version__",
    "find_discrepancies",
    "load_config",
    "quantile_sweep",
    "slices",
]

if TYPE_CHECKING:
    from koda.config import AuditConfig, DiscrepancyConfig, load_config
    from koda.discrepancy import Direction, Solution, find_discrepancies, quantile_sweep
    from koda.embeddings import EmbeddingTable
    from koda.errors import KodaError
    from koda.records import AuditRecord
    from koda.slicing.slices import Slice, slices


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'koda' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
