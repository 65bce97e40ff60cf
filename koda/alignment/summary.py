"""Several alignments of the same models, which differ in their seed only: means and deviations, as in the paper."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from koda.alignment.evaluation import recovery
from koda.records import STATES, AlignmentRecord, Sample, State

SCORES = ("ami", "nmi", "ari")


@dataclass(frozen=True)
class Spread:
    """A mean with its standard deviation over seeds, which one seed does not have."""

    mean: float
    deviation: float | None


@dataclass(frozen=True)
class ScoreRow:
    """Cluster scores of one state, in sample or out of it."""

    sample: Sample
    state: State
    n_seeds: int
    ami: Spread
    nmi: Spread
    ari: Spread


def score_table(records: Sequence[AlignmentRecord]) -> list[ScoreRow]:
    """Return the paper's table of alignments: before, after and teacher, in sample and held out.

    Source: paper 2606.04180, its table of alignments, which is in sample.
    """
    rows = []
    for sample in get_args(Sample):
        for state in STATES:
            scores = [score for record in records if (score := record.score(state, sample)) is not None]
            if scores:
                spreads = {name: _spread([getattr(score, name) for score in scores]) for name in SCORES}
                rows.append(ScoreRow(sample=sample, state=state, n_seeds=len(scores), **spreads))
    return rows


def recoveries(records: Sequence[AlignmentRecord]) -> dict[Sample, Spread]:
    """Return the share of the AMI that came back, in sample and held out, where there was something to recover."""
    spreads: dict[Sample, Spread] = {}
    for sample in get_args(Sample):
        values = [value for record in records if (value := recovery(record.clusters, sample)) is not None]
        if values:
            spreads[sample] = _spread(values)
    return spreads


def _spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)
