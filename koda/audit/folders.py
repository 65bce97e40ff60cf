"""The folder of an audit: put in place whole, with the runs that it replaces, and read back as it was written.

Its manifest lists every file by digest. A report that was drawn again from the same record is listed as it is now, and
under `as_audited` as the audit wrote it, by which the audit knows its folder again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from koda.errors import DataError, StoreError, reason_of
from koda.records import Annotations, AuditRecord
from koda.records.page_names import is_page_name
from koda.storage import ArtifactStore, digest_once, write_atomically
from koda.storage.writing import explain_os_errors, new_folder

AUDITS, RUNS = "audits", "runs"
ARTIFACTS = "artifacts"  # in a home, as the audits are
MANIFEST, RECORD, ANNOTATIONS = "manifest.json", "audit.json", "annotations.json"
HTML, PDF = "report.html", "report.pdf"
SIGNED = "signed"  # signatures over the files of a folder; no manifest lists them
FORMER_SIGNED = ".signed.old"  # those of before, while they are replaced
FILES = (HTML, PDF, RECORD, "verdict.json", "slices.csv")
OF_A_FOLDER = frozenset((*FILES, MANIFEST, ANNOTATIONS))  # any of them tells the folder of an audit
AS_AUDITED = "as_audited"  # what a manifest calls the entries, as the audit wrote them, of files drawn again since
_OLD = ".old"


def is_current(folder: Path, wanted: Mapping[str, str]) -> bool:
    """Tell whether a folder holds just what an audit wrote: name -> digest, by its manifest and by the bytes.

    A report drawn again from it counts, and so do annotations, which the audit neither makes nor mends.
    """
    return _as_audited(folder) == wanted and not {*changed_files(folder)} - {ANNOTATIONS}


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

    Annotations stay where the record that they are about does.

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
            if (annotations := _annotations_of(folder, wanted[RECORD])) is not None:
                entries[ANNOTATIONS] = annotations
                if (folder / ANNOTATIONS).is_file():
                    _link(folder / ANNOTATIONS, temporary / ANNOTATIONS)
            _write_manifest(temporary, {"audit": audit, "files": entries})
            if folder.exists():
                _keep_runs(folder, temporary, wanted)
                _exchange(folder, temporary)
            else:
                temporary.rename(folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def replace_files(folder: Path, new: Mapping[str, Path | None]) -> None:
    """Put files beside the record of an audit, in place of those of their names; all of them at once, or none.

    Args:
        folder: of the audit; the caller holds its lock.
        new: name -> the file to copy, None to take that of the name away.

    Raises:
        StoreError: a manifest that cannot be read, a folder that is not to be written, or a disk that is full or
            read-only.
    """
    manifest = _read_manifest(folder)
    files, as_audited = dict(manifest["files"]), dict(manifest.get(AS_AUDITED, {}))
    with explain_os_errors(folder):
        if not os.access(folder, os.W_OK | os.X_OK):  # another would take its place, and it could not be removed
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        temporary = new_folder(folder.parent, f".{folder.name}.")
        try:
            shutil.copymode(folder, temporary)
            for path in folder.iterdir():
                if path.is_dir():
                    shutil.copytree(path, temporary / path.name, copy_function=_link)
                elif path.name not in (MANIFEST, *new) and not path.name.startswith("."):
                    _link(path, temporary / path.name)
            for name, source in new.items():
                if name != ANNOTATIONS:
                    as_audited.setdefault(name, files.get(name))
                files.pop(name, None)
                if source is not None:
                    shutil.copyfile(source, temporary / name)
                    files[name] = _entry(temporary / name)
            _write_manifest(temporary, {**manifest, "files": files, AS_AUDITED: as_audited})
            _exchange(folder, temporary)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def home_of(folder: Path, holding: str) -> Path | None:
    """Return the KODA_HOME that an audit's folder lies in, if it holds a file or folder of a name; else None."""
    home = folder.parent.parent
    return home if folder.parent.name == AUDITS and (home / holding).exists() else None


def lacks_annotations(folder: Path) -> bool:
    """Tell whether a folder has annotations, and the report in it was drawn by the audit, which knew none."""
    try:
        manifest = _read_manifest(folder)
    except StoreError:
        return False
    return ANNOTATIONS in manifest["files"] and not manifest.get(AS_AUDITED)


def is_listed(folder: Path, name: str) -> bool:
    """Tell whether the manifest of a folder lists a file."""
    return name in (_listed(folder) or {})


def listed_pages(folder: Path) -> list[Path]:
    """Return the pages of pictures that the manifest of a folder lists; others of such a name are not koda's."""
    return [folder / name for name in sorted(_listed(folder) or {}) if is_page_name(name)]


def sweep(artifacts: ArtifactStore, audits: Path, own: str) -> None:
    """Remove what killed processes left among the folders of audits: what belongs to no audit that is being stored.

    Signatures that were being replaced are put back, where they are of the caller's own audit.

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
    for folder in (audits / own, *(audits / own / RUNS).glob("[!.]*")):
        put_back_signatures(folder)


def put_back_signatures(folder: Path) -> None:
    """Put former signatures back that were being replaced when their process was killed, or remove them if they were.

    Args:
        folder: of an audit, or of one of its runs; the caller holds the audit's lock.

    Raises:
        StoreError: the folder is read-only or forbidden.
    """
    former = folder / FORMER_SIGNED
    if former.is_dir() and not former.is_symlink():
        if os.path.lexists(folder / SIGNED):
            shutil.rmtree(former, ignore_errors=True)
        else:
            with explain_os_errors(folder):
                former.rename(folder / SIGNED)


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
    return {name: entry["sha256"] for name, entry in _read_manifest(folder)["files"].items()}


def _read_manifest(folder: Path) -> dict[str, Any]:
    where = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(where.read_bytes())
        drawn_again = manifest.get(AS_AUDITED, {}).values()
        for entry in (*manifest["files"].values(), *filter(None, drawn_again)):
            if not isinstance(entry["sha256"], str):
                raise TypeError("a digest is no text")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{where} is not a manifest of koda: {reason_of(error)}.",
            "The command that ran the audit puts its files back.",
        ) from error
    return manifest


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    write_atomically(folder / MANIFEST, _manifest_bytes(manifest))


def _manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    return json.dumps(manifest, indent=2, sort_keys=True).encode()


def _entry(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": digest_once(path)}


def _listed(folder: Path) -> dict[str, str] | None:
    try:
        return _manifest(folder)
    except StoreError:
        return None


def _as_audited(folder: Path) -> dict[str, str] | None:
    """Return name -> digest of the files that the audit wrote, as it wrote them."""
    try:
        manifest = _read_manifest(folder)
    except StoreError:
        return None
    files = {**manifest["files"], **manifest.get(AS_AUDITED, {})}
    return {name: entry["sha256"] for name, entry in files.items() if entry is not None and name != ANNOTATIONS}


def is_manifest_of(folder: Path, digest: str) -> bool | None:
    """Tell whether a manifest is the one that the audit wrote, or was, before a report was drawn again or people spoke.

    Args:
        folder: of the audit.
        digest: SHA-256 of the manifest as the audit wrote it.

    Returns:
        None where it is another, and all that it tells of before does not lead to that one either.
    """
    data = (folder / MANIFEST).read_bytes()
    if hashlib.sha256(data).hexdigest() == digest:
        return True
    try:
        manifest = _read_manifest(folder)
    except StoreError:
        return None
    files = {**manifest["files"], **manifest.pop(AS_AUDITED, {})}
    wrote = {name: entry for name, entry in files.items() if entry is not None}
    unsaid = {name: entry for name, entry in wrote.items() if name != ANNOTATIONS}
    former = (_manifest_bytes({**manifest, "files": entries}) for entries in (wrote, unsaid))
    return False if digest in {hashlib.sha256(each).hexdigest() for each in former} else None


def _annotations_of(folder: Path, record: str) -> dict[str, Any] | None:
    """Return the line of a manifest for the annotations of a folder, if they are about the record of a digest."""
    path = folder / ANNOTATIONS
    try:
        files = _read_manifest(folder)["files"]
    except StoreError:
        files = {}
    if files.get(RECORD, {}).get("sha256") == record and ANNOTATIONS in files:
        return dict(files[ANNOTATIONS])
    try:
        return _entry(path) if Annotations.from_json(path.read_bytes(), str(path)).record == record else None
    except (OSError, DataError):
        return None


def _exchange(folder: Path, temporary: Path) -> None:
    """Put a folder in the place of another."""
    old = folder.with_name(f".{folder.name}{_OLD}")
    shutil.rmtree(old, ignore_errors=True)
    folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _keep_runs(folder: Path, temporary: Path, wanted: Mapping[str, str]) -> None:
    """Link the runs of a folder into the one that replaces it, and add its own files as the latest of them.

    Files that are to stand in the new folder too, and a run that is kept already, are not kept again.
    """
    runs = folder / RUNS
    if runs.is_dir():
        shutil.copytree(runs, temporary / RUNS, copy_function=_link)
    kept = [path for path in (temporary / RUNS).glob("*") if path.is_dir()]
    listed = _listed(folder)
    if _as_audited(folder) == wanted:
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
