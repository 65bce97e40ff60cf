"""The two models of an audit side by side: what each reaches, and by how much they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from koda.policy.intervals import turned
from koda.records import ALL, AuditRecord, Estimate
from koda.records.metrics import RETRIEVAL_WORDS
from koda.typing import RETRIEVAL_DIRECTIONS
from koda.units import Unit

Estimates = Mapping[str, Estimate]


@dataclass(frozen=True)
class ComparedFigure:
    """One figure under both models; the difference is candidate less baseline, in a unit of its own."""

    name: str
    baseline: Estimate | None
    candidate: Estimate | None
    difference: Estimate | None
    unit: Unit


def compared_figures(record: AuditRecord) -> list[ComparedFigure]:
    """Return retrieval and zero-shot accuracy on the whole set, and the shares of each confirmed finding.

    The difference of a finding's shares is the one that was tested, turned to candidate less baseline.
    """
    figures: list[ComparedFigure] = []
    recalls = {item.role: item for item in record.metrics.retrieval if item.subset == ALL}
    fall = next((item for item in record.metrics.retrieval_differences if item.subset == ALL), None)
    for way in RETRIEVAL_DIRECTIONS:
        baseline, candidate, gap = (
            getattr(item, way, {}) for item in (recalls.get("baseline"), recalls.get("candidate"), fall)
        )
        figures += _at_depths(baseline, candidate, gap, f", {RETRIEVAL_WORDS[way]}")
    zero_shot = record.metrics.zero_shot
    if zero_shot is not None:
        tops = {item.role: item.top for item in zero_shot.accuracies if item.subset == ALL}
        gap = next((item.top for item in zero_shot.differences if item.subset == ALL), {})
        figures += _at_depths(tops.get("baseline", {}), tops.get("candidate", {}), gap, ", zero-shot")
    for finding in record.findings:
        if finding.confirmed:
            lost = finding.side == "lost"
            shares = (finding.target_share, finding.reference_share)
            of_baseline, of_candidate = shares if lost else shares[::-1]
            difference = turned(finding.difference) if lost else finding.difference
            title = f"share of {finding.side} {finding.direction}" + (f": {finding.title}" if finding.title else "")
            figures.append(ComparedFigure(title, of_baseline, of_candidate, difference, "percent"))
    return figures


def _at_depths(baseline: Estimates, candidate: Estimates, difference: Estimates, what: str) -> list[ComparedFigure]:
    return [
        ComparedFigure(f"{depth}{what}", baseline.get(depth), candidate.get(depth), difference.get(depth), "points")
        for depth in dict.fromkeys([*baseline, *candidate])
    ]
