"""An alignment in the database, and where its files are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from koda.alignment.saving import CONFIG, WEIGHTS
from koda.records import RECORD_FILE, AlignmentRecord
from koda.storage.database import AuditStore


def publish_alignment(home: Path, record: AlignmentRecord, folder: Path, follow_up: str) -> dict[str, Any]:
    """Store an alignment with the two audits it stands between, and return its paths.

    Args:
        home: KODA_HOME.
        record: of the alignment.
        folder: of the aligned model.
        follow_up: id of the audit that followed.
    """
    store = AuditStore(home)
    store.add_alignment(record, follow_up, str(folder))
    return {
        "model": str(folder),
        "weights": str(folder / WEIGHTS),
        "config": str(folder / CONFIG),
        "record": str(folder / RECORD_FILE),
        "database": str(store.path),
    }
