"""What an alignment changed, on samples that it never saw: clusters, shares, retrieval, zero-shot."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from koda.alignment.groups import rankings_within, subsets_of
from koda.alignment.targets import AlignmentTask
from koda.config import SignificanceConfig
from koda.discrepancy.blocks import SampledKernel, kernels_of
from koda.discrepancy.extension import extended
from koda.discrepancy.significance import HeldOut, Interval, held_out_shares
from koda.embeddings import EmbeddingTable
from koda.embeddings.rows import drawn_keys
from koda.metrics.clustering import cluster_scores, tops
from koda.metrics.identity import with_captions_and_images
from koda.metrics.retrieval import difference_of, retrieval_by_subset
from koda.records import (
    STATES,
    Estimate,
    GroupScores,
    GroupShares,
    RecallDifference,
    RecallState,
    Retest,
    Sample,
    State,
)
from koda.statistics import holm

_CLUSTERINGS = 10  # each the best of ten runs
_LEAST_AMI_GAP = 0.02  # between student and teacher; below it the recovery, a ratio to this gap, means nothing

States = Mapping[State, EmbeddingTable]


@dataclass(frozen=True)
class AlignmentFigures:
    """The figures of a record that are measured after the training."""

    clusters: list[GroupScores]
    shares: list[GroupShares]
    retests: list[Retest]
    retrieval: list[RecallState]
    retrieval_changes: list[RecallDifference]
    retrieval_gaps: list[RecallDifference]
    recovery: float | None


def measure_alignment(
    task: AlignmentTask, aligned: EmbeddingTable, significance: SignificanceConfig, device: str = "cpu"
) -> AlignmentFigures:
    """Measure the student before and after, beside its teacher.

    Args:
        task: what was learnt.
        aligned: the student's embeddings after training, of all samples.
        significance: how the held-out differences are tested; the samples are those of the audit's own test.
        device: where it is computed.
    """
    states: States = {"before": task.former, "after": aligned, "teacher": task.teacher}
    held_out = [key for key in task.split.held_out if key in set(aligned.keys)]
    parts: dict[Sample, Sequence[str]] = {"trained on": task.split.train, "held out": held_out}
    clusters = [score for sample, keys in parts.items() for score in _clusters(task, states, sample, keys)]
    shares, retests = _retests(task, states, held_out, significance, device)
    return AlignmentFigures(clusters, shares, retests, *_retrieval(task, states, held_out, device), recovery(clusters))


def recovery(clusters: Sequence[GroupScores], sample: Sample = "held out") -> float | None:
    """Return (after - before) / (teacher - before) of the AMI; None where the teacher's is no better than before."""
    ami = {score.state: score.ami for score in clusters if score.sample == sample}
    if set(ami) != set(STATES) or ami["teacher"] - ami["before"] < _LEAST_AMI_GAP:
        return None
    return (ami["after"] - ami["before"]) / (ami["teacher"] - ami["before"])


def _clusters(task: AlignmentTask, states: States, sample: Sample, keys: Sequence[str]) -> list[GroupScores]:
    """Return the agreement of k-means clusters with the lobes, under the student before and after and the teacher.

    Lobes overlap, so that k-means has several good answers: one clustering moves the AMI by some hundredths, and the
    recovery by a tenth. The mean of ten does not depend on the seed of the alignment.
    """
    rankings = rankings_within(task.groups, keys)
    labels = tops([ranking for ranking in rankings.values() if ranking])
    modalities = task.solution.kernels.target.modalities
    rows = []
    for state, table in states.items():
        runs = [cluster_scores(table, labels, modalities, seed=seed) for seed in range(_CLUSTERINGS)]
        scores = [vars(run) for run in runs if run is not None]
        if scores:
            means = {name: statistics.fmean(score[name] for score in scores) for name in scores[0]}
            rows.append(GroupScores(state=state, sample=sample, n=len(labels), **means))
    return rows


def _retests(
    task: AlignmentTask, states: States, held_out: Sequence[str], significance: SignificanceConfig, device: str
) -> tuple[list[GroupShares], list[Retest]]:
    """Return the held-out shares of each finding under all three, and its test repeated with the aligned student."""
    keys = drawn_keys(held_out, significance.max_samples, task.solution.config.seed)
    numbers = sorted({group.direction for group in task.groups})
    names = {group.direction: group.subset.finding for group in task.groups}
    teacher, former = kernels_of(task.solution, task.teacher, task.former)
    f = extended(task.solution, (teacher, former), keys).T[:, [number - 1 for number in numbers]]  # (m, k)
    aligned = SampledKernel.of(states["after"], former.kernel, former.tie, device)
    tested: dict[str, tuple[HeldOut, ...]] = {
        state: held_out_shares(f, keys, (teacher, student), significance.materiality)
        for state, student in (("before", former), ("after", aligned))
    }
    adjusted = {state: holm([result.p_value for result in results]) for state, results in tested.items()}
    shares, retests = [], []
    for place, number in enumerate(numbers):
        before, after = tested["before"][place], tested["after"][place]
        by_state: dict[State, Interval] = {
            "before": before.reference_share,
            "after": after.reference_share,
            "teacher": before.target_share,
        }
        for state, share in by_state.items():
            shares.append(
                GroupShares(
                    finding=names[number],
                    state=state,
                    share=_estimate(share, before.n),
                    coherence=share.value * before.n,
                    quotient=by_state["teacher"].value / share.value if share.value > 0 else None,
                )
            )
        retests.append(
            Retest(
                finding=names[number],
                before=_estimate(before.difference, before.n),
                after=_estimate(after.difference, after.n),
                p_before=adjusted["before"][place],
                p_after=adjusted["after"][place],
            )
        )
    return shares, retests


def _retrieval(
    task: AlignmentTask, states: States, held_out: Sequence[str], device: str
) -> tuple[list[RecallState], list[RecallDifference], list[RecallDifference]]:
    """Return recall among the held-out samples, on all of them, on each slice, and on those in no slice.

    Beside it stand after less before, and after less the teacher.
    """
    tables = {state: with_captions_and_images(table.select(held_out), task.pairs) for state, table in states.items()}
    seed = task.config.seed
    measured = retrieval_by_subset(
        tables, subsets_of(task.groups, held_out), ("after", "before"), seed=seed, device=device
    )
    recalls = [
        RecallState(state=state, subset=part.subset, n=len(result.text_to_image.keys), **result.estimates())
        for part in measured
        for state, result in part.recalls.items()
    ]
    changes = [part.difference for part in measured]
    gaps = [difference_of(part.subset, part.recalls, ("after", "teacher"), seed) for part in measured]
    found, left = ([item for item in items if item is not None] for items in (changes, gaps))
    return recalls, found, left


def _estimate(interval: Interval, n: int) -> Estimate:
    return Estimate(value=interval.value, low=interval.low, high=interval.high, n=n)
