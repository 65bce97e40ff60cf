"""What a figure of a policy is, and how it is observed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from koda.config import PolicyRule
from koda.policy.facts import AuditFacts
from koda.records import Estimate, Finding
from koda.units import Unit


@dataclass(frozen=True)
class Observation:
    """A figure as it was observed, and the finding that it is of, if it is one finding's.

    Attributes:
        estimate: the figure.
        finding: of this audit, or with `retests` of the one before an alignment.
        detail: which of several the figure is of, in words.
        retests: the findings of the audit before the alignment that it is of.
    """

    estimate: Estimate
    finding: Finding | None = None
    detail: str | None = None
    retests: tuple[Finding, ...] = ()


Observe = Callable[[AuditFacts, PolicyRule], list[Observation]]


@dataclass(frozen=True)
class Figure:
    """A figure that rules may limit.

    Attributes:
        words: what it is, in words.
        observe: how it is observed: the worst first, and nothing where the audit has none.
        of_a_finding: whether it is that of one finding, so that `min_stability` has a meaning.
        of_findings: whether it counts findings, so that it is of those that were tested again after an alignment too.
        of_a_reference: whether findings count by their reference share, so that `max_reference_share` has one.
        unit: a share, which people read in percent; a fall from one share to another, in points; or a plain number.
        bad: the side of a limit that is bad, unless the rule states it; of several, the farthest to it is the worst.
        absent: why an audit may not have it, and what would change that.
    """

    words: str
    observe: Observe
    of_a_finding: bool = False
    of_findings: bool = False
    of_a_reference: bool = False
    unit: Unit = "percent"
    bad: Literal["above", "below"] = "above"
    absent: Callable[[AuditFacts], str] = lambda facts: "the audit did not record it"
