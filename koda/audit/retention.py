"""Retention: which artifacts may go, by when the audits that refer to them were last asked for, and by size.

Records, reports and the folders of audits stay: every audit still verifies and is drawn again from its record. What
goes is made anew when the audit is asked for again.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from koda.audit.folders import AUDITS, RECORD
from koda.audit.plan import CONTROLS, COVARIANCES, EVALUATIONS, RECORDS, REPORTS, SOLUTIONS
from koda.audit.references import Key, Reference
from koda.errors import KodaError
from koda.extraction import KIND as EMBEDDINGS
from koda.records import RECORD_FILE, read_alignment
from koda.storage.marks import MARK

ALIGNMENTS = "alignments"
#: in the order in which those of one audit go: what is dearest to make again goes last
PRUNED = (COVARIANCES, SOLUTIONS, CONTROLS, EVALUATIONS, EMBEDDINGS)
#: products, and what reports are drawn from
STAYING = (RECORDS, REPORTS, ALIGNMENTS)
_A_DAY = timedelta(days=1)  # what is younger may be of a run that is to be taken up again
_EVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Retention:
    """What is to stay.

    Args:
        keep: what audits refer to that were asked for within this time; None: however old.
        max_bytes: that all artifacts may take; None: any number.
    """

    keep: timedelta | None = None
    max_bytes: int | None = None


@dataclass(frozen=True)
class Stored:
    """A folder of artifacts.

    Args:
        kind, key: of the artifact.
        folder: where.
        size: of its files, in bytes.
        made: when it was completed; of one that is not complete, when it was last written to.
        whole: whether it was completed.
    """

    kind: str
    key: str
    folder: Path
    size: int
    made: datetime
    whole: bool


@dataclass(frozen=True)
class Removal:
    """What is to go.

    Args:
        item: what.
        audits: which audits and calibrations refer to it.
        why: in words.
    """

    item: Stored
    audits: tuple[str, ...]
    why: str


def stored_artifacts(root: Path) -> list[Stored]:
    """Look at every artifact that is there, finished or not.

    Args:
        root: of the artifact store.
    """
    found = []
    for kind in (*PRUNED, *STAYING):
        for entry in _folders(root / kind):
            size, last = size_and_time(entry)
            try:
                found.append(Stored(kind, entry.name, entry, size, _time((entry / MARK).stat().st_mtime), True))
            except OSError:
                found.append(Stored(kind, entry.name, entry, size, _time(last), False))
    return found


def size_and_time(folder: Path) -> tuple[int, float]:
    """Return the bytes of the files below a folder, and when the last of them was written."""
    size, last = 0, 0.0
    for path in (folder, *folder.rglob("*")):
        try:
            at = path.lstat()
        except OSError:  # it goes just now
            continue
        size += at.st_size if path.is_file() else 0
        last = max(last, at.st_mtime)
    return size, last


def choose(
    stored: Sequence[Stored],
    references: Iterable[Reference],
    needed: Collection[Key],
    retention: Retention,
    lost: Collection[Key] = (),
    now: datetime | None = None,
) -> list[Removal]:
    """Choose what goes.

    Args:
        stored: every artifact that is there.
        references: who refers to which of them, and was last asked for when.
        needed: what runs that go on read or make; it stays.
        retention: what is to stay.
        lost: aligned models whose audits are all gone.
        now: the time by which ages are told.
    """
    now = now or datetime.now(UTC)
    asked: dict[Key, datetime] = {}
    owners: dict[Key, set[str]] = defaultdict(set)
    for reference in references:
        for key in reference.artifacts:
            asked[key] = max(asked.get(key, _EVER), reference.asked)
            owners[key].add(reference.name)

    def removal(item: Stored, why: str) -> Removal:
        return Removal(item, tuple(sorted(owners.get((item.kind, item.key), ()))), why)

    idle = [item for item in stored if (item.kind, item.key) not in needed]
    chosen = [
        removal(item, f"it was not finished, and nobody went on with it since {item.made:%Y-%m-%d}")
        for item in idle
        if not item.whole and item.made < now - _A_DAY
    ]
    may_go = [item for item in idle if item.whole and (item.kind in PRUNED or (item.kind, item.key) in lost)]

    def last_use(item: Stored) -> datetime | None:
        return asked.get((item.kind, item.key))

    if retention.keep is not None:
        cutoff = now - retention.keep
        old = [item for item in may_go if max(last_use(item) or _EVER, item.made) < cutoff]
        chosen += [removal(item, _why(item, last_use(item))) for item in old]
        gone = set(old)
        may_go = [item for item in may_go if item not in gone]
    if retention.max_bytes is not None:
        left = sum(item.size for item in stored) - sum(each.item.size for each in chosen)

        def turn(item: Stored) -> tuple[datetime, int, datetime, str]:
            # what nobody refers to goes first, unless it is of a run that may still be taken up again
            last = last_use(item) or (item.made if item.made > now - _A_DAY else _EVER)
            return last, (*PRUNED, *STAYING).index(item.kind), item.made, item.key

        for item in sorted(may_go, key=turn):
            if left <= retention.max_bytes:
                break
            chosen.append(removal(item, f"to make room: {_why(item, last_use(item), old=False)}"))
            left -= item.size
    return chosen


def lost_alignments(home: Path, stored: Iterable[Stored]) -> set[Key]:
    """Return the aligned models whose audits are all gone: the one before, and every one that had it as a model."""
    models = [item for item in stored if item.kind == ALIGNMENTS and item.whole]
    if not models:
        return set()
    audited = set()
    for path in (home / AUDITS).glob(f"*/{RECORD}"):
        try:
            audited.add((json.loads(path.read_bytes()).get("alignment") or {}).get("id"))
        except (OSError, ValueError, AttributeError):
            return set()  # it might be the one
    lost = set()
    for item in models:
        try:
            (path,) = item.folder.glob(f"*/{RECORD_FILE}")
            record = read_alignment(path)
        except (OSError, ValueError, KodaError):
            continue
        if record.id not in audited and not (home / AUDITS / record.audit_id).exists():
            lost.add((item.kind, item.key))
    return lost


def _why(item: Stored, last: datetime | None, *, old: bool = True) -> str:
    if item.kind == ALIGNMENTS:
        return "the audits of this model are gone"
    if last is None:
        return f"no audit refers to it; made {item.made:%Y-%m-%d}"
    return f"no audit that refers to it was asked for {'since' if old else 'after'} {last:%Y-%m-%d}"


def _folders(parent: Path) -> list[Path]:
    try:
        with os.scandir(parent) as entries:
            return sorted(Path(e.path) for e in entries if e.is_dir(follow_symlinks=False) and e.name[0] != ".")
    except FileNotFoundError:
        return []


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
