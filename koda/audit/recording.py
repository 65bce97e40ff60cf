"""The record step: the verdict, the models, the data, the method, and where everything came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, assert_never

from koda.audit.aligned import AlignedModel
from koda.audit.controls import load_controls
from koda.audit.evaluation import Evaluation, load_evaluation
from koda.audit.line import with_line
from koda.audit.plan import CONTROLS, EVALUATIONS, RECORDS, SOLUTIONS, AuditPlan
from koda.audit.provenance import describe_hardware, describe_runner, describe_software
from koda.audit.samples import all_rejections, load_samples
from koda.audit.thumbnails import make_thumbnails, sizes_of
from koda.datasets import count_kinds
from koda.discrepancy import Solution
from koda.discrepancy.limits import EnergyLimit, FixedWeight, Limit, QuantileLimit, ShareLimit, limit_from
from koda.discrepancy.saving import load_solution
from koda.extraction import KIND as EMBEDDINGS
from koda.policy import AuditFacts, judge, retested
from koda.policy.export import verdict_json
from koda.records import (
    AuditRecord,
    DataRecord,
    IntendedUse,
    MethodRecord,
    ModelRecord,
    Provenance,
    RejectionRecord,
    SideMethod,
)
from koda.slicing.export import slices_csv
from koda.storage import digest_json, write_atomically
from koda.storage.digests import digest_keys
from koda.storage.parquet import write_parquet
from koda.typing import ROLES, SIDES, Role, Side, other_role, roles_of

_LISTED_REJECTIONS = 200


def write_record(plan: AuditPlan, started: datetime) -> str:
    """Write `audit.json`, `verdict.json`, `slices.csv` and the thumbnails; return the digest of the artifact."""
    key = plan.record_key
    folder = plan.artifacts.folder(RECORDS, key)
    evaluation = plan.artifacts.read(EVALUATIONS, plan.evaluation_key, load_evaluation)
    record = with_line(plan.home, build_record(plan, evaluation, started), evaluation.slices)
    write_atomically(folder / "slices.csv", slices_csv(evaluation.slices, plan.dataset.metadata_columns))
    write_parquet(folder / "thumbnails.parquet", _thumbnails(plan, record))
    write_atomically(folder / "verdict.json", verdict_json(record))
    write_atomically(folder / "audit.json", record.to_json().encode())
    return plan.artifacts.complete(RECORDS, key)


def build_record(plan: AuditPlan, evaluation: Evaluation, started: datetime) -> AuditRecord:
    """Put together what is known of an audit, and judge it."""
    config = plan.config
    infos = {role: plan.artifacts.info(EMBEDDINGS, plan.embedding_key(role)) or {} for role in plan.models}
    aligned = plan.aligned[0] if plan.aligned else None
    data = data_record(plan, evaluation, infos)
    controls = plan.artifacts.read(CONTROLS, plan.control_key, load_controls)
    before = None if aligned is None else _retested(plan, aligned, data)
    facts = AuditFacts(evaluation.findings, data, evaluation.metrics, controls, evaluation.themes, before)
    verdict = judge(config.policy, facts, config.waivers, plan.today)
    solutions: dict[Side, Solution] = {
        side: plan.artifacts.read(SOLUTIONS, plan.solution_key(side), load_solution) for side in SIDES
    }
    device = str(infos["baseline"].get("device", "cpu"))
    settings = config.settings(alignment=False)  # as in the record's key
    # both models are named, also where they are one that was embedded once
    searched = [step for step in plan.steps() if step.kind in (SOLUTIONS, CONTROLS, EVALUATIONS)]
    steps = [*map(plan.embed_step, ROLES), *searched]
    provenance = Provenance(
        **describe_software(),
        **describe_hardware(device),
        **describe_runner(),
        config_digest=digest_json(settings),
        artifacts={step.name: plan.artifacts.digest(step.kind, step.key) for step in steps},
    )
    models = {role: _model_record(plan, role, infos[role]) for role in plan.models}
    title = config.report.title or f"Candidate {plan.label('candidate')} against baseline {plan.label('baseline')}"
    return AuditRecord(
        id=plan.audit_id,
        title=title,
        started=started,
        ended=datetime.now(UTC),
        verdict=verdict,
        baseline=models["baseline"],
        candidate=models["candidate"],
        data=data,
        method=_method_record(plan, solutions),
        findings=evaluation.findings,
        themes=evaluation.themes,
        metrics=evaluation.metrics,
        looks=evaluation.looks,
        controls=controls,
        provenance=provenance,
        config=settings,
        intended_use=IntendedUse(**config.intended_use.model_dump()),
        crosswalk=plan.crosswalk,
        alignment=None if aligned is None else aligned.record,
    )


def _retested(plan: AuditPlan, aligned: AlignedModel, data: DataRecord) -> AuditFacts | None:
    """Return the findings of the audit before the alignment that count in this one."""
    teacher = plan.models[other_role(aligned.role)].fingerprint.digest
    return retested(aligned.record, aligned.role, teacher, data, plan.config.significance.alpha)


def _held_out(plan: AuditPlan) -> dict[str, Any]:
    """Name the confirmation samples by digest, and say whether an aligned model is known to have seen none of them."""
    if not plan.aligned:
        return {}
    digest = digest_keys(load_samples(plan).confirmation)
    # without a list the digest tells, where these are the very samples that the alignment held out
    unseen = all(item.seen is not None or item.record.split.held_out_digest == digest for item in plan.aligned)
    return {"confirmation_digest": digest, "unseen": unseen}


def _model_record(plan: AuditPlan, role: Role, info: dict[str, Any]) -> ModelRecord:
    spec = plan.models[role].spec
    return ModelRecord(
        label=plan.label(role),
        name=spec.name,
        pretrained=spec.pretrained,
        weights_file=plan.models[role].weights_file,
        licence=spec.licence,
        source=spec.source,
        **info["model"],
    )


def data_record(plan: AuditPlan, evaluation: Evaluation, infos: Mapping[Role, dict[str, Any]]) -> DataRecord:
    """Count what was compared and what was left out; too much of the latter stops the audit."""
    data, settings = plan.dataset, plan.config.data
    rejections = all_rejections(plan)
    return DataRecord(
        name=data.name,
        path=data.path,
        digest=data.digest,
        n_source=data.ledger.n_source,
        n_compared=evaluation.n_discovery + evaluation.n_confirmation,
        n_discovery=evaluation.n_discovery,
        n_confirmation=evaluation.n_confirmation,
        n_rejected=len(rejections),
        n_duplicate_images=data.n_duplicate_images,
        n_repeated_captions=_repeated(pair.caption for pair in data.pairs),
        n_empty_captions=data.n_empty_captions,
        format=data.format,
        n_long_captions={plan.label(role): int(infos[role]["n_long"]) for role in plan.models},
        rejections=[RejectionRecord(key=item.key, reason=item.reason) for item in rejections[:_LISTED_REJECTIONS]],
        rejection_reasons=count_kinds(rejections),
        metadata_columns=list(data.metadata_columns),
        licence=settings.licence,
        source=settings.source,
        datasheet=settings.datasheet,
        ledger=data.ledger.compared(
            ((item.kind, item.key, item.reason) for item in rejections),
            _altered(infos.values()),
            list(dict.fromkeys(note for info in infos.values() for note in info.get("notes", []))),
        ),
        **_held_out(plan),
    )


def _repeated(captions: Iterable[str | None]) -> int:
    """Return how many captions are those of more than one sample; empty ones are none."""
    return sum(n for caption, n in Counter(captions).items() if caption and n > 1)


def _altered(infos: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Return how many samples the models saw otherwise than they lie in the source; of two models the more."""
    most: Counter[str] = Counter()
    for info in infos:
        cut = {"caption cut at the context length": int(info["n_long"])} if info["n_long"] else {}
        most |= Counter({**info.get("altered", {}), **cut})
    return dict(most.most_common())


def _method_record(plan: AuditPlan, solutions: dict[Side, Solution]) -> MethodRecord:
    search, judged = plan.config.discrepancy, plan.config.significance
    deviations = [
        "Each problem is solved exactly, with a proved gap, instead of by a search over a grid of multipliers.",
        "Findings are tested on samples that the search did not see; the paper gives no such test.",
    ]
    limit = limit_from(search)
    if not isinstance(limit, QuantileLimit):
        deviations.insert(0, "The constraint is a share of the data set instead of a quantile of eigenvalues.")
    if search.kernel == "gaussian" and search.sigma == "auto":
        deviations.append("The bandwidth of each model is set by itself, to a typical tie of 0.3.")
    sides = {side: _side_method(plan, side, solution) for side, solution in solutions.items()}
    return MethodRecord(
        modality=search.modality,
        kernel=search.kernel,
        sigma_rule=_sigma_rule(solutions),
        eps_rule=_eps_rule(limit),
        seed=search.seed,
        split_seed=search.seed,
        materiality=judged.materiality,
        alpha=judged.alpha,
        lost=sides["lost"],
        gained=sides["gained"],
        deviations=deviations,
    )


def _eps_rule(limit: Limit) -> str:
    match limit:
        case FixedWeight(eta):
            return f"none: SPEC, the leading eigenvectors of K_target - {eta:g} K_reference"
        case EnergyLimit(eps):
            return f"absolute, {eps:g}"
        case QuantileLimit(quantile):
            return f"the {quantile:g} quantile of the reference's non-zero kernel eigenvalues, as in the paper"
        case ShareLimit(share):
            return f"reference share of at most {share:g} in the sample"
        case _:
            assert_never(limit)


def _sigma_rule(solutions: dict[Side, Solution]) -> str:
    """Say how the bandwidths were set, for each question where they differ."""
    rules = {side: solution.kernels.rule for side, solution in solutions.items()}
    if len(set(rules.values())) == 1:
        return rules["lost"]
    return "; ".join(f"{side}: {rule}" for side, rule in rules.items())


def _side_method(plan: AuditPlan, side: Side, solution: Solution) -> SideMethod:
    target, reference = roles_of(side)
    pair, stats = solution.kernels, dict(solution.stats)
    return SideMethod(
        target=plan.label(target),
        reference=plan.label(reference),
        eps=solution.eps,
        n=len(solution.keys),
        sigmas={"target": pair.target.bandwidths, "reference": pair.reference.bandwidths},
        sigma_curve=list(pair.curve),
        ties=dict(pair.ties),
        modality_ties={role: dict(ties) for role, ties in pair.modality_ties.items()},
        median_distances={role: dict(medians) for role, medians in pair.median_distances.items()},
        leading_eigenvalues=dict(pair.leading_eigenvalues),
        features=str(stats.get("features", "exact")),
        feature_error=stats.get("feature_error"),
        feature_error_bound=stats.get("feature_error_bound"),
        status=solution.status,
        n_directions=len(solution.directions),
        stats=stats,
    )


def _thumbnails(plan: AuditPlan, record: AuditRecord) -> dict[str, list[Any]]:
    """Make the thumbnails of every sample that the report shows, as columns key and jpeg; smaller ones beside a map."""
    size = plan.config.report.thumbnails
    sizes = sizes_of(record, size)
    thumbnails: dict[str, bytes] = {}
    for pixels in sorted(set(sizes.values()), reverse=True):
        pairs = [pair for pair in plan.dataset.pairs if sizes.get(pair.key) == pixels]
        thumbnails |= make_thumbnails(pairs, pixels)
    return {"key": list(thumbnails), "jpeg": list(thumbnails.values())}
