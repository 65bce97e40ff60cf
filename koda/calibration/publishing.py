"""The end of a calibration: figures of the audits, limits from them, and the record and policy file in place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import yaml

from koda._version import __version__
from koda.audit.evaluation import load_evaluation
from koda.audit.identity import without_places
from koda.audit.plan import EVALUATIONS, AuditPlan
from koda.audit.recording import data_record
from koda.audit.references import note_references
from koda.calibration.bounds import LEVEL
from koda.calibration.limits import METHOD, calibrated, seen_figure
from koda.calibration.plan import CalibrationPlan, EqualsPlan, needs_of
from koda.errors import DataError
from koda.extraction import KIND as EMBEDDINGS
from koda.policy import AuditFacts, check_policy, default_policy
from koda.records import CalibrationRecord, EqualModel, EqualsAudit
from koda.storage import digest_json, write_atomically
from koda.typing import ROLES
from koda.wording import counted, one_line

_CALIBRATION_VERSION = 1


def publish_calibration(
    plan: CalibrationPlan, audits: Sequence[EqualsPlan], started: datetime
) -> tuple[CalibrationRecord, dict[str, str]]:
    """Write `calibration.json` and `policy.yaml` of audits that are done; return the record and the paths.

    Raises:
        DataError: a subsample on which nothing could be tested.
        StoreError: the disk is full or read-only.
    """
    facts = [_facts(equals) for equals in audits]
    labels = plan.labels
    # the default depends on what was measured: here on the whole data set, as in the audits that it is for
    in_force = default_policy(facts[0]) if plan.config.policy is None else plan.config.policy
    seen = [[seen_figure(rule, of_one) for rule in in_force] for of_one in facts]
    rules, accounts = calibrated(in_force, seen, facts[0], len(labels))
    check_policy(rules, (), plan.config.significance.stability)
    settings = plan.config.settings(alignment=False)
    policy = [rule.model_dump(mode="json", exclude_none=True) for rule in rules]
    keys = [equals.audit.evaluation_key for equals in audits]
    content = without_places(settings)
    record = CalibrationRecord(
        id="calibration-" + digest_json([_CALIBRATION_VERSION, __version__, keys, labels, content])[:12],
        started=started,
        ended=datetime.now(UTC),
        koda_version=__version__,
        models=_models(plan),
        data_name=plan.dataset.name,
        data_path=plan.dataset.path,
        data_digest=plan.dataset.digest,
        n_source=plan.dataset.n_source,
        subsamples=plan.subsamples,
        size=plan.size,
        seed=plan.config.discrepancy.seed,
        level=LEVEL,
        method=METHOD,
        audits=[
            EqualsAudit(
                baseline=labels[equals.baseline],
                candidate=labels[equals.candidate],
                subsample=equals.subsample,
                data_digest=equals.audit.dataset.digest,
                evaluation_digest=equals.audit.artifacts.digest(EVALUATIONS, key),
                n_compared=of_one.data.n_compared,
                n_confirmed=sum(finding.confirmed is True for finding in of_one.findings),
                figures=figures,
            )
            for equals, key, of_one, figures in zip(audits, keys, facts, seen, strict=True)
        ],
        rules=accounts,
        policy=policy,
        config=settings,
    )
    folder = plan.home / "calibrations" / record.id
    write_atomically(folder / "policy.yaml", policy_yaml(record).encode())
    write_atomically(folder / "calibration.json", record.to_json().encode())
    note_references(plan.home, record.id, needs_of(audits))
    names = {"record": "calibration.json", "policy": "policy.yaml"}
    return record, {"folder": str(folder), **{name: str(folder / file) for name, file in names.items()}}


def policy_yaml(record: CalibrationRecord) -> str:
    """Return the policy as YAML: the key `policy:` of a configuration, under comments that say where it is from."""
    names = one_line(", ".join(json.dumps(model.label, ensure_ascii=False) for model in record.models))
    lines = [
        f"# The policy of {record.id}, whose calibration.json has the figures: "
        f"{counted(len(record.audits), 'audit')} of models",
        f"# held for equal ({names})",
        f"# on {counted(record.n_source, 'row')} and on {counted(record.subsamples, 'subsample')} of {record.size} of "
        "them.",
        "# It takes the place of `policy:` in the configuration of an audit.",
    ]
    absent = [rule.figure for rule in record.rules if rule.note is not None]
    if absent:
        lines.append(f"# Kept as they were, since too few of the audits have the figure: {', '.join(absent)}.")
    text = yaml.safe_dump({"policy": record.policy}, sort_keys=False, allow_unicode=True, width=100)
    return "\n".join(lines) + "\n" + text


def _facts(equals: EqualsPlan) -> AuditFacts:
    """Return what the rules look at in one audit of equals."""
    plan = equals.audit
    evaluation = plan.artifacts.read(EVALUATIONS, plan.evaluation_key, load_evaluation)
    untested = next((finding for finding in evaluation.findings if finding.confirmed is None), None)
    if untested is not None:
        raise DataError(
            f"{plan.dataset.name} has too few rows, {plan.dataset.n_source}: a finding could not be tested "
            f"({untested.note or 'too few samples were held out'}).",
            "Take a larger --size, or add samples.",
        )
    infos = {role: _info_of_part(plan, plan.artifacts.info(EMBEDDINGS, plan.embedding_key(role))) for role in ROLES}
    return AuditFacts(
        evaluation.findings, data_record(plan, evaluation, infos), evaluation.metrics, themes=evaluation.themes
    )


def _info_of_part(plan: AuditPlan, info: dict[str, Any] | None) -> dict[str, Any]:
    """Return what is noted of the embeddings of the whole as that of a part.

    Which captions are too long is not noted, only how many; a part is taken to have as large a share of them.
    """
    noted = info or {}
    share = len(plan.dataset.pairs) / len(plan.embedded.pairs)
    return {**noted, "n_long": round(share * noted.get("n_long", 0))}


def _models(plan: CalibrationPlan) -> list[EqualModel]:
    return [
        EqualModel(
            label=label,
            name=model.spec.name,
            pretrained=model.spec.pretrained,
            weights_digest=model.fingerprint.weights,
            fingerprint=model.fingerprint.digest,
            precision=model.fingerprint.precision,
        )
        for label, model in zip(plan.labels, plan.models, strict=True)
    ]
