"""The figures that a rule may limit: each is found in what the audit recorded, and in nothing else.

A figure over several findings or slices is that of the worst. Its interval is the interval of that one, not
corrected for having been chosen among several.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from koda.config import PolicyRule, Side
from koda.figures import Estimate, Metrics, RecallRecord
from koda.record import DataRecord, Finding

_AT_ONE = "R@1"
_TOP_ONE = "top-1"
_WHOLE = "all"
_DIRECTIONS = ("image_to_text", "text_to_image")


@dataclass(frozen=True)
class AuditFacts:
    """What the rules may look at."""

    findings: Sequence[Finding]
    data: DataRecord
    metrics: Metrics = field(default_factory=Metrics)


@dataclass(frozen=True)
class Observation:
    """A figure as it was observed, and the finding that it is of, if it is one finding's."""

    estimate: Estimate
    finding: Finding | None = None


Observe = Callable[[AuditFacts, PolicyRule], list[Observation]]


@dataclass(frozen=True)
class Figure:
    """A figure: what it is in words, and how it is observed (the worst first; nothing where the audit has none)."""

    words: str
    observe: Observe
    of_a_finding: bool = False


def name_of(finding: Finding) -> str:
    """The name of a finding in reasons: `lost 1`."""
    return f"{finding.side} {finding.direction}"


def _alone(value: float | None, n: int | None = None) -> list[Observation]:
    return [] if value is None else [Observation(Estimate(value=value, n=n))]


def _worst_first(found: list[Observation]) -> list[Observation]:
    return sorted(found, key=lambda seen: -seen.estimate.value) or _alone(0.0)


def _max_share(side: Side) -> Observe:
    """The largest held-out target share of the side's material findings.

    A finding counts when it is confirmed and its share under the reference is under the rule's
    `max_reference_share`, by default half its share under the target.
    """

    def observe(facts: AuditFacts, rule: PolicyRule) -> list[Observation]:
        return _worst_first(
            [
                Observation(finding.target_share, finding)
                for finding in facts.findings
                if finding.side == side
                and finding.confirmed is not False
                and finding.reference_share.value <= _reference_limit(rule, finding)
            ]
        )

    return observe


def _reference_limit(rule: PolicyRule, finding: Finding) -> float:
    return finding.target_share.value / 2 if rule.max_reference_share is None else rule.max_reference_share


def _max_difference(side: Side) -> Observe:
    """The largest held-out difference of shares, target less reference, of the side's confirmed findings."""

    def observe(facts: AuditFacts, rule: PolicyRule) -> list[Observation]:
        return _worst_first(
            [
                Observation(finding.difference, finding)
                for finding in facts.findings
                if finding.side == side and finding.confirmed is not False
            ]
        )

    return observe


def _confirmed(*sides: Side) -> Observe:
    def observe(facts: AuditFacts, rule: PolicyRule) -> list[Observation]:
        return _alone(sum(finding.side in sides and finding.confirmed is True for finding in facts.findings))

    return observe


def _slice_drop(facts: AuditFacts, rule: PolicyRule) -> list[Observation]:
    """The largest fall of R@1, baseline less candidate, on a confirmed slice: the worse of both directions."""
    if not facts.metrics.retrieval:
        return []
    seen = []
    for finding in facts.findings:
        if finding.confirmed is True:
            for sign in ("positive", "negative"):
                drops = _drops(facts.metrics, f"{name_of(finding)} {sign}")
                seen += [Observation(drop, finding) for drop in drops]
    return _worst_first(seen)


def _whole_drop(facts: AuditFacts, rule: PolicyRule) -> list[Observation]:
    """The fall of R@1, baseline less candidate, on the whole set: the worse of both directions."""
    drops = [Observation(drop) for drop in _drops(facts.metrics, _WHOLE)]
    return _worst_first(drops) if drops else []


def _drops(metrics: Metrics, subset: str) -> list[Estimate]:
    """Falls of R@1 on one subset, a direction each: paired where the record has that, else from both recalls."""
    paired = next((item for item in metrics.retrieval_differences if item.subset == subset), None)
    if paired is not None:
        found = [getattr(paired, direction).get(_AT_ONE) for direction in _DIRECTIONS]
        return [_negated(estimate) for estimate in found if estimate is not None]
    by_role = {item.role: item for item in metrics.retrieval if item.subset == subset}
    baseline, candidate = by_role.get("baseline"), by_role.get("candidate")
    if baseline is None or candidate is None:
        return []
    return [drop for direction in _DIRECTIONS if (drop := _unpaired(baseline, candidate, direction)) is not None]


def _unpaired(baseline: RecallRecord, candidate: RecallRecord, direction: str) -> Estimate | None:
    """The difference of two recalls as if their queries were independent: its interval is too wide, not too narrow.

    The distances from the values to the ends of their intervals add up in squares.
    """
    before, after = (getattr(recall, direction).get(_AT_ONE) for recall in (baseline, candidate))
    if before is None or after is None:
        return None
    value = before.value - after.value
    if None in (before.low, before.high, after.low, after.high):
        return Estimate(value=value, n=before.n)
    below = math.hypot(before.value - before.low, after.high - after.value)
    above = math.hypot(before.high - before.value, after.value - after.low)
    return Estimate(value=value, low=value - below, high=value + above, level=before.level, n=before.n)


def _negated(difference: Estimate) -> Estimate:
    low, high = difference.high, difference.low
    turned = {"low": None if low is None else -low, "high": None if high is None else -high}
    return difference.model_copy(update={"value": -difference.value, **turned})


def _zero_shot_drop(facts: AuditFacts, rule: PolicyRule) -> list[Observation]:
    """The fall of zero-shot top-1 accuracy, baseline less candidate, on the whole set."""
    differences = [] if facts.metrics.zero_shot is None else facts.metrics.zero_shot.differences
    whole = next((item.top.get(_TOP_ONE) for item in differences if item.subset == _WHOLE), None)
    return [] if whole is None else [Observation(_negated(whole))]


def _long_share(facts: AuditFacts, rule: PolicyRule) -> list[Observation]:
    """The share of captions that are cut at the context length, of the model that cuts more."""
    data = facts.data
    if not data.n_long_captions or not data.n_compared:
        return []
    return _alone(min(1.0, max(data.n_long_captions.values()) / data.n_compared), data.n_compared)


def _similarity(field: str, modality: str) -> Observe:
    def observe(facts: AuditFacts, rule: PolicyRule) -> list[Observation]:
        whole = facts.metrics.whole.get(modality)
        return [] if whole is None else _alone(float(getattr(whole, field)), whole.n)

    return observe


FIGURES: dict[str, Figure] = {
    "lost.max_share": Figure("largest share lost", _max_share("lost"), of_a_finding=True),
    "gained.max_share": Figure("largest share gained", _max_share("gained"), of_a_finding=True),
    "lost.max_difference": Figure("largest difference of shares lost", _max_difference("lost"), of_a_finding=True),
    "gained.max_difference": Figure(
        "largest difference of shares gained", _max_difference("gained"), of_a_finding=True
    ),
    "lost.confirmed": Figure("number of confirmed directions lost", _confirmed("lost")),
    "gained.confirmed": Figure("number of confirmed directions gained", _confirmed("gained")),
    "confirmed.count": Figure("number of confirmed directions, lost and gained", _confirmed("lost", "gained")),
    "slice.retrieval_drop": Figure(
        "largest fall of R@1 on a confirmed slice, of both retrieval directions", _slice_drop, of_a_finding=True
    ),
    "retrieval.drop": Figure("fall of R@1 on the whole set, the larger of both retrieval directions", _whole_drop),
    "zero_shot.drop": Figure("fall of zero-shot accuracy on the whole set", _zero_shot_drop),
    "rejections.share": Figure(
        "share of samples left out", lambda facts, rule: _alone(facts.data.n_rejected / facts.data.n_source)
    ),
    "rejections.count": Figure("number of samples left out", lambda facts, rule: _alone(facts.data.n_rejected)),
    "captions.long_share": Figure("share of captions cut at the context length", _long_share),
    "similarity.cka.image": Figure("CKA of the image embeddings", _similarity("cka", "image")),
    "similarity.cka.text": Figure("CKA of the caption embeddings", _similarity("cka", "text")),
    "similarity.neighbours.image": Figure("agreement on the neighbours of images", _similarity("neighbours", "image")),
    "similarity.neighbours.text": Figure("agreement on the neighbours of captions", _similarity("neighbours", "text")),
}
