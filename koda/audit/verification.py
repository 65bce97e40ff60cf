"""Verification: whether the files of an audit are still those that the audit wrote."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from koda.audit.folders import RECORD
from koda.errors import DataError, KodaError, reason_of
from koda.records import AuditRecord
from koda.storage import digest_file


@dataclass(frozen=True)
class FileCheck:
    """One file of the manifest, and what is wrong with it; nothing where `problem` is None."""

    name: str
    problem: str | None


def verify_audit(path: Path) -> tuple[str, list[FileCheck]]:
    """Check an audit's folder against its manifest, and that its record reads.

    The manifest shows damage and careless edits. It is no signature: whoever rewrites a file can
    rewrite the manifest too.

    Args:
        path: the folder, or a file in it.

    Returns:
        The audit's id, and a check for every file of the manifest.

    Raises:
        DataError: no manifest there, or one that cannot be read.
    """
    folder = path if path.is_dir() else path.parent
    where = folder / "manifest.json"
    try:
        audit, files = _read(where.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{folder} is not the folder of an audit: it has no manifest.json.") from None
    except OSError as error:
        raise DataError(f"{where} cannot be read: {reason_of(error)}.") from error
    except ValueError as error:
        raise DataError(f"{where} is not a manifest of koda: {error}.") from error
    return audit, [FileCheck(name, _problem(folder, name, digest, audit)) for name, digest in sorted(files.items())]


def _read(data: bytes) -> tuple[str, dict[str, str]]:
    """Return the audit of a manifest, and name -> digest.

    Raises:
        ValueError: it is none; the message says why, as the end of a sentence.
    """
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError("it holds no JSON") from error
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or not isinstance(manifest.get("audit"), str):
        raise ValueError("it does not name an audit and its files")
    for name, entry in files.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("sha256"), str):
            raise ValueError(f"it has no digest of {name}")
    return manifest["audit"], {name: entry["sha256"] for name, entry in files.items()}


def _problem(folder: Path, name: str, digest: str, audit: str) -> str | None:
    if not name or Path(name).name != name:
        return "the manifest names a file outside the folder"
    file = folder / name
    try:
        if not file.is_file():
            return "it is a folder, not a file" if file.is_dir() else "missing"
        if digest_file(file) != digest:
            return "changed since the audit wrote it"
        data = file.read_bytes() if name == RECORD else b""
    except OSError as error:
        return f"it cannot be read: {reason_of(error)}"
    except ValueError:  # a NUL, or half of a pair of surrogates
        return "it has no name of a file"
    if name == RECORD:
        try:
            record = AuditRecord.from_json(data, str(file))
        except KodaError as error:
            return error.message
        if record.id != audit:
            return f"it is the record of another audit, {record.id}"
    return None
