"""The manifest of an audit, its files, and its record: what the other checks stand on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from koda.audit.folders import AS_AUDITED, MANIFEST, RECORD
from koda.audit.verification import FileCheck
from koda.errors import KodaError
from koda.evidence.result import Evidence
from koda.records import AuditRecord


def check_manifest(folder: Path) -> Evidence:
    """Check that a manifest is as koda writes it, to the byte, and gives the sizes of the files that are there."""
    data = (folder / MANIFEST).read_bytes()
    raw: dict[str, Any] = json.loads(data)
    what = "its form and the sizes in it"
    as_audited = raw.get(AS_AUDITED, {})
    if (
        set(raw) - {AS_AUDITED} != {"audit", "files"}
        or not isinstance(as_audited, dict)
        or data.strip() != json.dumps(raw, indent=2, sort_keys=True).encode()
    ):
        return Evidence(MANIFEST, what, "FAILED", "it is not as koda writes one: it was changed")
    for name, entry in raw["files"].items():
        if not _is_entry(entry):
            return Evidence(MANIFEST, what, "FAILED", f"its entry of {name} is not as koda writes one")
        size = _size(folder / Path(name).name)
        if size is not None and size != entry["size"]:
            why = f"it gives {entry['size']} bytes for {name}, which has {size}"
            return Evidence(MANIFEST, what, "FAILED", why)
    for name, entry in as_audited.items():  # null: the audit wrote no such file
        if entry is not None and not _is_entry(entry):
            return Evidence(MANIFEST, what, "FAILED", f"its former entry of {name} is not as koda writes one")
    if RECORD not in raw["files"]:
        return Evidence(MANIFEST, what, "FAILED", f"it does not list {RECORD}")
    return Evidence(MANIFEST, what, "verified")


def _size(path: Path) -> int | None:
    """Return the size of a file; None where there is none of the name, or can be none."""
    try:
        return path.stat().st_size if path.is_file() else None
    except (OSError, ValueError):
        return None


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and set(entry) == {"size", "sha256"}


def as_evidence(check: FileCheck) -> Evidence:
    """Return what a manifest says of one of its files."""
    what = f"against {MANIFEST}"
    if check.problem is None:
        return Evidence(check.name, what, "verified")
    return Evidence(check.name, what, "FAILED", check.problem)


def read_whole(folder: Path) -> tuple[bytes, AuditRecord] | None:
    """Return the bytes of a record and what they hold; None where it cannot be read."""
    path = folder / RECORD
    try:
        data = path.read_bytes()
        return data, AuditRecord.from_json(data, str(path))
    except (OSError, KodaError):
        return None
