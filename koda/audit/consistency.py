"""Whether what a KODA_HOME holds is whole and agrees with itself. Everything is read, nothing is written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from koda.audit.folders import AUDITS, FORMER_SIGNED, MANIFEST, RECORD, RUNS, read_record
from koda.audit.pruning import PRUNED
from koda.audit.retention import size_and_time
from koda.audit.runs import RUNNING, Run, crashed, running_now
from koda.audit.verification import verify_audit
from koda.checks import Check, State
from koda.config.amounts import size_in_words
from koda.errors import KodaError, StoreError
from koda.records import AuditRecord
from koda.storage import ArtifactStore, digest_json
from koda.storage.chain import CHAIN_HEAD, ChainHead, first_fault, head_fault
from koda.storage.checkpoints import CHECKPOINTS
from koda.storage.connection import DatabaseBusyError
from koda.storage.database import AuditStore
from koda.storage.exchanges import EXCHANGE, abandoned_exchanges
from koda.storage.marks import MARK, Mark
from koda.storage.rows import audit_tables, digest_of_record
from koda.storage.staging import ASIDE, STAGING, staged
from koda.storage.writing import is_locked, is_unfinished
from koda.wording import counted

_NO_KINDS = {"locks", "replaced"}
_AGAIN = "Run the command that made it again: what is damaged is made anew."
_PUT_BACK = "The command that ran the audit puts its files back."
_STORES = "The command that ran the audit stores it again; koda history --rebuild does so for all."
_LEFTOVER = "A process was killed there; an audit removes it, of another machine after a day, and you may."
_EXCHANGED = "koda prune removes them, and so does the next run that has workers."
_SIGNED = (
    "koda sign, koda report or koda annotate of the audit puts these signatures back, or removes what is replaced."
)


def check_store(home: Path) -> list[Check]:
    """Look at every artifact, audit, row, mark and leftover of a home.

    Args:
        home: KODA_HOME.
    """
    home_of = _Home(home)
    parts: tuple[tuple[str, Callable[[], Iterator[Check]]], ...] = (
        ("artifacts", home_of.artifacts),
        ("audits", home_of.audits),
        ("database", home_of.database),
        ("chain", home_of.chain),
        ("staging", home_of.staging),
        ("runs", home_of.runs),
        ("checkpoints", home_of.checkpoints),
        ("leftovers", home_of.leftovers),
    )
    found: list[Check] = []
    for name, look in parts:
        try:
            found += look()
        except KodaError as error:
            found.append(Check(name, "fault", error.message, error.remedy))
        except Exception as error:  # whatever it is, the others are still to be looked at
            found.append(Check(name, "fault", f"it cannot be looked at: {type(error).__name__}: {error}"))
    return found


@dataclass
class _Home:
    home: Path
    records: dict[str, AuditRecord] = field(default_factory=dict)  # those that can be read, by id

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(self.home / "artifacts")

    def artifacts(self) -> Iterator[Check]:
        """Compare every artifact with its mark, byte for byte."""
        whole = n_bytes = 0
        kinds = [kind for kind in _folders(self.store.root, _NO_KINDS) if not kind.name.startswith(PRUNED)]
        for folder in kinds:
            for place in _folders(folder):
                being_made = self.store.is_held(folder.name, place.name)
                problem = None if being_made else _problem(place)
                if being_made:
                    yield Check("artifacts", "ok", f"{place} is being made")
                elif problem is not None:
                    yield problem
                else:
                    whole += 1
                    n_bytes += sum(entry.size for entry in Mark.read(place).files.values())
        yield Check(
            "artifacts",
            "ok",
            f"{counted(whole, 'artifact')} whole, {n_bytes / 2**20:.1f} MiB, byte for byte as written",
        )
        for place in _folders(self.store.root / "replaced"):
            kind, _, key = place.name.partition("-")
            if not self.store.is_held(kind, key):
                yield Check("artifacts", "note", f"{place} was to be made anew, and was not", _AGAIN)

    def audits(self) -> Iterator[Check]:
        """Compare the folder of every audit, and of its former runs, with its manifest."""
        faults = former = 0
        for folder in _folders(self.home / AUDITS):
            if self.store.is_held(AUDITS, folder.name):
                yield Check("audits", "ok", f"{folder} is being put in place")
                continue
            before = faults
            places = [folder, *_folders(folder / RUNS)]
            former += len(places) - 1
            for place in places:
                for problem in _changed(place):
                    faults += 1
                    yield Check("audits", "fault", problem, _PUT_BACK if place == folder else None)
            if faults == before:
                record = read_record(folder / RECORD)
                self.records[record.id] = record
                if record.id != folder.name:
                    faults += 1
                    yield Check("audits", "fault", f"{folder} is the folder of another audit, {record.id}", _PUT_BACK)
        if not faults:
            words = f"{counted(len(self.records), 'audit')} and {counted(former, 'former run')} of them as written"
            yield Check("audits", "ok", words)

    def database(self) -> Iterator[Check]:
        """Compare the rows of every audit with its record."""
        store = AuditStore(self.home)
        if not store.path.is_file():
            state: State = "fault" if self.records and not staged(self.home) else "ok"
            remedy = _STORES if state == "fault" else None
            yield Check("database", state, f"{store.path} is not there", remedy)
            return
        try:
            rows = store.query("SELECT id, record_digest, verdict FROM audits")
            counts = {name: _counts(store, name) for name in _tables()}
        except DatabaseBusyError as error:
            yield Check("database", "note", error.message, error.remedy)
            return
        except StoreError as error:
            yield Check("database", "fault", error.message, error.remedy)
            return
        known = {row["id"]: row["record_digest"] for row in rows}
        verdicts = {row["id"]: row["verdict"] for row in rows}
        # rows that wait may be the ones that lack
        lacking: State = "note" if staged(self.home) else "fault"
        agreeing = 0
        for audit in sorted(known.keys() - self.records.keys()):
            if not (self.home / AUDITS / audit).exists():
                yield Check("database", "fault", f"{audit} has rows, and no folder in {self.home / AUDITS}", _STORES)
        for audit, record in sorted(self.records.items()):
            if audit not in known:
                yield Check("database", lacking, f"{audit} has a folder, and no rows in {store.path}", _STORES)
            elif known[audit] is None:
                yield Check("database", "note", f"{audit} was stored by an older koda, which kept no digest", _STORES)
            elif known[audit] != digest_of_record(record):
                yield Check("database", lacking, f"{audit}: its rows are of another record than its folder's", _STORES)
            elif verdicts[audit] != record.verdict.status:
                why = f"its verdict is {record.verdict.status} in its folder, and {verdicts[audit]} in the database"
                yield Check("database", "fault", f"{audit}: {why}", _STORES)
            elif different := _different(record, counts):
                yield Check("database", "fault", f"{audit}: rows are missing or too many: {different}", _STORES)
            else:
                agreeing += 1
        yield Check("database", "ok", f"{store.path}: {counted(agreeing, 'audit')} as in the records")

    def chain(self) -> Iterator[Check]:
        """Compute the rows of the chain again, and compare them with the head in the home."""
        store = AuditStore(self.home)
        if not store.path.is_file():
            return
        try:
            rows = store.query("SELECT * FROM chain ORDER BY seq")
        except StoreError:
            return  # what is wrong with the database is said of the database
        fault = first_fault(rows)
        head = self.home / CHAIN_HEAD
        if fault is None and head.is_file():
            fault = head_fault(rows, ChainHead.read(head))
        if fault is not None:
            remedy = f"Restore {store.path} from a copy; koda verify --chain --head FILE compares it with a head."
            yield Check("chain", "fault", f"{store.path}: {fault}", remedy)
        elif rows:
            yield Check("chain", "ok", f"{counted(len(rows), 'row')}, each on the one before it")

    def staging(self) -> Iterator[Check]:
        """Look at rows that wait to be merged, and those that could not be."""
        waiting = staged(self.home)
        for folder in waiting:
            if (problem := _unreadable_rows(folder)) is not None:
                yield Check("staging", "fault", problem, "The next run sets it aside; koda history --rebuild.")
        if waiting:
            words = f"{counted(len(waiting), 'folder')} of rows in {self.home / STAGING} to be merged"
            yield Check("staging", "note", words, "The next run stores them.")
        for folder in _folders(self.home / ASIDE):
            remedy = "koda history --rebuild stores its audit again; then it can be removed."
            yield Check("staging", "note", f"{folder} could not be stored", remedy)

    def runs(self) -> Iterator[Check]:
        """Look at the marks of runs."""
        for path in sorted((self.home / RUNNING).glob("[!.]*.json")):
            try:
                Run.from_json(path.read_bytes())
            except (OSError, ValueError) as error:
                yield Check("runs", "fault", f"{path} is no mark of a run: {error}", "Remove it.")
        for run in crashed(self.home):
            what = (
                f"{run.audit}, begun {run.started:%Y-%m-%d %H:%M} UTC by process {run.process} on {run.host}, crashed"
            )
            yield Check("runs", "note", what, "The next run, or koda history, notes that; run its command again.")
        for run in running_now(self.home):
            yield Check("runs", "ok", f"{run.audit} goes on, in process {run.process} on {run.host}")
        marked = {path.stem for path in (self.home / RUNNING).glob("*.json")}
        for path in sorted((self.store.root / "locks").glob("run-*.lock")):
            run_id = path.stem.removeprefix("run-")
            if run_id not in marked and not self.store.is_held("run", run_id):
                yield Check("runs", "note", f"{path} is the lock of no run", "Remove it.")

    def checkpoints(self) -> Iterator[Check]:
        """Compare the ledger of checkpoints with its table."""
        entries = {}
        for path in sorted((self.home / CHECKPOINTS).glob("[!.]*.json")):
            try:
                entry = json.loads(path.read_bytes())
                if "id" not in entry:
                    continue  # of the looks, which keep more there than entries
                seal = entry.pop("seal", None)
                if seal is not None and seal != digest_json(entry):
                    raise ValueError("its seal is of other content")
                entries[str(entry["id"])] = entry
            except (OSError, ValueError, TypeError, AttributeError) as error:
                remedy = "Remove it; koda watch looks at the checkpoint again."
                yield Check("checkpoints", "fault", f"{path} is no entry of a checkpoint: {error}", remedy)
        try:
            rows = {
                row["id"]: row for row in AuditStore(self.home).query("SELECT id, state, audit_id FROM checkpoints")
            }
        except StoreError as error:
            what = f"{counted(len(entries), 'checkpoint')} in the ledger, not compared with the table: {error.message}"
            yield Check("checkpoints", "note", what, error.remedy)
            return
        for name, entry in entries.items():
            row = rows.get(name)
            if row is None or (row["state"], row["audit_id"]) != (entry.get("state"), entry.get("audit_id")):
                what = (
                    f"{name} is {entry.get('state')} in the ledger, and {row['state'] if row else 'not'} in the table"
                )
                yield Check("checkpoints", "note", what, "The next look of koda watch stores it.")
        for name in sorted(rows.keys() - entries.keys()):
            what = f"{name} is in the table, and has no file in {self.home / CHECKPOINTS}"
            yield Check("checkpoints", "note", what, "koda watch may look at the checkpoint again.")
        if entries:
            yield Check("checkpoints", "ok", f"{counted(len(entries), 'checkpoint')} in the ledger")

    def leftovers(self) -> Iterator[Check]:
        """Look for what killed processes left behind."""
        staging = self.home / STAGING
        left = [
            *_temporary_files(self.home),
            *self.store.root.glob(f"{PRUNED}*"),
            *staging.glob(".new-*"),
            *(
                path
                for path in (self.home / AUDITS).glob(".audit-*")
                if not self.store.is_held(AUDITS, path.name.split(".")[1])
            ),
        ]
        # whoever stages rows holds the lock until his folder has its name: what is there before and after was left
        if self.store.is_held("database", STAGING):
            left = [path for path in left if staging not in path.parents]
        left = [path for path in left if not self._is_of_a_living(path) and path.exists()]
        yield from (Check("leftovers", "note", str(path), _LEFTOVER) for path in sorted(left))
        if exchanges := abandoned_exchanges(self.home):
            n_bytes = sum(size_and_time(folder)[0] for folder in exchanges)
            words = f"{counted(len(exchanges), 'folder')} in {self.home / EXCHANGE}, {size_in_words(n_bytes)}"
            yield Check("leftovers", "note", f"{words}, of runs that were killed", _EXCHANGED)
        for folder in _folders(self.home / AUDITS):
            former = [each / FORMER_SIGNED for each in (folder, *_folders(folder / RUNS))]
            if (former := [each for each in former if each.is_dir()]) and not self.store.is_held(AUDITS, folder.name):
                words = "koda was stopped while it signed"
                yield from (Check("leftovers", "note", f"{each}: {words}", _SIGNED) for each in former)

    def _is_of_a_living(self, path: Path) -> bool:
        """Tell whether a file is being written, or lies in an artifact that is being made."""
        parts = path.relative_to(self.home).parts
        return is_locked(path) or (
            len(parts) > 3 and parts[0] == "artifacts" and self.store.is_held(parts[1], parts[2])
        )


def _temporary_files(home: Path) -> list[Path]:
    """Return files that were to be renamed; folders that go meanwhile are passed over."""
    return [Path(folder, name) for folder, _, names in os.walk(home) for name in names if is_unfinished(Path(name))]


def _folders(parent: Path, without: set[str] | None = None) -> list[Path]:
    if not parent.is_dir():
        return []
    return sorted(
        path
        for path in parent.iterdir()
        if path.is_dir() and not path.name.startswith(".") and path.name not in (without or ())
    )


def _problem(place: Path) -> Check | None:
    """Return what is wrong with an artifact, if anything."""
    if not (place / MARK).is_file():
        if not any(place.iterdir()):
            return Check("artifacts", "note", f"{place} is empty", _AGAIN)
        return Check("artifacts", "note", f"{place} is unfinished", "The next run that needs it takes it up.")
    try:
        mark = Mark.read(place)
    except (OSError, ValueError) as error:
        return Check("artifacts", "fault", f"{place / MARK} is damaged: {error}", _AGAIN)
    if (fault := mark.fault(place)) is not None:
        return Check("artifacts", "fault", fault, _AGAIN)
    more = [
        path
        for path in sorted(place.rglob("*"))
        if path.is_file() and path.name != MARK and not path.name.startswith(".")
        and path.relative_to(place).as_posix() not in mark.files
    ]  # fmt: skip
    return Check("artifacts", "note", f"{more[0]} is in no mark", "Nothing reads it; remove it.") if more else None


def _changed(folder: Path) -> list[str]:
    """Say what of an audit's folder is not as its manifest says."""
    if not (folder / MANIFEST).is_file():
        return [f"{folder} has no {MANIFEST}"]
    _, checks = verify_audit(folder)
    return [f"{folder / check.name}: {check.problem}" for check in checks if check.problem is not None]


def _tables() -> tuple[str, ...]:
    return ("rejections", "directions", "themes", "metrics", "rules", "controls", "bandwidths", "artifacts")


def _counts(store: AuditStore, table: str) -> dict[str, int]:
    return {row["audit_id"]: row["n"] for row in store.query(f"SELECT audit_id, count(*) AS n FROM {table} GROUP BY 1")}


def _different(record: AuditRecord, counts: dict[str, dict[str, int]]) -> str:
    """Say in which tables an audit has other rows than its record."""
    wanted: dict[str, list[dict[str, Any]]] = audit_tables(record, [])
    found = [
        f"{name} has {there}, not {len(wanted.get(name, []))}"
        for name, by_audit in counts.items()
        if (there := by_audit.get(record.id, 0)) != len(wanted.get(name, []))
    ]
    return ", ".join(found)


def _unreadable_rows(folder: Path) -> str | None:
    if not (folder / MARK).is_file():
        return None  # an older koda staged them without
    try:
        return Mark.read(folder).fault(folder)
    except (OSError, ValueError) as error:
        return f"{folder / MARK} is damaged: {error}"
