"""What the rules may look at, and whether it can show that something got worse."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from koda.records import ALL, Controls, DataRecord, Finding, Metrics, RecallRecord, Theme
from koda.typing import RETRIEVAL_DIRECTIONS, RetrievalDirection

_ENOUGH = 0.2  # recall of the baseline at which a depth is telling: there is something to lose
_DEPTH = re.compile(r"R@([0-9]+)")


@dataclass(frozen=True)
class AuditFacts:
    """What the rules may look at.

    Attributes:
        findings: of the audit.
        data: that it is of.
        metrics: beside the findings.
        controls: what the audit could have seen.
        themes: of the findings.
        retested: where a model was aligned, the findings of the audit before that stay findings, and the figures on
            their slices; see :mod:`koda.policy.retests`.
    """

    findings: Sequence[Finding]
    data: DataRecord
    metrics: Metrics = field(default_factory=Metrics)
    controls: Controls | None = None
    themes: Sequence[Theme] = ()
    retested: AuditFacts | None = None


def telling_depth(metrics: Metrics, direction: RetrievalDirection) -> str | None:
    """Return the depth at which a fall of recall is looked for: "R@1" and the like; None where none was measured.

    It is the smallest at which the baseline finds a fifth of what is asked, else the largest: R@1 of a model that finds
    5 % at once cannot fall by more than that, whatever happened to it. The candidate has no say in it.
    """
    whole = _baseline(metrics)
    if whole is None:
        return None
    recalls = {depth: estimate.value for depth, estimate in getattr(whole, direction).items()}
    by_depth = sorted(recalls, key=_k)
    return next((depth for depth in by_depth if recalls[depth] >= _ENOUGH), by_depth[-1] if by_depth else None)


def retrieval_is_informative(facts: AuditFacts) -> bool:
    """Whether both models were asked, and the baseline retrieves better than chance in either direction."""
    whole = _baseline(facts.metrics)
    if whole is None or not any(item.subset == ALL for item in facts.metrics.retrieval_differences):
        return False
    for direction in RETRIEVAL_DIRECTIONS:
        depth = telling_depth(facts.metrics, direction)
        estimate = None if depth is None else getattr(whole, direction)[depth]
        if depth is not None and estimate is not None and whole.n_gallery:
            chance = min(1.0, _k(depth) / whole.n_gallery)
            if (estimate.value if estimate.low is None else estimate.low) > chance:
                return True
    return False


def harm_is_measured(facts: AuditFacts) -> bool:
    """Whether retrieval or zero-shot accuracy can show that something got worse."""
    accuracies = facts.metrics.zero_shot is not None and bool(facts.metrics.zero_shot.differences)
    return accuracies or retrieval_is_informative(facts)


def _baseline(metrics: Metrics) -> RecallRecord | None:
    return next((item for item in metrics.retrieval if item.subset == ALL and item.role == "baseline"), None)


def _k(depth: str) -> int:
    found = _DEPTH.fullmatch(depth)
    return int(found[1]) if found else 0
