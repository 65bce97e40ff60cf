"""The folder of an audit: put in place whole, with the runs that it replaces, and read back as it was written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from koda.errors import StoreError
from koda.records import AuditRecord
from koda.storage import ArtifactStore, digest_once, write_atomically
from koda.storage.writing import explain_os_errors, new_folder

AUDITS, RUNS = "audits", "runs"
MANIFEST, RECORD = "manifest.json", "audit.json"
SIGNED = "signed"  # signatures over the files of a folder; no manifest lists them
_OLD = ".old"


def is_current(folder: Path, wanted: Mapping[str, str]) -> bool:
    """Tell whether a folder holds just these files: name -> digest, by its manifest and by their bytes."""
    return _listed(folder) == wanted and not changed_files(folder)


def changed_files(folder: Path) -> list[str]:
    """Return the files of a folder that are not as its manifest says.

    Raises:
        StoreError: a manifest that cannot be read.
    """
    found = []
    for name, digest in sorted(_manifest(folder).items()):
        try:
            whole = digest_once(folder / name) == digest
        except OSError:
            whole = False
        if not whole:
            found.append(name)
    return found


def assemble(audit: str, sources: Mapping[str, Path], wanted: Mapping[str, str], folder: Path) -> None:
    """Make the folder of an audit beside its place and move it there whole; what was there becomes one of its runs.

    Args:
        audit: id.
        sources: name -> the file to copy.
        wanted: name -> digest of the file.
        folder: the place; the caller holds the lock of the audit.

    Raises:
        StoreError: a file that is not the one that was wanted; a full or read-only disk.
    """
    with explain_os_errors(folder):
        temporary = new_folder(folder.parent, f".{folder.name}.")
        try:
            entries = {}
            for name, source in sources.items():
                shutil.copyfile(source, temporary / name)
                if digest_once(temporary / name) != wanted[name]:
                    raise StoreError(f"{source} is damaged.", "Run the same command again: it is made anew.")
                entries[name] = {"size": source.stat().st_size, "sha256": wanted[name]}
            manifest = {"audit": audit, "files": entries}
            write_atomically(temporary / MANIFEST, json.dumps(manifest, indent=2, sort_keys=True).encode())
            if folder.exists():
                _keep_runs(folder, temporary, wanted)
                old = folder.with_name(f".{folder.name}{_OLD}")
                folder.rename(old)
                temporary.rename(folder)
                shutil.rmtree(old, ignore_errors=True)
            else:
                temporary.rename(folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def sweep(artifacts: ArtifactStore, audits: Path, own: str) -> None:
    """Remove what killed processes left among the folders of audits: what belongs to no audit that is being stored.

    Args:
        artifacts: whose locks say so.
        audits: folder of all audits.
        own: id of the audit whose lock the caller holds.
    """
    for leftover in audits.glob(".audit-*"):
        audit = leftover.name.split(".")[1]
        if audit == own:
            _restore_or_remove(leftover, audits / audit)
            continue
        with artifacts.lock_if_free(AUDITS, audit) as free:
            if free:
                _restore_or_remove(leftover, audits / audit)


def checked_bytes(path: Path) -> bytes:
    """Read a file of an audit, which is to be the one that the audit wrote; without a manifest nothing says which.

    Raises:
        StoreError: it is damaged.
        OSError: it cannot be read.
    """
    folder = path.parent
    data = path.read_bytes()
    if (folder / MANIFEST).is_file():
        digest = _manifest(folder).get(path.name)
        if digest is not None and digest != digest_once(path):
            raise StoreError(
                f"{path} is damaged: it is not the file that the audit wrote.",
                f"koda verify {folder} shows what changed; the command that ran the audit puts its files back.",
            )
    return data


def read_record(path: Path) -> AuditRecord:
    """Read the record of an audit from its folder.

    Raises:
        StoreError: it is damaged.
        DataError: it is no record of an audit, or one of a newer koda.
        OSError: it cannot be read.
    """
    return AuditRecord.from_json(checked_bytes(path), str(path))


def _manifest(folder: Path) -> dict[str, str]:
    """Return name -> digest as the manifest of a folder says."""
    where = folder / MANIFEST
    try:
        entries: dict[str, Any] = json.loads(where.read_bytes())["files"]
        return {str(name): str(entry["sha256"]) for name, entry in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{where} is not a manifest of koda: {error}.", "The command that ran the audit puts its files back."
        ) from error


def _listed(folder: Path) -> dict[str, str] | None:
    try:
        return _manifest(folder)
    except StoreError:
        return None


def _keep_runs(folder: Path, temporary: Path, wanted: Mapping[str, str]) -> None:
    """Link the runs of a folder into the one that replaces it, and add its own files as the latest of them.

    Files that are to stand in the new folder too, and a run that is kept already, are not kept again.
    """
    runs = folder / RUNS
    if runs.is_dir():
        shutil.copytree(runs, temporary / RUNS, copy_function=_link)
    kept = [path for path in (temporary / RUNS).glob("*") if path.is_dir()]
    listed = _listed(folder)
    if listed == wanted:
        _keep_signatures(folder, temporary)  # they are over the same files
        return
    if any(listed is not None and _listed(run) == listed for run in kept):
        return
    number = 1 + max((int(path.name) for path in kept if path.name.isdigit()), default=0)
    place = temporary / RUNS / str(number)
    place.mkdir(parents=True)
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            _link(path, place / path.name)
    _keep_signatures(folder, place)


def _keep_signatures(folder: Path, place: Path) -> None:
    if (folder / SIGNED).is_dir():
        shutil.copytree(folder / SIGNED, place / SIGNED, copy_function=_link)


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


def _restore_or_remove(leftover: Path, folder: Path) -> None:
    """Put a folder back that was being replaced when its process was killed; remove anything else."""
    if leftover.name.endswith(_OLD) and not folder.exists():
        leftover.rename(folder)
    elif leftover.is_dir():
        shutil.rmtree(leftover, ignore_errors=True)
    else:
        leftover.unlink(missing_ok=True)
