"""The folders in KODA_HOME through which runs exchange parts with their workers, each held by a lock of its run."""

from __future__ import annotations

from pathlib import Path

from koda.storage.artifacts import ArtifactStore

EXCHANGE = "exchange"  # the folder, and the kind of the locks


def abandoned_exchanges(home: Path) -> list[Path]:
    """Return the folders of runs that ended without a word, which nobody reads again.

    Args:
        home: KODA_HOME.
    """
    store = ArtifactStore(home / "artifacts")  # a run holds the lock before its folder is there
    return [path for path in sorted((home / EXCHANGE).glob("run-*")) if not store.is_held(EXCHANGE, path.name)]
