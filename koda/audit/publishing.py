"""The last step of an audit: draw the report, put its folder in place, and store it in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from koda.audit.drawing import draw_with_annotations, read_thumbnails
from koda.audit.figures_of import figure_rows
from koda.audit.folders import (
    ANNOTATIONS,
    AUDITS,
    FILES,
    MANIFEST,
    OF_A_FOLDER,
    RECORD,
    assemble,
    changed_files,
    is_current,
    lacks_annotations,
    read_record,
    sweep,
)
from koda.audit.plan import EVALUATIONS, RECORDS, REPORTS, AuditPlan
from koda.audit.pruning import sweep_pruned
from koda.audit.references import note_references
from koda.audit.runs import Run, StepCost, step_rows
from koda.errors import ConfigError, KodaError, StoreError
from koda.records import AuditRecord
from koda.records.page_names import is_page_name
from koda.storage import digest_once
from koda.storage.database import AuditStore
from koda.storage.rows import digest_of_record
from koda.storage.writing import explain_os_errors
from koda.typing import SIDES

_MAY_LACK = {"report.pdf"}


def write_report(plan: AuditPlan) -> str:
    """Draw `report.html` and `report.pdf` of the stored record; return the digest of the artifact."""
    from koda.report import render

    record, thumbnails = plan.artifacts.read(RECORDS, plan.record_key, _read_record)
    folder = plan.artifacts.folder(REPORTS, plan.report_key)
    with explain_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        drawn = render(record, thumbnails, folder, pdf=plan.config.report.pdf)
    of = plan.artifacts.digest(RECORDS, plan.record_key)
    return plan.artifacts.complete(REPORTS, plan.report_key, {"notes": drawn.notes, "record": of})


def report_is_stale(plan: AuditPlan) -> bool:
    """Tell whether the report was drawn of a record that was made again since."""
    of = (plan.artifacts.info(REPORTS, plan.report_key) or {}).get("record")  # an older koda did not note it
    return of is not None and of != plan.artifacts.digest(RECORDS, plan.record_key)


def _read_record(folder: Path) -> tuple[AuditRecord, dict[str, bytes]]:
    """Read what the record step left: the record, and the thumbnails by key."""
    path = folder / RECORD
    return AuditRecord.from_json(path.read_bytes(), str(path)), read_thumbnails(folder)


def publish(plan: AuditPlan, run: Run, steps: Sequence[StepCost]) -> dict[str, Any]:
    """Put the audit's folder in place, store it in the database, and return what the command prints.

    What is there already is left alone, by digest. A database that cannot be written now stops nothing.

    Args:
        plan: the audit, all of whose steps are complete.
        run: this run of it.
        steps: what each of its steps took.
    """
    folder = plan.home / AUDITS / plan.audit_id
    store = AuditStore(plan.home)
    with plan.artifacts.lock(AUDITS, plan.audit_id):
        sweep(plan.artifacts, folder.parent, plan.audit_id)
        record, thumbnails = plan.artifacts.read(RECORDS, plan.record_key, _read_record)
        damaged = _damaged(folder)
        plan.artifacts.read(RECORDS, plan.record_key, lambda records: _put(plan, records, folder))
        if lacks_annotations(folder):
            damaged += _annotate_again(record, thumbnails, folder)
        if store.record_digest(record.id) != digest_of_record(record):
            from koda.audit.evaluation import load_evaluation  # brings in torch, which a cached audit can do without

            evaluation = plan.artifacts.read(EVALUATIONS, plan.evaluation_key, load_evaluation)
            slices = [{k: v for k, v in row.items() if k != "metadata"} for row in evaluation.slices]
            store.stage_audit(record, slices, figure_rows(record))
        executed = sum(step.executed for step in steps)
        counts = {"steps_executed": executed, "steps_cached": len(steps) - executed}
        note_references(plan.home, plan.audit_id, plan.needs())
        row = run.row("finished", datetime.now(UTC), verdict=record.verdict.status, **counts)
        store.stage_run(row, step_rows(run, steps))
        unstored = store.merged()
    sweep_pruned(plan.home)
    notes = (plan.artifacts.info(REPORTS, plan.report_key) or {}).get("notes", [])
    notes = [*damaged, *notes, *unstored]
    return {
        "id": record.id,
        "verdict": record.verdict.status,
        "reasons": record.verdict.reasons,
        "not_judged": record.verdict.left_out,
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
        "notes": [*_of_the_data(record), *_warnings(record), *notes],
    }


def _damaged(folder: Path) -> list[str]:
    """Say which files of an audit's folder are not as they were written, and are put back."""
    if not (folder / MANIFEST).is_file():
        return []
    try:
        changed = changed_files(folder)
    except StoreError:  # a manifest that cannot be read
        changed = [MANIFEST]
    return [
        f"{folder / name} is not as it was written; koda cannot make it again, and leaves it as it is."
        if name == ANNOTATIONS
        else f"{folder / name} was not as the audit wrote it, and is put back."
        for name in changed
    ]


def _annotate_again(record: AuditRecord, thumbnails: Mapping[str, bytes], folder: Path) -> list[str]:
    """Draw the report that was just put in place again, with the annotations that stayed; say why where it fails."""
    try:
        return draw_with_annotations(record, thumbnails, folder, pdf=(folder / "report.pdf").is_file())
    except KodaError as error:
        return [f"The report is without the annotations of {folder / ANNOTATIONS}: {error.message}"]


def _of_the_data(record: AuditRecord) -> list[str]:
    """Return what is to be known of how the data were read and of whose they are."""
    return [] if record.data.ledger is None else [f"{note}." for note in record.data.ledger.notes]


def _warnings(record: AuditRecord) -> list[str]:
    """Return what the searches warn of, each with its question."""
    sides = {side: getattr(record.method, side) for side in SIDES}
    return [f"{side}: {words}." for side, method in sides.items() for words in method.stats.get("warnings", [])]


def _put(plan: AuditPlan, records: Path, folder: Path) -> None:
    """Put the audit's folder in place, unless it is there as it is to be."""
    plan.artifacts.read(REPORTS, plan.report_key, lambda reports: _put_files(plan.audit_id, reports, records, folder))


def _put_files(audit: str, reports: Path, records: Path, folder: Path) -> None:
    sources = {}
    for name in FILES:
        source = next((path for path in (reports / name, records / name) if path.is_file()), None)
        if source is not None:
            sources[name] = source
        elif name not in _MAY_LACK:
            raise StoreError(
                f"The audit {audit} has no {name}: it is neither in {reports} nor in {records}.",
                "It was removed while the audit ran; run the same command again.",
            )
    sources |= {path.name: path for path in reports.iterdir() if is_page_name(path.name)}
    with explain_os_errors(folder):
        wanted = {name: digest_once(path) for name, path in sources.items()}
    if not is_current(folder, wanted):
        assemble(audit, sources, wanted, folder)


def read_published(home: Path, name: str) -> AuditRecord:
    """Read the record of an audit.

    Args:
        home: KODA_HOME.
        name: as for :func:`find_published`, or the path of a record that lies elsewhere.

    Raises:
        ConfigError: no audit of that name, or several.
        DataError: a file that is no audit record.
        StoreError: it is damaged.
    """
    path = _existing(name)
    if path is None or not path.is_file() or path.name in OF_A_FOLDER:
        path = find_published(home, name) / RECORD
    if not path.is_file():
        raise ConfigError(
            f"{path.parent} is not the folder of an audit: it has no {RECORD}.", "Give an audit's id, or its folder."
        )
    return read_record(path)


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
    if path is not None and any((path / file).exists() for file in OF_A_FOLDER):
        return path
    folder = home / AUDITS
    found = (path.parent.name for path in folder.glob("[!.]*/*") if path.name in OF_A_FOLDER)
    names = sorted(set(found)) if name and folder.is_dir() else []
    matches = [known for known in names if known == name] or [
        known for known in names if known.startswith((name, f"audit-{name}"))
    ]
    if len(matches) == 1:
        return folder / matches[0]
    if matches:
        raise ConfigError(f"{len(matches)} audits begin with {name!r}: {', '.join(matches)}.", "Give more of the id.")
    if path is not None:
        raise ConfigError(
            f"{path} is not the folder of an audit: it has no audit.json.", "Give an audit's id, or its folder."
        )
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
