"""What the evaluation measures beside the findings: retrieval, cluster scores, curves, and the models as a whole."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from koda.audit.plan import AuditPlan
from koda.audit.samples import Samples
from koda.audit.zero_shot import zero_shot
from koda.config import DiscrepancyConfig, modalities_of
from koda.discrepancy import Problem, QuantilePoint, Solution, quantile_sweep
from koda.embeddings import EmbeddingTable
from koda.embeddings.join import MIN_SAMPLES
from koda.embeddings.rows import drawn_keys
from koda.errors import KodaError
from koda.metrics.by_value import by_value, groups_of
from koda.metrics.clustering import cluster_scores, tops
from koda.metrics.identity import image_ids, with_captions_and_images
from koda.metrics.retrieval import Recall, SubsetRecalls, retrieval_by_subset
from koda.metrics.sampling import queries_for_many, queries_of_parts
from koda.metrics.similarity import global_similarity
from koda.metrics.zero_shot import ClassRanks
from koda.records import (
    ClusterScores,
    Finding,
    LobeRecord,
    Metrics,
    QuotientCurve,
    QuotientPoint,
    RecallRecord,
    Subset,
    WholeSimilarity,
)
from koda.slicing.duplicates import MAX_MEMBERS, near_duplicate_share
from koda.slicing.slices import Lobe, Slice
from koda.typing import ROLES, Role, Side, roles_of

_CURVE_SAMPLES = 1000  # of the discovery samples, in the search at each quantile
_CURVE_DIRECTIONS = 5
_CURVE_TOLERANCE = 0.01  # proved; the energies are far nearer, and it is a curve to look at

SlicesBySide = Mapping[Side, Sequence[Slice]]


def measure(
    plan: AuditPlan,
    samples: Samples,
    solutions: Mapping[Side, Solution],
    pieces: SlicesBySide,
    findings: Sequence[Finding],
    drawn: Sequence[str] | None = None,
) -> tuple[Metrics, Mapping[Role, ClassRanks]]:
    """Return the figures beside the findings, and the zero-shot ranks of all labelled samples that some are made of.

    Args:
        plan: of the audit.
        samples: of both models, joined.
        solutions: the directions of each side.
        pieces: their slices.
        findings: what the held-out test said of them.
        drawn: the samples that ask in retrieval for all, see :func:`queries_drawn`.
    """
    confirmed = _confirmed(pieces, findings)
    subsets = _by_split(confirmed, samples.confirmation)
    tied = {side: tops([piece.positive.keys for piece in of_side]) for side, of_side in pieces.items()}
    chosen = {Subset(side): tuple(labels) for side, labels in tied.items() if labels}
    retrieval = _retrieval(plan, samples, {**chosen, **subsets}, {**chosen, **confirmed}, drawn)
    accuracies, class_ranks = zero_shot(plan, samples, subsets)
    whole = _whole(plan, samples)
    looked_at = {} if plan.is_brief else tied  # of what no rule may limit: cluster scores and curves
    metrics = Metrics(
        queries="held out" if samples.is_aligned else "all",
        asked=len(drawn) if drawn is not None and retrieval else None,
        retrieval=_recalls(plan, retrieval),
        retrieval_differences=[part.difference for part in retrieval if part.difference is not None],
        zero_shot=accuracies,
        **_by_value(plan, samples, retrieval[0].recalls if retrieval else {}, class_ranks, drawn),
        clusters=[score for side, labels in looked_at.items() for score in _clusters(plan, samples, side, labels)],
        quotients=[curve for side in looked_at if (curve := _quotients(plan, samples, side, solutions[side]))],
        whole=whole,
    )
    return metrics, class_ranks


def queries_drawn(plan: AuditPlan, samples: Samples) -> list[str] | None:
    """Return the samples that ask in retrieval for all where all are too many; None where all ask."""
    images = _images(plan, samples.queries)
    return queries_for_many(samples.queries, images, samples.baseline.n, plan.config.discrepancy.seed)


def _images(plan: AuditPlan, keys: Sequence[str]) -> dict[str, str]:
    """Return key -> what tells its image apart."""
    return dict(zip(keys, image_ids(keys, plan.dataset.by_key), strict=True))


def with_duplicates(
    plan: AuditPlan, samples: Samples, pieces: SlicesBySide, findings: Sequence[Finding], row_of: Mapping[str, int]
) -> list[Finding]:
    """Return the findings, whose lobes now say how many of their members have a near-duplicate among them.

    Args:
        plan: of the audit.
        samples: of both models, joined.
        pieces: the slices of each side.
        findings: of these slices.
        row_of: key -> row in both tables.
    """
    digests = {pair.key: pair.image_digest for pair in plan.dataset.pairs}
    search = plan.config.discrepancy
    modalities = modalities_of(search)
    whole = [table.only(modalities) for table in (samples.baseline, samples.candidate)]

    def filled(record: LobeRecord, lobe: Lobe) -> LobeRecord:
        members = lobe.members[:MAX_MEMBERS]
        rows = [row_of[key] for key in members]
        parts = [table.take(rows) for table in whole] if rows else []
        images = [digests[key] for key in members]
        share = near_duplicate_share(members, images, parts, modalities, device=search.device)
        return record.model_copy(update={"near_duplicates": share})

    filled_in = []
    for finding in findings:
        piece = pieces[finding.side][finding.direction - 1]
        lobes = {
            "positive": filled(finding.positive, piece.positive),
            "negative": filled(finding.negative, piece.negative),
        }
        filled_in.append(finding.model_copy(update=lobes))
    return filled_in


def _confirmed(pieces: SlicesBySide, findings: Sequence[Finding]) -> dict[Subset, tuple[str, ...]]:
    """Return the members of each lobe of the confirmed findings."""
    subsets = {}
    for finding in findings:
        if finding.confirmed:
            piece = pieces[finding.side][finding.direction - 1]
            for lobe in (piece.positive, piece.negative):
                if lobe.members:  # a direction of one sign, as a leading eigenvector often is, has one lobe
                    subsets[finding.subset.of_lobe(lobe.sign)] = lobe.members
    return subsets


def _by_split(subsets: Mapping[Subset, tuple[str, ...]], confirmation: Sequence[str]) -> dict[Subset, tuple[str, ...]]:
    """Return the held-out members of each set under its own name, and those that the search saw under another."""
    held_out = set(confirmation)
    parts = {}
    for subset, members in subsets.items():
        parts[subset] = tuple(key for key in members if key in held_out)
        parts[subset.seen] = tuple(key for key in members if key not in held_out)
    return {subset: members for subset, members in parts.items() if members}


def _retrieval(
    plan: AuditPlan,
    samples: Samples,
    subsets: Mapping[Subset, tuple[str, ...]],
    rests: Mapping[Subset, tuple[str, ...]],
    drawn: Sequence[str] | None,
) -> list[SubsetRecalls[Role]]:
    """Retrieval of both models against everything: all queries, those of each subset, and all but these.

    Where all queries are too many, those that were drawn stand for them.
    """
    if not samples.queries:
        return []
    pairs = plan.dataset.by_key
    tables: dict[Role, EmbeddingTable] = {
        role: with_captions_and_images(getattr(samples, role), pairs) for role in ROLES
    }
    search, asked = plan.config.discrepancy, _asked(subsets, samples)
    return retrieval_by_subset(
        tables,
        asked if drawn is None else queries_of_parts(asked, _images(plan, samples.queries), drawn, search.seed),
        ("candidate", "baseline"),
        queries=samples.queries,
        drawn=drawn,
        rests=_asked(rests, samples),
        seed=search.seed,
        device=search.device,
    )


def _recalls(plan: AuditPlan, measured: Sequence[SubsetRecalls[Role]]) -> list[RecallRecord]:
    return [
        RecallRecord(
            model=plan.label(role),
            role=role,
            subset=part.subset,
            n=len(result.text_to_image.keys),
            n_gallery=result.image_to_text.n_gallery,
            **result.estimates(),
        )
        for part in measured
        for role, result in part.recalls.items()
    ]


def _by_value(
    plan: AuditPlan,
    samples: Samples,
    recalls: Mapping[Role, Recall],
    ranks: Mapping[Role, ClassRanks],
    drawn: Sequence[str] | None,
) -> dict[str, Any]:
    """Both models on the held-out samples of each metadata value, from ranks that are there already."""
    table = samples.baseline
    held_out: Collection[str] = samples.confirmation
    if drawn is not None and recalls:  # of the others there are no ranks
        held_out = set(held_out).intersection(drawn)
    images = image_ids(table.keys, plan.dataset.by_key)
    groups = groups_of(table.metadata, table.keys, images, held_out, "held-out" if drawn is None else "drawn held-out")
    return {
        "by_value": by_value(groups.kept, recalls, ranks, seed=plan.config.discrepancy.seed),
        "by_value_left_out": groups.left_out,
        "by_value_unmeasured": groups.unmeasured,
    }


def _asked(subsets: Mapping[Subset, tuple[str, ...]], samples: Samples) -> dict[Subset, tuple[str, ...]]:
    """Return the members of each set that are asked."""
    asked = set(samples.queries)
    return {subset: tuple(key for key in members if key in asked) for subset, members in subsets.items()}


def _whole(plan: AuditPlan, samples: Samples) -> dict[str, WholeSimilarity]:
    """How alike the two models are over the samples that are asked; empty where these are too few."""
    search = plan.config.discrepancy
    tables = [table.only(modalities_of(search)) for table in (samples.baseline, samples.candidate)]
    if samples.is_aligned:
        if len(samples.queries) < MIN_SAMPLES:
            return {}
        tables = [table.select(samples.queries) for table in tables]
    similar = global_similarity(tables[0], tables[1], seed=search.seed, device=search.device)
    return {name: WholeSimilarity(**vars(figures)) for name, figures in similar.items()}


def _clusters(plan: AuditPlan, samples: Samples, side: Side, labels: dict[str, int]) -> list[ClusterScores]:
    """The paper's cluster scores of one side, under the target and under the reference."""
    search = plan.config.discrepancy
    scores = []
    names: tuple[Literal["target", "reference"], ...] = ("target", "reference")
    for name, role in zip(names, roles_of(side), strict=True):
        agreement = cluster_scores(getattr(samples, role), labels, modalities_of(search), seed=search.seed)
        if agreement is not None:
            scores.append(
                ClusterScores(
                    side=side,
                    role=name,
                    model=plan.label(role),
                    n=len(labels),
                    n_directions=len(set(labels.values())),
                    **vars(agreement),
                )
            )
    return scores


def _quotients(plan: AuditPlan, samples: Samples, side: Side, solution: Solution) -> QuotientCurve | None:
    """Search at the quantiles q = 0.1 ... 1.0, with the kernels of the side's own search, on a part of its samples."""
    search = plan.config.discrepancy
    keys = drawn_keys(samples.discovery, _CURVE_SAMPLES, search.seed)
    target, reference = (table.select(keys) for table in samples.of(side))
    settings = {
        **search.model_dump(include={"modality", "kernel", "sigma", "seed", "device"}),
        "features": "exact",
        "n_directions": _CURVE_DIRECTIONS,
        "tolerance": _CURVE_TOLERANCE,
    }
    config = DiscrepancyConfig.model_validate(settings)
    try:
        problem = Problem.of(target, reference, config, kernels=solution.kernels)
        points = quantile_sweep(target, reference, config, problem=problem, prove=False)
    except KodaError as error:  # a curve to look at stops no audit
        return QuotientCurve(side=side, n=len(keys), points=[], note=str(error))
    kept = [_quotient(point) for point in points if point.solution.directions]
    return QuotientCurve(side=side, n=len(problem.keys), points=kept) if kept else None


def _quotient(point: QuantilePoint) -> QuotientPoint:
    means = {f"top_{top}": point.mean_quotient(top) for top in (1, 3, 5)}
    finite = {name: mean if mean is not None and np.isfinite(mean) else None for name, mean in means.items()}
    return QuotientPoint(quantile=point.quantile, eps=point.solution.eps, **finite)
