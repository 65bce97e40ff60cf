"""What `koda prune` does: it moves aside, under the lock that runs begin with, what may go, and deletes it after.

A run that begins meanwhile waits for the renames, no longer; it finds what is gone missing, and makes it anew. Killed
at any moment, a prune leaves whole artifacts, or none, and a folder that the next prune or audit removes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from koda.audit.folders import AUDITS
from koda.audit.references import (
    CALIBRATIONS,
    Key,
    Reference,
    noted_references,
    older_references,
    with_covariances,
)
from koda.audit.retention import (
    ALIGNMENTS,
    Removal,
    Retention,
    Stored,
    choose,
    lost_alignments,
    size_and_time,
    stored_artifacts,
)
from koda.audit.runs import RUNNING, Run, book, crashed, running_now
from koda.config.amounts import size_in_words
from koda.errors import StoreError, reason_of
from koda.storage import ArtifactStore, write_atomically
from koda.storage.database import AuditStore
from koda.storage.exchanges import EXCHANGE, abandoned_exchanges
from koda.storage.marks import MARK
from koda.storage.staging import ASIDE, STAGING, staged
from koda.storage.writing import explain_os_errors, new_folder
from koda.wording import counted

LOGS = "logs"
PRUNED = "pruned-"  # folders of what was moved aside
_FETCHED = "fetched"
_A_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pruned:
    """What went, or would go.

    Args:
        dry_run: whether nothing was removed.
        removals: what, of which audits, and why.
        before, after: bytes of all artifacts.
        log: where this stands written; None where nothing was removed.
        notes: what people are to know.
    """

    dry_run: bool
    removals: tuple[Removal, ...]
    before: int
    after: int
    log: Path | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def freed(self) -> int:
        """Bytes that went."""
        return sum(removal.item.size for removal in self.removals)

    def with_notes(self, more: Sequence[str]) -> Pruned:
        """Return it with more to know."""
        return replace(self, notes=[*self.notes, *more])

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "dry_run": self.dry_run,
            "removed": [
                {
                    "kind": removal.item.kind,
                    "key": removal.item.key,
                    "bytes": removal.item.size,
                    "made": removal.item.made.isoformat(timespec="seconds"),
                    "audits": list(removal.audits),
                    "why": removal.why,
                }
                for removal in self.removals
            ],
            "bytes": self.freed,
            "bytes_before": self.before,
            "bytes_after": self.after,
            "log": None if self.log is None else str(self.log),
            "notes": self.notes,
        }


def prune(home: Path, retention: Retention, *, dry_run: bool = False) -> Pruned:
    """Remove the artifacts that may go.

    Args:
        home: KODA_HOME.
        retention: what is to stay.
        dry_run: only say what would go; nothing is written.

    Raises:
        StoreError: the home cannot be written; or audits of an older koda are in it and the database, which says when
            they were asked for, cannot be read.
    """
    artifacts = ArtifactStore(home / "artifacts")
    waiting = [] if dry_run else _merged(home)
    if not artifacts.root.is_dir():
        return Pruned(dry_run, (), 0, 0, notes=[*waiting, f"There are no artifacts in {home}."])
    # what takes long is looked at before the lock is held
    stored = stored_artifacts(artifacts.root)
    keys = [(item.kind, item.key) for item in stored]
    noted, notes = noted_references(home)
    older, more = older_references(home, [each.name for each in noted], keys)
    lost = lost_alignments(home, stored)
    notes += [*more, *waiting, *_set_aside(home)]

    def what_goes() -> list[Removal]:
        _check_marks(home)
        needed = {key for run in _running(home) for key in run}
        latest, _ = noted_references(home)
        references = [*latest, *with_covariances(older, latest, keys)]
        there = [
            each for each in references if any((home / kind / each.name).exists() for kind in (AUDITS, CALIBRATIONS))
        ]
        begun = _begun(home)
        free = lost - {key for each in (*there, *begun) for key in each.artifacts}
        chosen = choose(stored, [*references, *begun], needed, retention, free)
        return [*chosen, *_leftovers(artifacts, needed), *_fetched(home), *_exchanged(home)]

    if dry_run:
        removals = what_goes()
        return _told(dry_run, stored, removals, retention, notes)
    abandoned = list(artifacts.root.glob(f"{PRUNED}*"))
    with explain_os_errors(artifacts.root), book(home):
        aside = new_folder(artifacts.root, PRUNED)
        gone = [each for each in what_goes() if _moved(artifacts, each, aside, notes)]
        _drop_locks(artifacts, home)
    result = _told(dry_run, stored, gone, retention, notes, _log_path(home) if gone else None)
    if result.log is not None:
        content = {"home": str(home), "ended": datetime.now(UTC).isoformat(), **result.to_json()}
        write_atomically(result.log, json.dumps(content, indent=1).encode())
    for folder in (aside, *abandoned):
        shutil.rmtree(folder, ignore_errors=True)
    return result


def _merged(home: Path) -> list[str]:
    """Store the rows that wait, if the database is free; return what people are to know."""
    try:
        AuditStore(home).merge()
    except StoreError as error:  # they wait on, which keeps nothing from being removed
        return [f"{counted(len(staged(home)), 'folder')} of rows wait in {home / STAGING} on: {error.message}"]
    return []


def sweep_pruned(home: Path) -> None:
    """Remove what a prune that was killed had moved aside."""
    root = home / "artifacts"
    if not any(root.glob(f"{PRUNED}*")):
        return
    with book(home):  # then no prune is moving anything into them
        abandoned = list(root.glob(f"{PRUNED}*"))
    for folder in abandoned:
        shutil.rmtree(folder, ignore_errors=True)


def when_pruned(home: Path, kind: str, key: str) -> datetime | None:
    """Return when an artifact was pruned, by the lists of what was; None where none has it."""
    for path in sorted((home / LOGS).glob("prune-*.json"), reverse=True):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            content = json.loads(path.read_bytes())
            if any((entry["kind"], entry["key"]) == (kind, key) for entry in content["removed"]):
                return datetime.fromisoformat(content["ended"])
    return None


def _told(
    dry_run: bool,
    stored: Sequence[Stored],
    removals: Sequence[Removal],
    retention: Retention,
    notes: Sequence[str],
    log: Path | None = None,
) -> Pruned:
    before, counted_before = sum(item.size for item in stored), set(stored)
    after = before - sum(removal.item.size for removal in removals if removal.item in counted_before)
    told = list(notes)
    if retention.max_bytes is not None and after > retention.max_bytes:
        told.append(
            f"The artifacts {'would ' if dry_run else ''}still take {size_in_words(after)}, over "
            f"{size_in_words(retention.max_bytes)}: what is left are records, reports and aligned models, which stay, "
            "and what runs that go on need."
        )
    return Pruned(dry_run, tuple(removals), before, after, log, told)


def _running(home: Path) -> list[tuple[Key, ...]]:
    return [run.artifacts for run in running_now(home)] if _has_marks(home) else []


def _begun(home: Path) -> list[Reference]:
    """Return what crashed runs refer to: the same command takes up again what they made."""
    lost = crashed(home) if _has_marks(home) else []
    return [Reference(run.audit, run.started, frozenset(run.artifacts)) for run in lost]


def _check_marks(home: Path) -> None:
    """Refuse to go on where nobody knows what a run that goes on needs.

    Raises:
        StoreError: its mark is damaged.
    """
    for path in sorted((home / RUNNING).glob("[!.]*.json")):
        try:
            Run.from_json(path.read_bytes())
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            with ArtifactStore(home / "artifacts").lock_if_free("run", path.stem) as free:
                if not free:
                    raise StoreError(
                        f"{path} is damaged ({reason_of(error)}): "
                        "it is of a run that goes on, and says what that needs.",
                        "Wait until the run has ended, and prune then.",
                    ) from error


def _has_marks(home: Path) -> bool:
    return any((home / RUNNING).glob("[!.]*.json"))


def _moved(artifacts: ArtifactStore, removal: Removal, aside: Path, notes: list[str]) -> bool:
    """Move what is to go aside, unless somebody has it or has made it anew; the caller holds the book."""
    item = removal.item
    with artifacts.lock_if_free(item.kind, item.key) as free:
        if not free:
            notes.append(f"{item.folder} stays: another process is at it.")
            return False
        if _made(item.folder, item.whole) not in (item.made, None):
            return False
        try:
            item.folder.rename(aside / f"{item.folder.parent.name}-{item.kind}-{item.key}")
        except FileNotFoundError:
            return False
        artifacts.forget_lock(item.kind, item.key)
        return True


def _made(folder: Path, whole: bool) -> datetime | None:
    try:
        seconds = (folder / MARK).stat().st_mtime if whole else size_and_time(folder)[1]
    except OSError:
        return None
    return datetime.fromtimestamp(seconds, UTC)


def _leftovers(artifacts: ArtifactStore, needed: Collection[Key]) -> list[Removal]:
    """Return the artifacts that stood aside while they were made anew, by a run that did not come to its end."""
    found = []
    for folder in sorted((artifacts.root / "replaced").glob("*-*")):
        kind, _, key = folder.name.partition("-")
        if (kind, key) in needed:
            continue
        size, last = size_and_time(folder)
        made = datetime.fromtimestamp(last, UTC)
        if made < datetime.now(UTC) - _A_DAY or (artifacts.folder(kind, key) / MARK).is_file():
            item = Stored(kind, key, folder, size, _made(folder, True) or made, (folder / MARK).is_file())
            found.append(Removal(item, (), "it was being made anew, by a run that was killed"))
    return found


def _fetched(home: Path) -> list[Removal]:
    """Return the copies of checkpoints behind URLs that a watcher which was killed left."""
    found = []
    for folder in sorted((home / "checkpoints" / _FETCHED).glob("*")):
        size, last = size_and_time(folder)
        made = datetime.fromtimestamp(last, UTC)
        if made < datetime.now(UTC) - _A_DAY:
            found.append(
                Removal(Stored(_FETCHED, folder.name, folder, size, made, False), (), "it was fetched, and left")
            )
    return found


def _exchanged(home: Path) -> list[Removal]:
    """Return what runs that were killed had exchanged with their workers."""
    found = []
    for folder in abandoned_exchanges(home):
        size, last = size_and_time(folder)
        item = Stored(EXCHANGE, folder.name, folder, size, datetime.fromtimestamp(last, UTC), False)
        found.append(Removal(item, (), "it was exchanged with the workers of a run that was killed"))
    return found


def _drop_locks(artifacts: ArtifactStore, home: Path) -> None:
    """Remove the files of locks that nobody holds and of which the artifact, run or audit is gone."""
    for path in sorted((artifacts.root / "locks").glob("*-*.lock")):
        kind, _, key = path.stem.partition("-")
        elsewhere = {
            "run": home / RUNNING / f"{key}.json",
            AUDITS: home / AUDITS / key,
            EXCHANGE: home / EXCHANGE / key,
        }
        of = elsewhere.get(kind, artifacts.folder(kind, key))
        known = kind in (*elsewhere, ALIGNMENTS) or (artifacts.root / kind).is_dir()
        if not known or of.exists() or (artifacts.root / "replaced" / path.stem).exists():
            continue
        with artifacts.lock_if_free(kind, key) as free:  # who opened it meanwhile sees that it went, and opens it anew
            if free:
                artifacts.forget_lock(kind, key)


def _set_aside(home: Path) -> Iterable[str]:
    """Name the rows that no database took; they stay, since they may be all that is left of a run."""
    folders = [path for path in (home / ASIDE).glob("[!.]*") if path.is_dir()]
    if folders:
        yield (
            f"{counted(len(folders), 'folder')} of rows that could not be stored stay in {home / ASIDE}: koda history "
            "--rebuild stores their audits from the audits' folders, after which they can be removed."
        )


def _log_path(home: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = home / LOGS / f"prune-{stamp}.json"
    return path if not path.exists() else path.with_name(f"prune-{stamp}-{os.getpid()}-{time.time_ns() % 10**6}.json")
