"""Harm: a confirmed lost finding on whose held-out samples the candidate also got worse."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from koda.policy.facts import AuditFacts, telling_depth
from koda.policy.intervals import fall, of_several
from koda.records import ALL, LOBE_WORDS, SIGNS, Estimate, Finding, Metrics, Subset
from koda.records.metrics import RETRIEVAL_WORDS
from koda.typing import RETRIEVAL_DIRECTIONS, RetrievalDirection

TOP_ONE = "top-1"


@dataclass(frozen=True)
class Fall:
    """How much lower the candidate is on one set of samples.

    Args:
        subset: the samples.
        task: a direction of retrieval, or "zero_shot".
        depth: "R@10", "top-1" and the like.
        estimate: baseline less candidate.
    """

    subset: Subset
    task: RetrievalDirection | str
    depth: str
    estimate: Estimate


Falls = Callable[[Metrics, Subset], list[Fall] | None]


def retrieval_falls(metrics: Metrics, subset: Subset, *directions: RetrievalDirection) -> list[Fall] | None:
    """Return the falls of recall on one set of samples, one a direction; None where it was not measured."""
    recalls = next((item for item in metrics.retrieval_differences if item.subset == subset), None)
    if recalls is None:
        return None
    falls = []
    for direction in directions or RETRIEVAL_DIRECTIONS:
        measured = getattr(recalls, direction)
        depth = telling_depth(metrics, direction) or next(iter(measured), "")
        estimate = fall(measured.get(depth), recalls.n_images)
        if estimate is not None:
            falls.append(Fall(subset, direction, depth, estimate))
    return falls


def zero_shot_falls(metrics: Metrics, subset: Subset) -> list[Fall] | None:
    """Return the fall of zero-shot accuracy on one set of samples; None where it was not measured."""
    differences = [] if metrics.zero_shot is None else metrics.zero_shot.differences
    estimate = next((fall(item.top.get(TOP_ONE)) for item in differences if item.subset == subset), None)
    return None if estimate is None else [Fall(subset, "zero_shot", TOP_ONE, estimate)]


def together(falls: Sequence[Fall]) -> list[Fall]:
    """Widen the intervals of several falls so that they hold together, the worst of them too."""
    return [replace(one, estimate=of_several(one.estimate, len(falls), -1.0, 1.0)) for one in falls]


def falls_on_slices(metrics: Metrics, findings: Iterable[Finding], *measures: Falls) -> list[tuple[Finding, Fall]]:
    """Return the falls on the held-out members of both lobes of findings, with intervals that hold together."""
    seen = [
        (finding, one)
        for finding in findings
        for sign in SIGNS
        for measured in measures
        for one in measured(metrics, finding.subset.of_lobe(sign)) or ()
    ]
    wide = together([one for _, one in seen])
    return [(finding, one) for (finding, _), one in zip(seen, wide, strict=True)]


def in_words(one: Fall) -> str:
    """Say which fall it is: `R@10, caption to image` or `zero-shot top-1`, and of which lobe."""
    retrieval = RETRIEVAL_WORDS.get(one.task)
    words = f"{one.depth}, {retrieval}" if retrieval else f"zero-shot {one.depth}"
    if one.subset == ALL:
        return words
    lobe = "" if one.subset.lobe is None else f"the {LOBE_WORDS[one.subset.lobe]} of "
    return f"{words}, of {lobe}{one.subset.finding}"


def harms(facts: AuditFacts) -> list[tuple[Finding, Fall]]:
    """Return the confirmed lost findings on whose slices the candidate got worse, each with its largest fall.

    Both lobes, both directions of retrieval and zero-shot accuracy are looked at, on held-out members. It got worse
    where the interval of the fall, widened so that those of all findings hold together, is above 0.
    """
    lost = [finding for finding in facts.findings if finding.side == "lost" and finding.confirmed is True]
    largest: dict[Subset, tuple[Finding, Fall]] = {}
    for finding, one in falls_on_slices(facts.metrics, lost, retrieval_falls, zero_shot_falls):
        known = largest.get(finding.subset)
        is_worse = one.estimate.low is not None and one.estimate.low > 0
        if is_worse and (known is None or one.estimate.value > known[1].estimate.value):
            largest[finding.subset] = (finding, one)
    return list(largest.values())
