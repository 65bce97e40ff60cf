"""Are the verdicts right? Pairs of small CLIPs of which it is known what is wrong with them, under the default policy.

    python benchmarks/verdicts.py
    python benchmarks/verdicts.py --models rotated "grey training" --subsamples 0 1

Some minutes of training on two cores make the models (verdict_models.py); they, and their embeddings of a pool of
scenes that no training saw (verdict_pool.py), stay in the work folder, and a second call audits at once. Each pair is
audited over five subsamples of the pool as it would be by ``koda audit``, report apart, with all settings at their
defaults: from folders of embeddings, and, over the first two of them, from the checkpoints with zero-shot classes, the
eight colours. What is right:

- a second seed, a later epoch, an improvement and a little noise never FAIL;
- grey training, a colour left out and an earlier epoch never PASS, since R@1 on the pool falls, which is measured;
- a text tower that is turned by a random orthogonal matrix FAILs: retrieval is gone, though no kernel sees it.

Results are written to verdicts.json and verdicts.md beside this file; those of a call that leaves pairs or subsamples
out are printed, and written to the work folder.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import datetime
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.verdict_models import ROTATED, RUNS, train_all, training_seconds  # noqa: E402
from benchmarks.verdict_pool import (  # noqa: E402
    NOISE,
    drop,
    embed,
    make_pool,
    write_subsample,
)
from benchmarks.verdict_table import is_right, short, table  # noqa: E402
from koda.audit.controls import control  # noqa: E402
from koda.audit.evaluation import evaluate  # noqa: E402
from koda.audit.plan import RECORDS, prepare  # noqa: E402
from koda.audit.recording import write_record  # noqa: E402
from koda.audit.solutions import discover  # noqa: E402
from koda.config import AuditConfig  # noqa: E402
from koda.demo.scenes import caption, sample_scenes  # noqa: E402
from koda.extraction import KIND as EMBEDDINGS  # noqa: E402
from koda.extraction import extract  # noqa: E402
from koda.records import ALL, AuditRecord  # noqa: E402
from koda.storage import ArtifactStore  # noqa: E402
from koda.typing import ROLES, SIDES  # noqa: E402

N = 2000  # pairs of a subsample
SUBSAMPLES = 5
ZERO_SHOT_SUBSAMPLES = 2  # the first of them
TEMPLATES = [caption(scene, row, colour="{}") for row, scene in enumerate(sample_scenes(24, 13))]
FOLDERS, CHECKPOINTS = "folders", "checkpoints"


@dataclass(frozen=True)
class Case:
    """A candidate beside a baseline, and which verdicts on it are right."""

    candidate: str
    right: str  # "not fail", "not pass" or "fail"
    baseline: str = "baseline"
    of_left_out: bool = False  # what it loses is measured on the colour that it never saw


CASES = {
    "second seed": Case("seed", "not fail"),
    "later epoch": Case("later", "not fail"),
    "improvement": Case("baseline", "not fail", baseline="earlier"),
    "noise of 5 %": Case(NOISE, "not fail"),
    "earlier epoch": Case("earlier", "not pass"),
    "one colour left out": Case("left-out", "not pass", of_left_out=True),
    "grey training": Case("grey", "not pass"),
    "rotated text tower": Case(ROTATED, "fail"),
}


def audited(settings: dict[str, Any], home: Path) -> AuditRecord:
    """Carry out an audit up to its record."""
    plan = prepare(AuditConfig.model_validate(settings), home)
    for role in ROLES:
        extract(plan.artifacts, plan.dataset, plan.models[role], device=plan.config.discrepancy.device)
    for side in SIDES:
        discover(plan, side)
    control(plan)
    # the curves of the quotients are a third of the time of an audit, and no rule reads them
    with patch("koda.audit.metrics.quantile_sweep", return_value=()):
        evaluate(plan)
    write_record(plan, datetime.datetime.now(datetime.UTC))
    return AuditRecord.from_json((plan.artifacts.folder(RECORDS, plan.record_key) / "audit.json").read_bytes())


def figures(record: AuditRecord, seconds: float) -> dict[str, Any]:
    """Return what is kept of an audit: the verdict, why, and the retrieval of both models, both ways together."""
    recalls: dict[str, dict[str, float]] = {}
    for each in record.metrics.retrieval:
        if each.subset == ALL and each.role is not None:
            ways = (each.image_to_text, each.text_to_image)
            recalls[each.role] = {k: sum(way[k].value for way in ways) / 2 for k in ("R@1", "R@10")}
    accuracies = {}
    if record.metrics.zero_shot is not None:
        found = record.metrics.zero_shot.accuracies
        accuracies = {each.role: each.top["top-1"].value for each in found if each.subset == ALL}
    rules = [
        {
            "figure": str(rule.figure),
            "result": rule.result,
            "observed": None if rule.observed is None else rule.observed.value,
            "low": None if rule.observed is None else rule.observed.low,
            "warn": rule.warn,
            "fail": rule.fail,
            "finding": None if rule.finding is None else str(rule.finding),
        }
        for rule in record.verdict.rules
    ]
    return {
        "status": record.verdict.status,
        "reasons": list(record.verdict.reasons),
        "rules": rules,
        "recall": recalls,
        "zero_shot": accuracies,
        "n": record.data.n_compared,
        "seconds": round(seconds, 1),
    }


def settings_of(case: Case, place: Path, way: str, models: Path) -> dict[str, Any]:
    """Return the configuration of an audit: what is compared, and all else at its default."""
    pair = {"baseline": case.baseline, "candidate": case.candidate}
    if way == FOLDERS:
        named = {role: {"name": f"embeddings:{place / name}", "label": name} for role, name in pair.items()}
        return {**named, "data": {"path": str(place / case.baseline), "format": "embeddings"}}
    named = {role: {"name": f"local-dir:{models / name}", "label": name} for role, name in pair.items()}
    data = {"path": str(place / "pairs.tsv"), "images": str(models.parent / "pool")}
    return {**named, "data": data, "zero_shot": {"column": "colour", "templates": TEMPLATES}}


@dataclass(frozen=True)
class Audit:
    """One audit to carry out: the case, the number of the subsample, and where its embeddings or pictures lie."""

    way: str
    case: str
    number: int
    place: Path
    work: Path

    def __call__(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what is kept of it, and with which software it ran."""
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory(dir=self.work, prefix="home-") as home:
            # the embeddings of a model are none of what is judged, and are kept; all later steps are done anew
            kept = self.work / "artifacts" / EMBEDDINGS
            (Path(home) / "artifacts").mkdir()
            (Path(home) / "artifacts" / EMBEDDINGS).symlink_to(kept)
            record = audited(settings_of(CASES[self.case], self.place, self.way, self.work / "models"), Path(home))
        result = {"subsample": self.number, **figures(record, time.perf_counter() - begun)}
        result["right"] = is_right(CASES[self.case].right, result["status"])
        return result, record.provenance.model_dump(mode="json")


def run(
    cases: Sequence[str], subsamples: Sequence[int], ways: Sequence[str], work: Path, jobs: int
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Train, embed and audit; yield way -> case -> a result of each subsample, and what was measured beside, so far."""
    models = work / "models"
    train_all(models, list(RUNS))
    pool = make_pool(work / "pool")
    names = sorted({name for case in cases for name in (CASES[case].baseline, CASES[case].candidate)})
    tables = {name: embed(pool, models, name, ArtifactStore(work / "artifacts")) for name in names}
    measured = {
        name: drop(tables[CASES[name].baseline], tables[CASES[name].candidate], of_left_out=CASES[name].of_left_out)
        for name in cases
    }
    results: dict[str, Any] = {way: {case: [] for case in cases} for way in ways}
    begun = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(dir=work, prefix="subsamples-") as folder,
        ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,)) as workers,
    ):
        places = {number: Path(folder) / str(number) for number in subsamples}
        for number, place in places.items():
            write_subsample(pool, tables, pool.subsample(number, N), place)
        audits = [
            Audit(way, case, number, places[number], work)
            for way in ways
            for number in subsamples[: ZERO_SHOT_SUBSAMPLES if way == CHECKPOINTS else None]
            for case in cases
            if not (way == CHECKPOINTS and CASES[case].candidate == NOISE)  # which is no model
        ]
        for audit, (result, provenance) in zip(audits, workers.map(Audit.__call__, audits), strict=True):
            results[audit.way][audit.case].append(result)
            print(f"{audit.way}, {audit.number}, {audit.case}: {short(result)}", file=sys.stderr, flush=True)
            yield (
                results,
                {
                    "drop": measured,
                    "pool": len(pool.keys),
                    "pairs": N,
                    "subsamples": list(subsamples),
                    "training_seconds": training_seconds(models),
                    "seconds": round(time.perf_counter() - begun),
                    "jobs": jobs,
                    "load": round(os.getloadavg()[2], 1),
                    "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                    "software": provenance,
                },
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(CASES), default=list(CASES), help="default: all")
    parser.add_argument("--subsamples", nargs="+", type=int, default=list(range(SUBSAMPLES)))
    parser.add_argument("--ways", nargs="+", choices=[FOLDERS, CHECKPOINTS], default=[FOLDERS, CHECKPOINTS])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "koda-verdicts")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="audits at a time")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    work = options.work.resolve()
    whole = (set(options.models), len(options.subsamples), len(options.ways)) == (set(CASES), SUBSAMPLES, 2)
    out, told = HERE if whole else work, ""
    for results, what in run(options.models, options.subsamples, options.ways, work, options.jobs):
        told = table(results, {name: case.right for name, case in CASES.items()}, what)
        (out / "verdicts.json").write_text(json.dumps({"what": what, "results": results}, indent=1) + "\n")
        (out / "verdicts.md").write_text(told)
    print(told)


if __name__ == "__main__":
    main()
