"""What refers to which artifacts, and when each audit was last asked for: by it `koda prune` knows what may go.

Every audit that is published leaves a note in `references/`. An audit of an older koda has none: then its record's
digests tell which artifacts are its own, and the database when it was asked for.
"""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from koda.audit.folders import AUDITS, RECORD
from koda.audit.plan import COVARIANCES
from koda.storage import ArtifactStore, digest_json, write_atomically
from koda.storage.database import AuditStore
from koda.storage.marks import Mark

REFERENCES = "references"
CALIBRATIONS = "calibrations"
Key = tuple[str, str]


@dataclass(frozen=True)
class Reference:
    """Who refers to artifacts.

    Args:
        name: id of an audit or a calibration.
        asked: when it was last asked for.
        artifacts: kind and key of each.
    """

    name: str
    asked: datetime
    artifacts: frozenset[Key]


def note_references(home: Path, name: str, artifacts: Iterable[Key]) -> None:
    """Note that an audit, or a calibration, was asked for just now, and what it refers to.

    Raises:
        StoreError: the disk is full, read-only or forbidden.
    """
    content = {"name": name, "asked": datetime.now(UTC).isoformat(), "artifacts": sorted(set(artifacts))}
    sealed = {**content, "seal": digest_json(content)}
    write_atomically(home / REFERENCES / f"{name}.json", json.dumps(sealed, indent=1).encode())


def noted_references(home: Path) -> tuple[list[Reference], list[str]]:
    """Return what the notes say, and in words which of them are damaged."""
    found, notes = [], []
    for path in sorted((home / REFERENCES).glob("[!.]*.json")):
        try:
            raw = json.loads(path.read_bytes())
            if raw.pop("seal") != digest_json(raw):
                raise ValueError("its seal is of other content")
            artifacts = frozenset((str(kind), str(key)) for kind, key in raw["artifacts"])
            found.append(Reference(str(raw["name"]), datetime.fromisoformat(raw["asked"]), artifacts))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            notes.append(
                f"{path} is damaged ({error}); the record of {path.stem} tells which artifacts are its own, and the "
                "next run of it writes the note again"
            )
    return found, notes


def older_references(home: Path, noted: Iterable[str], kept: Iterable[Key]) -> tuple[list[Reference], list[str]]:
    """Return what the records of audits and calibrations without a note refer to, by the digests of artifacts.

    A record does not name the covariances that its searches left: those that no note names belong to all of these.

    Args:
        home: KODA_HOME.
        noted: names that have a note.
        kept: kind and key of every artifact that is there.

    Raises:
        StoreError: the database, which alone says when they were last asked for, cannot be read.
    """
    has_note = set(noted)
    paths = [*(home / AUDITS).glob(f"[!.]*/{RECORD}"), *(home / CALIBRATIONS).glob("[!.]*/calibration.json")]
    paths = sorted(path for path in paths if path.parent.name not in has_note)
    if not paths:
        return [], []
    keys_of = _keys_by_digest(home, kept)
    last_runs = {row["audit_id"]: row["last"] for row in _last_runs(home)}
    store, found, notes = ArtifactStore(home / "artifacts"), [], []
    for path in paths:
        name = path.parent.name
        try:
            record = json.loads(path.read_bytes())
            digests, ended = _told(record)
            named = store.named_in(record.get("config"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            notes.append(f"{path} cannot be read ({error}): what it alone refers to counts as nobody's")
            continue
        own = frozenset([*named, *(key for digest in digests for key in keys_of.get(digest, ()))])
        found.append(Reference(name, max(ended, last_runs.get(name) or ended), own))
    return found, notes


def with_covariances(older: Iterable[Reference], noted: Iterable[Reference], kept: Iterable[Key]) -> list[Reference]:
    """Add to the references of older records the covariances that no note names: theirs are among them."""
    named = {key for reference in noted for key in reference.artifacts}
    unclaimed = frozenset(key for key in kept if key[0] == COVARIANCES and key not in named)
    return [Reference(each.name, each.asked, each.artifacts | unclaimed) for each in older]


def _told(record: Mapping[str, Any]) -> tuple[list[str], datetime]:
    """Return the digests of artifacts in a record of any version, and when it was made."""
    if "provenance" in record:
        digests = [str(digest) for digest in record["provenance"]["artifacts"].values()]
    else:
        digests = [str(audit["evaluation_digest"]) for audit in record["audits"]]
    ended = datetime.fromisoformat(record["ended"])
    return digests, ended if ended.tzinfo else ended.replace(tzinfo=UTC)


def _keys_by_digest(home: Path, kept: Iterable[Key]) -> Mapping[str, list[Key]]:
    found: dict[str, list[Key]] = defaultdict(list)
    for kind, key in kept:
        with contextlib.suppress(OSError, ValueError):  # unfinished or damaged: nobody's
            found[Mark.read(home / "artifacts" / kind / key).digest].append((kind, key))
    return found


def _last_runs(home: Path) -> list[dict[str, Any]]:
    return AuditStore(home).query("SELECT audit_id, max(ended) AS last FROM runs GROUP BY audit_id")
