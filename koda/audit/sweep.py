"""A sweep: many pairs of models on one or several data sets, an audit each, and a summary of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from koda.config import AuditConfig, PolicyRule, SweepConfig, data_label
from koda.policy import AuditFacts, Observation, observe
from koda.records import AuditRecord, SweepSide
from koda.storage import digest_json
from koda.typing import SIDES, Side


@dataclass(frozen=True)
class SweptAudit:
    """One audit of a sweep, before it runs."""

    data: str
    baseline: str
    candidate: str
    config: AuditConfig


def cell_figures(record: AuditRecord) -> dict[str, Any]:
    """Return the fields of a cell that say what an audit found and how far retrieval fell."""
    facts = AuditFacts(record.findings, record.data, record.metrics, record.controls, record.themes)

    def worst(figure: str) -> Observation | None:
        return next(iter(observe(figure, facts, PolicyRule(figure=figure, warn=0))), None)

    def side(name: Side) -> SweepSide:
        observation = worst(f"{name}.max_share")
        finding = None if observation is None else observation.finding
        return SweepSide(
            confirmed=sum(f.side == name and f.confirmed is True for f in record.findings),
            share=None if finding is None else finding.target_share.value,
            estimate=None if observation is None else observation.estimate,
            name="" if finding is None else finding.name,
            words=[] if finding is None else finding.words,
        )

    drop = worst("retrieval.drop")
    return {
        **{name: side(name) for name in SIDES},
        "retrieval_drop": None if drop is None else drop.estimate.value,
        "retrieval": None if drop is None else drop.estimate,
    }


def audits_of(config: SweepConfig) -> list[SweptAudit]:
    """Return the audits of a sweep, data set by data set and baseline by baseline."""
    one_baseline = config.baseline is not None and config.pairs != "all"
    baselines = [config.baseline] if config.baseline is not None and one_baseline else config.all_models
    return [
        SweptAudit(
            data_label(data),
            baseline.display_name,
            candidate.display_name,
            AuditConfig(
                baseline=baseline,
                candidate=candidate,
                data=data,
                discrepancy=config.discrepancy,
                significance=config.significance,
                zero_shot=config.zero_shot,
                policy=config.policy,
                waivers=config.waivers,
                report=config.report.model_copy(update={"title": None}),
            ),
        )
        for data in config.data
        for baseline in baselines
        for candidate in config.all_models
        if candidate != baseline
    ]


def sweep_id(audits: Sequence[SweptAudit], ids: Sequence[str | None]) -> str:
    """The id of a sweep; the same audits have the same one.

    Args:
        audits: of the sweep.
        ids: of each, None for one that could not be run; it is known by its configuration.
    """
    known = [audit.config.settings() if name is None else name for audit, name in zip(audits, ids, strict=True)]
    return "sweep-" + digest_json(known)[:12]
