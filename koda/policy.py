"""Policy: limits on recorded figures, and the verdict that follows from them.

A rule on a share fails only when the whole interval of the figure is over the limit; where the
interval straddles the limit the rule is inconclusive. The verdict is the worst of the rules:
fail, then inconclusive, then warn, then pass.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from koda.config import PolicyRule, Side
from koda.digest import digest_json
from koda.errors import ConfigError
from koda.record import DataRecord, Estimate, Finding, RuleResult, Verdict

Result = Literal["pass", "warn", "fail", "inconclusive"]
_WORST_FIRST: tuple[Result, ...] = ("fail", "inconclusive", "warn")


@dataclass(frozen=True)
class AuditFacts:
    """What the rules may look at."""

    findings: Sequence[Finding]
    data: DataRecord


def _max_share(facts: AuditFacts, side: Side, rule: PolicyRule) -> Estimate | None:
    """The largest held-out target share of the side's material findings.

    A finding counts when it is confirmed and its share under the reference is under the rule's
    `max_reference_share`, by default half its share under the target.
    """
    counted = [
        finding
        for finding in facts.findings
        if finding.side == side
        and finding.confirmed is not False
        and finding.reference_share.value <= _reference_limit(rule, finding)
    ]
    return max(
        (finding.target_share for finding in counted), key=lambda share: share.value, default=Estimate(value=0.0)
    )


def _reference_limit(rule: PolicyRule, finding: Finding) -> float:
    return finding.target_share.value / 2 if rule.max_reference_share is None else rule.max_reference_share


def _confirmed(facts: AuditFacts, side: Side) -> Estimate:
    return Estimate(value=sum(finding.side == side and finding.confirmed is True for finding in facts.findings))


_FIGURES: dict[str, Callable[[AuditFacts, PolicyRule], Estimate | None]] = {
    "lost.max_share": lambda facts, rule: _max_share(facts, "lost", rule),
    "gained.max_share": lambda facts, rule: _max_share(facts, "gained", rule),
    "lost.confirmed": lambda facts, rule: _confirmed(facts, "lost"),
    "gained.confirmed": lambda facts, rule: _confirmed(facts, "gained"),
    "rejections.share": lambda facts, rule: Estimate(value=facts.data.n_rejected / facts.data.n_source),
    "rejections.count": lambda facts, rule: Estimate(value=facts.data.n_rejected),
}


def check_policy(rules: Sequence[PolicyRule]) -> None:
    """Refuse a rule on a figure that no audit records.

    Raises:
        ConfigError: naming the figure and the nearest one there is.
    """
    for place, rule in enumerate(rules):
        if rule.figure not in _FIGURES:
            near = difflib.get_close_matches(rule.figure, _FIGURES, n=1, cutoff=0.4)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise ConfigError(
                f"policy.{place}: no audit records the figure {rule.figure!r}.",
                f"{hint}The figures are: {', '.join(_FIGURES)}.",
            )


def judge(rules: Sequence[PolicyRule], facts: AuditFacts) -> Verdict:
    """Apply every rule and return the verdict, with its reasons in words.

    Raises:
        ConfigError: a rule on an unknown figure.
    """
    check_policy(rules)
    results = [_apply(rule, facts) for rule in rules]
    found = {result.result for result in results}
    status: Result = next((worst for worst in _WORST_FIRST if worst in found), "pass")
    reasons = [_reason(result) for result in results if result.result != "pass"]
    untested = [finding for finding in facts.findings if finding.confirmed is None]
    if untested and status in ("pass", "warn"):
        status = "inconclusive"
        reasons.append(
            f"{len(untested)} directions could not be tested: too few samples were held out to confirm them."
        )
    if not reasons:
        reasons.append("Every rule of the policy is met.")
    digest = digest_json([rule.model_dump() for rule in rules])
    return Verdict(status=status, reasons=reasons, rules=results, policy_digest=digest)


def _apply(rule: PolicyRule, facts: AuditFacts) -> RuleResult:
    observed = _FIGURES[rule.figure](facts, rule)
    result: Result = "inconclusive" if observed is None else _compare(rule, observed)
    return RuleResult(
        figure=rule.figure,
        observed=observed,
        warn=rule.warn,
        fail=rule.fail,
        direction=rule.direction,
        result=result,
        owner=rule.owner,
        reason=rule.reason,
    )


def _compare(rule: PolicyRule, observed: Estimate) -> Result:
    """Compare a figure and its interval with the limits; `above` is turned into `below` by sign."""
    sign = 1.0 if rule.direction == "above" else -1.0
    value = sign * observed.value
    ends = [sign * (observed.value if end is None else end) for end in (observed.low, observed.high)]
    low, high = min(ends), max(ends)
    if rule.fail is not None:
        limit = sign * rule.fail
        if low > limit:
            return "fail"
        if high > limit and low != high:
            return "inconclusive"
    if rule.warn is not None and value > sign * rule.warn:
        return "warn"
    return "pass"


def _reason(result: RuleResult) -> str:
    """Say why a rule is not met, with value, interval and limit."""
    if result.observed is None:
        return f"{result.figure} could not be observed."
    text = f"{result.figure} is {_number(result.observed.value)}"
    if result.observed.low is not None and result.observed.high is not None:
        text += f" (95 % interval {_number(result.observed.low)} to {_number(result.observed.high)})"
    limit = result.warn if result.result == "warn" else result.fail
    what = {"fail": "over the fail", "warn": "over the warn", "inconclusive": "too close to the fail"}[result.result]
    if result.direction == "below" and result.result != "inconclusive":
        what = what.replace("over", "under")
    text += f", {what} limit of {_number(limit)}" if limit is not None else ""
    return text + (f": {result.reason}." if result.reason else ".")


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4g}"
