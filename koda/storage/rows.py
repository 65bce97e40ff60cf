"""Records as rows of the database."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from koda.records import AlignmentRecord, AuditRecord, Estimate


def digest_of_record(record: AuditRecord) -> str:
    """Return the digest of a record as it is written."""
    return hashlib.sha256(record.to_json().encode()).hexdigest()


def audit_tables(record: AuditRecord, slices: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Turn the record of an audit into rows, by table."""
    audit = {"audit_id": record.id}
    theme_of = {subset: theme.number for theme in record.themes for subset in theme.findings}
    directions = []
    for finding in record.findings:
        row: dict[str, Any] = {
            **audit,
            **finding.model_dump(
                include={"side", "direction", "target", "reference", "target_energy", "reference_energy", "quotient"}
                | {"multiplier", "gap", "status", "p_value", "confirmed", "name", "words"}
            ),
            "theme": theme_of.get(finding.subset),
        }
        for name in ("target_share", "reference_share", "difference"):
            estimate = getattr(finding, name)
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        directions.append(row)
    metrics = [
        {
            **audit,
            "role": recall.role or recall.model,
            "model": recall.model,
            "subset": str(recall.subset),
            "figure": f"{name} {at}",
            "value": estimate.value,
            "low": estimate.low,
            "high": estimate.high,
            "n": recall.n,
        }
        for recall in record.metrics.retrieval
        for name, recalls in (("I2T", recall.image_to_text), ("T2I", recall.text_to_image))
        for at, estimate in recalls.items()
    ]
    rules = [
        {
            **audit,
            "place": place,
            "figure": rule.figure,
            "observed": None if rule.observed is None else rule.observed.value,
            "low": None if rule.observed is None else rule.observed.low,
            "high": None if rule.observed is None else rule.observed.high,
            **rule.model_dump(include={"warn", "fail", "result", "owner"}),
        }
        for place, rule in enumerate(record.verdict.rules)
    ]
    models = {
        model.fingerprint: model.model_dump(
            include={"fingerprint", "name", "pretrained", "architecture", "weights_digest", "config_digest"}
            | {"activation", "precision", "embedding_dim", "parameters"}
        )
        for model in (record.baseline, record.candidate)
    }
    data = record.data
    return {
        "audits": [
            {
                "id": record.id,
                "title": record.title,
                "started": record.started,
                "ended": record.ended,
                "verdict": record.verdict.status,
                "baseline": record.baseline.label,
                "candidate": record.candidate.label,
                "baseline_fingerprint": record.baseline.fingerprint,
                "candidate_fingerprint": record.candidate.fingerprint,
                "dataset": data.name,
                "dataset_digest": data.digest,
                "n_source": data.n_source,
                "n_compared": data.n_compared,
                "n_rejected": data.n_rejected,
                "record_version": record.version,
                "koda_version": record.provenance.koda_version,
                "config": json.dumps(record.config, sort_keys=True),
                "record_digest": digest_of_record(record),
            }
        ],
        "models": list(models.values()),
        "datasets": [data.model_dump(include={"digest", "name", "path", "n_source", "licence", "source"})],
        "rejections": [{**audit, "key": item.key, "reason": item.reason} for item in data.rejections],
        "directions": directions,
        "themes": [
            {**audit, **theme.model_dump(include={"side", "number", "name", "size", "confirmed"})}
            for theme in record.themes
        ],
        "slices": [{**audit, **row} for row in slices],
        "metrics": metrics,
        "rules": rules,
        "controls": _controls(record),
        "bandwidths": [
            {
                **audit,
                "side": finding.side,
                "direction": finding.direction,
                "tie": at.tie,
                **{name: getattr(at, name).value for name in ("target_share", "reference_share", "difference")},
            }
            for finding in record.findings
            for at in finding.bandwidths
        ],
        "artifacts": [
            {**audit, "step": step, "digest": digest} for step, digest in record.provenance.artifacts.items()
        ],
    }


def _controls(record: AuditRecord) -> list[dict[str, Any]]:
    """Return a row for each share that was put in, and for each model that was compared with itself."""
    if record.controls is None:
        return []
    empty = dict.fromkeys(("share", "size", "role", "noise", "trials"))
    rows = [
        {"kind": "spike-in", **empty, **row.model_dump(include={"share", "size", "trials", "confirmed"})}
        for row in record.controls.spike_ins
    ]
    rows += [
        {"kind": "self", **empty, **row.model_dump(include={"role", "noise", "confirmed"}), "trials": row.n_directions}
        for row in record.controls.self_controls
    ]
    return [{"audit_id": record.id, **row} for row in rows]


def alignment_tables(record: AlignmentRecord, follow_up: str, folder: str) -> dict[str, list[dict[str, Any]]]:
    """Turn the record of an alignment into rows, by table."""
    metrics: list[dict[str, Any]] = []

    def add(state: str, sample: str, subset: str, figure: str, value: Estimate | float, n: int) -> None:
        estimate = value if isinstance(value, Estimate) else Estimate(value=value)
        metrics.append(
            {
                "alignment_id": record.id,
                "state": state,
                "sample": sample,
                "subset": subset,
                "figure": figure,
                **estimate.model_dump(include={"value", "low", "high"}),
                "n": n,
            }
        )

    for score in record.clusters:
        for figure in ("ami", "nmi", "ari"):
            add(score.state, score.sample, "lobes", figure.upper(), getattr(score, figure), score.n)
    for share in record.shares:
        add(share.state, "held out", str(share.finding), "share", share.share, share.share.n or 0)
    for recall in record.retrieval:
        for name, recalls in (("I2T", recall.image_to_text), ("T2I", recall.text_to_image)):
            for at, estimate in recalls.items():
                add(recall.state, "held out", str(recall.subset), f"{name} {at}", estimate, recall.n)
    for accuracy in record.zero_shot:
        for at, estimate in accuracy.top.items():
            add(accuracy.state, "held out", str(accuracy.subset), at, estimate, accuracy.n)
    return {
        "alignments": [
            {
                **record.model_dump(
                    include={"id", "audit_id", "started", "ended", "student", "teacher", "side", "weights_digest"}
                    | {"kept_step", "stopped", "recovery"}
                ),
                "follow_up_id": follow_up,
                "folder": folder,
                "n_train": record.split.n_train,
                "n_held_out": record.split.n_held_out,
                "settings": json.dumps(record.settings, sort_keys=True),
            }
        ],
        "alignment_metrics": metrics,
    }
