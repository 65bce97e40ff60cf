"""The sweep flow: an audit for each pair of models on each data set, embeddings shared, and a summary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.audit import audit
from flows.engine import koda_flow
from flows.failures import code_of_verdict, in_words, unexpected
from flows.limits import TimeLimitError, time_limit
from flows.runs import marked
from flows.terminal import watch
from koda.audit.folders import read_record
from koda.audit.making import measure
from koda.audit.plan import AuditPlan, prepare
from koda.audit.references import Key
from koda.audit.runs import Run, StepCost, needs_also
from koda.audit.sweep import SweptAudit, audits_of, cell_figures, sweep_id
from koda.config import SweepConfig
from koda.devices import device_of
from koda.errors import KodaError
from koda.extraction import KIND as EMBEDDINGS
from koda.parallel import current
from koda.records import SweepCell, SweepRecord
from koda.report.sweep import render_sweep
from koda.storage import write_atomically
from tasks.embed import embed
from tasks.plans import hand_over
from tasks.step import made_ahead, run_step


@koda_flow("koda-sweep")
def sweep(
    config: dict[str, Any], home: str, fresh: bool = False, strict: bool = False, minutes: float | None = None
) -> dict[str, Any]:
    """Audit every pair of a sweep. One that cannot be run is noted with its reason; the others go on.

    Args:
        config: a :class:`koda.config.SweepConfig` as JSON.
        home: KODA_HOME, an absolute path.
        fresh: execute every step of every audit again, a shared one once.
        strict: whether an inconclusive verdict counts as a failed one.
        minutes: after which an audit is ended; None for no limit.

    Returns:
        What `koda sweep --json` prints: the summary, and where it lies.
    """
    checked = SweepConfig.model_validate(config)
    audits, started = audits_of(checked), datetime.now(UTC)
    renewed: set[tuple[str, str]] | None = set() if fresh else None
    with marked(Path(home), sweep_id(audits, [None] * len(audits)), []) as run:
        cells = []
        measured, run = _measured_by_workers(audits, Path(home), run, renewed, minutes)
        for swept, ahead in zip(audits, measured, strict=True):
            cell, run = _audit(swept, Path(home), run, renewed, strict, minutes, ahead)
            cells.append(cell)
    record = SweepRecord(
        id=sweep_id(audits, [cell.audit for cell in cells]),
        title=checked.report.title or f"Sweep over {len(checked.all_models)} models",
        started=started,
        ended=datetime.now(UTC),
        data=list(dict.fromkeys(swept.data for swept in audits)),
        baselines=_in_order(checked, {swept.baseline for swept in audits}),
        candidates=_in_order(checked, {swept.candidate for swept in audits}),
        cells=cells,
    )
    folder = Path(home) / "sweeps" / record.id
    write_atomically(folder / "sweep.json", record.to_json().encode())
    write_atomically(folder / "sweep.html", render_sweep(record))
    paths = {"folder": str(folder), "html": str(folder / "sweep.html"), "record": str(folder / "sweep.json")}
    return {**record.model_dump(mode="json"), "exit_code": record.exit_code, "paths": paths}


@dataclass(frozen=True)
class _Ahead:
    """What is done for an audit before its turn.

    Args:
        costs: what its embeddings took that were made.
        wait: waits until a worker has searched and evaluated it, and returns what that took; None where it is left to
            the audit itself.
        late: that its time limit was reached, with which it ends.
    """

    costs: Mapping[Key, StepCost] = field(default_factory=dict)
    wait: Callable[[], Mapping[Key, StepCost]] | None = None
    late: TimeLimitError | None = None

    def all_costs(self) -> dict[Key, StepCost]:
        """Wait for the worker, and return what took what; what the worker could not do is left to the audit.

        Raises:
            TimeLimitError: the time limit was reached before.
        """
        if self.late is not None:
            raise self.late
        costs = dict(self.costs)
        if self.wait is not None:
            with suppress(KodaError):
                costs |= self.wait()
        return costs


def _audit(
    swept: SweptAudit,
    home: Path,
    run: Run,
    renewed: set[tuple[str, str]] | None,
    strict: bool,
    minutes: float | None,
    ahead: _Ahead,
) -> tuple[SweepCell, Run]:
    """Run one audit of a sweep; return what came of it, and the sweep as it is marked with what it needs of it.

    What a worker measures for it is waited for; where the worker failed, the audit does it, and says what is wrong.
    """
    names: dict[str, Any] = {"data": swept.data, "baseline": swept.baseline, "candidate": swept.candidate}
    try:
        with time_limit(minutes):
            costs = ahead.all_costs()
            plan = prepare(swept.config, home)
            run = needs_also(home, run, plan.needs())
            if renewed is not None:
                _discard(plan, renewed)
            with watch(plan), made_ahead(costs):
                result = audit(hand_over(plan).settings, str(home), trigger="sweep")
    except Exception as error:
        foreseen = in_words(error)
        code, why = (3, unexpected(error)) if foreseen is None else (foreseen.exit_code, str(foreseen))
        return SweepCell(**names, exit_code=code, error=why), run
    record = read_record(Path(result["paths"]["record"]))
    cell = SweepCell(
        **names,
        exit_code=code_of_verdict(record.verdict.status, strict),
        audit=record.id,
        verdict=record.verdict.status,
        reasons=record.verdict.reasons,
        report=f"../../audits/{record.id}/report.html",
        **cell_figures(record),
    )
    return cell, run


def _measured_by_workers(
    audits: Sequence[SweptAudit],
    home: Path,
    run: Run,
    renewed: set[tuple[str, str]] | None,
    minutes: float | None,
) -> tuple[list[_Ahead], Run]:
    """Embed what the audits need, and have the workers of the run search and evaluate them, each audit a part.

    Returns:
        For each audit what is done of it, which is nothing without workers, with a GPU that several parts would fight
        for, or where something is wrong with it, which the audit will say. And the sweep as it is marked.
    """
    workers = current()
    if workers is None or not workers.shares_home:
        return [_Ahead()] * len(audits), run
    done: list[_Ahead] = []
    for swept in audits:
        ahead = _Ahead()
        try:
            with time_limit(minutes):
                plan = prepare(swept.config, home)
                if device_of(plan.config.discrepancy.device).type == "cpu":
                    run = needs_also(home, run, plan.needs())
                    if renewed is not None:
                        _discard(plan, renewed)
                    costs = {
                        (step.kind, step.key): result.cost
                        for step in plan.steps()
                        if step.kind == EMBEDDINGS and (result := run_step(embed, step, plan, fresh=False)).executed
                    }
                    ahead = _Ahead(costs)
                    ahead = _Ahead(costs, workers.submit(measure, plan.settings, str(home)))
        except TimeLimitError as error:
            ahead = _Ahead(late=error)
        except Exception:  # the audit meets it again, and notes it in its cell
            pass
        done.append(ahead)
    return done, run


def _in_order(config: SweepConfig, labels: set[str]) -> list[str]:
    """Put models in the order of the configuration."""
    return [label for spec in config.all_models if (label := spec.display_name) in labels]


def _discard(plan: AuditPlan, renewed: set[tuple[str, str]]) -> None:
    """Put aside what an audit would find made, unless this sweep made it."""
    artifacts = {(step.kind, step.key) for step in plan.steps()}
    for kind, key in artifacts - renewed:
        with plan.artifacts.lock(kind, key):
            plan.artifacts.retire(kind, key)
    renewed |= artifacts
