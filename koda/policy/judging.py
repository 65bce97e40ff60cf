"""Judging: every rule against its figure, and the verdict that follows.

A rule on a share fails only when the whole interval of the figure is over the limit; where the
interval straddles the limit the rule is inconclusive. So is a rule that warns or fails by a finding that
other samples do not show again (`min_stability`). A rule that warns or fails under a waiver in force is
waived and does not count; an inconclusive one is not waived, since nothing that could be accepted was seen.
The verdict is the worst of the rules: fail, then inconclusive, then warn, then pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Literal

from koda.config import PolicyRule, Waiver
from koda.digest import digest_json
from koda.policy.figures import FIGURES, AuditFacts, Observation, name_of
from koda.policy.waivers import check_policy, waiver_of
from koda.record import Estimate, RuleResult, Verdict

Result = Literal["pass", "warn", "fail", "inconclusive"]
_WORST_FIRST: tuple[Result, ...] = ("fail", "inconclusive", "warn")


def judge(
    rules: Sequence[PolicyRule], facts: AuditFacts, waivers: Sequence[Waiver] = (), today: date | None = None
) -> Verdict:
    """Apply every rule and return the verdict, with its reasons in words.

    Args:
        rules: the policy.
        facts: what the audit recorded.
        waivers: what was accepted, by whom and until when.
        today: the day (UTC) on which waivers are in force or have expired; default: the present one.

    Raises:
        ConfigError: a rule on an unknown figure, or a waiver that matches no rule.
    """
    check_policy(rules, waivers)
    day = today or datetime.now(UTC).date()
    results = [_apply(rule, facts, waivers, day) for rule in rules]
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
    # without what is not set, so that a field which a later koda adds leaves the digest of a policy alone
    digest = digest_json([rule.model_dump(exclude_none=True) for rule in rules])
    return Verdict(status=status, reasons=reasons, rules=results, policy_digest=digest)


def _apply(rule: PolicyRule, facts: AuditFacts, waivers: Sequence[Waiver], day: date) -> RuleResult:
    seen, result, note = _decide(rule, FIGURES[rule.figure].observe(facts, rule))
    waiver = waiver_of(rule, waivers, day)
    waived: Literal["warn", "fail"] | None = None
    if waiver is not None and not waiver.expired and (result == "warn" or result == "fail"):
        waived = result
    return RuleResult(
        figure=rule.figure,
        observed=None if seen is None else seen.estimate,
        warn=rule.warn,
        fail=rule.fail,
        direction=rule.direction,
        result="waived" if waived else result,
        owner=rule.owner,
        reason=rule.reason,
        finding=None if seen is None or seen.finding is None else name_of(seen.finding),
        min_stability=rule.min_stability,
        note=note,
        waiver=waiver,
        waived=waived,
    )


def _decide(rule: PolicyRule, seen: list[Observation]) -> tuple[Observation | None, Result, str | None]:
    """Return the observation that decides a rule, the result, and what is to be said of it."""
    if not seen:
        return None, "inconclusive", "the audit did not record it"
    worst = seen[0]
    result = _compare(rule, worst.estimate)
    told = _instability(rule, worst)
    if told is None or result not in ("warn", "fail"):
        return worst, result, None
    for other in seen[1:]:  # a finding that holds may say the same
        if _instability(rule, other) is None and _compare(rule, other.estimate) == result:
            return other, result, None
    return worst, "inconclusive", told


def _instability(rule: PolicyRule, seen: Observation) -> str | None:
    """Say that the finding of an observation is less stable than the rule asks, if it is."""
    stability = None if seen.finding is None else seen.finding.stability
    if rule.min_stability is None or stability is None or stability.jaccard >= rule.min_stability:
        return None
    assert seen.finding is not None  # it has a stability
    return (
        f"the finding that decides, {name_of(seen.finding)}, has a stability of {_number(stability.jaccard)}, "
        f"under the min_stability of {_number(rule.min_stability)}"
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
    """Say why a rule is not met, with value, interval and limit, and who waived it until when."""
    if result.observed is None:
        text = f"{result.figure} could not be observed: {result.note}"
    else:
        text = f"{result.figure} is {_number(result.observed.value)}"
        if result.observed.low is not None and result.observed.high is not None:
            text += f" (95 % interval {_number(result.observed.low)} to {_number(result.observed.high)})"
        text += f"; {result.note}" if result.note else _against(result)
    text += f": {result.reason}." if result.reason and not result.note else "."
    waiver = result.waiver
    if waiver is None:
        return text
    if waiver.expired:
        return f"{text} The waiver of {waiver.person} expired on {waiver.expires}."
    if result.result == "waived":
        return f"{text} Waived by {waiver.person} until {waiver.expires}: {waiver.reason.rstrip('.')}."
    return text


def _against(result: RuleResult) -> str:
    """Say on which side of which limit the figure is."""
    status = result.waived or result.result
    limit = result.warn if status == "warn" else result.fail
    what = {"fail": "over the fail", "warn": "over the warn", "inconclusive": "too close to the fail"}[status]
    if result.direction == "below" and status != "inconclusive":
        what = what.replace("over", "under")
    return f", {what} limit of {_number(limit)}" if limit is not None else ""


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4g}"
