"""The last step of an audit: draw the report, put its folder in place, and store it in the database."""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from koda.audit.plan import EVALUATIONS, RECORDS, REPORTS, AuditPlan
from koda.errors import ConfigError, StoreError
from koda.records import AuditRecord
from koda.storage import digest_file, write_atomically
from koda.storage.artifacts import explain_os_errors
from koda.storage.database import AuditStore

FILES = ("report.html", "report.pdf", "audit.json", "verdict.json", "slices.csv")
_MAY_LACK = {"report.pdf"}
_OF_A_FOLDER = (*FILES, "manifest.json")  # any of them tells the folder of an audit


def write_report(plan: AuditPlan) -> str:
    """Draw `report.html` and `report.pdf` of the stored record; return the digest of the artifact."""
    from koda.report import render

    source = plan.artifacts.folder(RECORDS, plan.record_key)
    record = AuditRecord.from_json((source / "audit.json").read_bytes())
    pictures = pq.ParquetFile(source / "thumbnails.parquet").read().to_pydict()
    folder = plan.artifacts.folder(REPORTS, plan.report_key)
    with explain_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        thumbnails = dict(zip(pictures["key"], pictures["jpeg"], strict=True))
        drawn = render(record, thumbnails, folder, pdf=plan.config.report.pdf)
    return plan.artifacts.complete(REPORTS, plan.report_key, {"notes": drawn.notes})


def publish(plan: AuditPlan, *, replace: bool, started: datetime, executed: int, steps: int) -> dict[str, Any]:
    """Put the audit's folder in place, store it in the database, and return what the command prints.

    Args:
        plan: the audit, all of whose steps are complete.
        replace: whether something was made anew, so that an existing folder is out of date.
        started: when this run began.
        executed, steps: how many steps were executed, and how many there are.
    """
    records = plan.artifacts.folder(RECORDS, plan.record_key)
    record = AuditRecord.from_json((records / "audit.json").read_bytes())
    folder = plan.home / "audits" / plan.audit_id
    with plan.artifacts.lock("audits", plan.audit_id):
        if replace or not _is_whole(folder):
            _assemble(plan, records, folder)
        store = AuditStore(plan.home)
        if replace or not store.has_audit(record.id):
            from koda.audit.evaluation import load_evaluation  # brings in torch, which a cached audit can do without

            evaluation = load_evaluation(plan.artifacts.folder(EVALUATIONS, plan.evaluation_key))
            store.add_audit(record, [{k: v for k, v in row.items() if k != "metadata"} for row in evaluation.slices])
        ended = datetime.now(UTC)
        store.add_run(
            {
                "run_id": uuid.uuid4().hex,
                "audit_id": record.id,
                "started": started,
                "ended": ended,
                "verdict": record.verdict.status,
                "steps_executed": executed,
                "steps_cached": steps - executed,
                "seconds": (ended - started).total_seconds(),
            }
        )
    notes = (plan.artifacts.info(REPORTS, plan.report_key) or {}).get("notes", [])
    return {
        "id": record.id,
        "verdict": record.verdict.status,
        "reasons": record.verdict.reasons,
        "findings": [
            {
                "side": finding.side,
                "direction": finding.direction,
                "name": finding.title,
                "words": finding.words,
                "target_share": finding.target_share.value,
                "reference_share": finding.reference_share.value,
                "p_value": finding.p_value,
                "confirmed": finding.confirmed,
            }
            for finding in record.findings
            if finding.confirmed is not False
        ],
        "themes": [theme.model_dump(mode="json") for theme in record.themes],
        "controls": None if record.controls is None else record.controls.model_dump(mode="json"),
        "could_have_seen": "" if record.controls is None else record.controls.in_words(),
        "paths": {
            "folder": str(folder),
            "html": str(folder / "report.html"),
            "pdf": str(folder / "report.pdf") if (folder / "report.pdf").is_file() else None,
            "record": str(folder / "audit.json"),
            "verdict": str(folder / "verdict.json"),
            "slices": str(folder / "slices.csv"),
            "manifest": str(folder / "manifest.json"),
            "database": str(store.path),
        },
        "notes": notes,
    }


def _is_whole(folder: Path) -> bool:
    """Tell whether a folder holds every file of its manifest, unchanged."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        return all(digest_file(folder / name) == entry["sha256"] for name, entry in manifest["files"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _assemble(plan: AuditPlan, records: Path, folder: Path) -> None:
    """Make the audit's folder beside its place and move it there whole."""
    reports = plan.artifacts.folder(REPORTS, plan.report_key)
    with explain_os_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            files = {}
            for name in FILES:
                source = next((path for path in (reports / name, records / name) if path.is_file()), None)
                if source is not None:
                    shutil.copyfile(source, temporary / name)
                    files[name] = {"size": source.stat().st_size, "sha256": digest_file(temporary / name)}
                elif name not in _MAY_LACK:
                    raise StoreError(
                        f"The audit {plan.audit_id} has no {name}: it is neither in {reports} nor in {records}.",
                        "It was removed while the audit ran; run the same command again.",
                    )
            manifest = {"audit": plan.audit_id, "files": files}
            write_atomically(temporary / "manifest.json", json.dumps(manifest, indent=2, sort_keys=True).encode())
            temporary.chmod(0o755)
            if folder.exists():
                old = temporary.with_name(temporary.name + ".old")
                folder.rename(old)
                temporary.rename(folder)
                shutil.rmtree(old, ignore_errors=True)
            else:
                temporary.rename(folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def read_published(home: Path, name: str) -> AuditRecord:
    """Read the record of an audit.

    Args:
        home: KODA_HOME.
        name: as for :func:`find_published`, or the path of a record that lies elsewhere.

    Raises:
        ConfigError: no audit of that name, or several.
        DataError: a file that is no audit record.
    """
    path = _existing(name)
    if path is None or not path.is_file() or path.name in _OF_A_FOLDER:
        path = find_published(home, name) / "audit.json"
    if not path.is_file():
        raise ConfigError(f"{path.parent} is not the folder of an audit: it has no audit.json.")
    return AuditRecord.from_json(path.read_bytes(), str(path))


def find_published(home: Path, name: str) -> Path:
    """Return the folder of an audit.

    Args:
        home: KODA_HOME.
        name: the id of an audit in it, the beginning of one, or the path of an audit's folder or of a file in it.

    Raises:
        ConfigError: no audit of that name, or several.
    """
    path = _existing(name)
    if path is not None and path.is_file():
        return path.parent
    if path is not None and any((path / file).exists() for file in _OF_A_FOLDER):
        return path
    folder = home / "audits"
    names = sorted(path.parent.name for path in folder.glob("[!.]*/audit.json")) if name and folder.is_dir() else []
    matches = [known for known in names if known == name] or [
        known for known in names if known.startswith((name, f"audit-{name}"))
    ]
    if len(matches) == 1:
        return folder / matches[0]
    if matches:
        raise ConfigError(f"{len(matches)} audits begin with {name!r}: {', '.join(matches)}.", "Give more of the id.")
    if path is not None:
        raise ConfigError(f"{path} is not the folder of an audit: it has no audit.json.")
    if "/" in name:
        raise ConfigError(f"There is no file or folder {name}.", "Give an audit's folder, or its id.")
    raise ConfigError(f"There is no audit {name!r} in {home}.", "koda history lists the audits.")


def _existing(name: str) -> Path | None:
    """Return a name as a path where there is something; most names of audits are none."""
    try:
        path = Path(name).expanduser()
        return path if name and path.exists() else None
    except (OSError, ValueError, RuntimeError):  # too long for a path, a NUL, ~nobody
        return None
