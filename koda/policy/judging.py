"""Judging: every rule against its figure, and the verdict that follows.

A rule fails only when the whole interval of its figure is over the fail limit; where the interval holds
that limit the rule is inconclusive. So is a rule that warns or fails by a finding that could not be tested, or
that other samples do not show again (`min_stability`), and a rule on a figure that the audit has not got. The
warn limit is compared with the figure itself. A rule that warns or fails under a waiver in force is
waived and does not count; an inconclusive one is not waived, since nothing that could be accepted was seen.
The verdict is the worst of the rules: fail, then inconclusive, then warn, then pass. It is not better than what could
be tested, nor a pass while a finding that an alignment was to mend is still confirmed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Literal

from koda.config import PolicyRule, Waiver
from koda.policy.default import default_policy, left_out
from koda.policy.facts import AuditFacts
from koda.policy.figure import Observation
from koda.policy.figures import FIGURES, observe
from koda.policy.waivers import check_policy, waiver_of
from koda.records import Estimate, Finding, RetestedFinding, RuleResult, Verdict
from koda.storage import digest_json
from koda.units import limit_text, with_interval
from koda.wording import counted

Result = Literal["pass", "warn", "fail", "inconclusive"]
_WORST_FIRST: tuple[Result, ...] = ("fail", "inconclusive", "warn", "pass")
_RANK = dict(zip(_WORST_FIRST, range(4), strict=True))
_Outcome = tuple[Result, Observation, str | None]


def judge(
    policy: Sequence[PolicyRule] | None, facts: AuditFacts, waivers: Sequence[Waiver] = (), today: date | None = None
) -> Verdict:
    """Apply every rule and return the verdict, with its reasons in words.

    Args:
        policy: its rules; None for the default, which depends on what was measured.
        facts: what the audit recorded.
        waivers: what was accepted, by whom and until when.
        today: the day (UTC) on which waivers are in force or have expired; default: the present one.

    Raises:
        ConfigError: a rule on an unknown figure, or a waiver that matches no rule.
    """
    rules = default_policy(facts) if policy is None else policy
    check_policy(policy, waivers)
    day = today or datetime.now(UTC).date()
    results = [_apply(rule, facts, waivers, day) for rule in rules]
    counted: list[Result] = [result.result for result in results if result.result != "waived"]
    status: Result = min(counted, key=lambda result: _RANK[result], default="pass")
    reasons = [_reason(item) for kind in (*_WORST_FIRST[:3], "waived") for item in results if item.result == kind]
    for at_best, reason in _beyond_the_rules(facts):
        if _RANK[at_best] < _RANK[status]:
            status = at_best
            reasons.insert(0, reason)
    status, doubts = _by_controls(status, facts)
    reasons = [*doubts, *reasons]
    if not reasons:
        reasons.append("Every rule of the policy is met." if rules else "The policy has no rules.")
    # without what is not set, so that a field which a later koda adds leaves the digest of a policy alone
    digest = digest_json([rule.model_dump(exclude_none=True) for rule in rules])
    missing = left_out(facts, rules) if policy is None else []
    return Verdict(status=status, reasons=reasons, rules=results, left_out=missing, policy_digest=digest)


def _by_controls(status: Result, facts: AuditFacts) -> tuple[Result, list[str]]:
    """Return what is left of a verdict by the controls of the audit, and the reasons in words."""
    controls = facts.controls
    if controls is None:
        return status, []
    doubts = [
        f"The model {row.model} differs from its own copy with noise of its precision in "
        f"{counted(row.confirmed, 'confirmed direction')}, so what this audit confirms is no evidence."
        for row in controls.self_controls
        if row.confirmed
    ]
    if doubts:
        return "inconclusive", doubts
    if status == "pass" and controls.blind:
        largest = max(controls.spike_ins, key=lambda row: row.share)
        n = controls.n_discovery + controls.n_confirmation
        doubts.append(
            f"This audit could not have seen a loss: a lost group of {100 * largest.share:g} % ({largest.size} of "
            f"{n} samples) was found and confirmed in none of "
            f"{counted(largest.trials, 'trial')}." + (" Use more data." if n == facts.data.n_compared else "")
        )
        return "inconclusive", doubts
    return status, doubts


def _beyond_the_rules(facts: AuditFacts) -> list[tuple[Result, str]]:
    """Return what keeps a verdict from being better than it may be, whatever the rules: the best it may be, and why."""
    bounds: list[tuple[Result, str]] = []
    untested = sum(finding.confirmed is None for finding in facts.findings)
    if untested:
        reason = f"{counted(untested, 'direction')} could not be tested: too few samples were held out to confirm them."
        bounds.append(("inconclusive", reason))
    retested = () if facts.retested is None else facts.retested.findings
    if again := [finding for finding in retested if finding.confirmed is None]:
        what = ", ".join(str(finding.subset) for finding in again)
        why = "; ".join(dict.fromkeys(finding.note or "" for finding in again))
        reason = f"Of the audit before the alignment could not be tested again: {what}; {why}."
        bounds.append(("inconclusive", reason))
    if facts.data.unseen is False:
        reason = "It is not known which samples the aligned model was trained on: those held out may be among them."
        bounds.append(("inconclusive", reason))
    if confirmed := [finding for finding in retested if finding.confirmed]:
        bounds.append(("warn", f"{_still_confirmed(_named(confirmed))}."))
    return bounds


def _named(findings: Sequence[Finding]) -> list[RetestedFinding]:
    return [RetestedFinding(finding=finding.subset, p_value=finding.p_value) for finding in findings]


def _still_confirmed(retests: Sequence[RetestedFinding]) -> str:
    if len(retests) == 1:
        name, p = retests[0].finding, _number(retests[0].p_value)
        return f"A finding of the audit before the alignment, {name}, is still confirmed: p = {p}"
    each = ", ".join(f"{retest.finding} (p = {_number(retest.p_value)})" for retest in retests)
    return f"{len(retests)} findings of the audit before the alignment are still confirmed: {each}"


def _apply(rule: PolicyRule, facts: AuditFacts, waivers: Sequence[Waiver], day: date) -> RuleResult:
    seen, result, note = _decide(rule, facts)
    decides = None if seen is None or seen.retests else seen.finding
    waiver = waiver_of(rule, waivers, day)
    waived: Literal["warn", "fail"] | None = None
    if waiver is not None and not waiver.expired and (result == "warn" or result == "fail"):
        waived = result
    return RuleResult(
        figure=rule.figure,
        observed=None if seen is None else seen.estimate,
        warn=rule.warn,
        fail=rule.fail,
        direction=_direction(rule),
        result="waived" if waived else result,
        owner=rule.owner,
        reason=rule.reason,
        finding=None if decides is None else decides.subset,
        detail=None if seen is None else _detail(seen),
        retests=[] if seen is None else _named(seen.retests),
        min_stability=rule.min_stability,
        stability=None if decides is None or decides.stability is None else decides.stability.jaccard,
        note=note,
        waiver=waiver,
        waived=waived,
    )


def _detail(seen: Observation) -> str | None:
    """Say which of several a figure is of: the finding by its name, and what else there is to say."""
    title = None if seen.finding is None else seen.finding.title
    return "; ".join(part for part in (title, seen.detail) if part) or None


def _direction(rule: PolicyRule) -> Literal["above", "below"]:
    return rule.direction or FIGURES[rule.figure].bad


def _decide(rule: PolicyRule, facts: AuditFacts) -> tuple[Observation | None, Result, str | None]:
    """Return the observation that decides a rule, the result, and what is to be said of it.

    A limit on the worst of several findings is a limit on each. So each is judged, by its own interval, and the worst
    result stands: a small slice whose wide interval holds the limit does not hide a large one that is clearly over it.
    """
    figure = FIGURES[rule.figure]
    seen = observe(rule.figure, facts, rule)
    if not seen:
        return None, "inconclusive", figure.absent(facts)
    each = seen if _direction(rule) == figure.bad else seen[:1]
    sound: list[_Outcome] = []
    doubtful: list[_Outcome] = []
    for observation in each:
        result, doubt = _compare(rule, observation.estimate), _doubt(rule, observation)
        counts = doubt is None or result not in ("warn", "fail")
        (sound if counts else doubtful).append((result, observation, None if counts else doubt))
    least = min((_RANK[result] for result, _, _ in sound), default=len(_RANK))
    # a doubtful finding adds a doubt where it would say more than those that are not
    unclear: list[_Outcome] = [
        ("inconclusive", observation, doubt) for result, observation, doubt in doubtful if _RANK[result] < least
    ]
    result, decides, note = min([*sound, *unclear], key=lambda outcome: _RANK[outcome[0]])
    return decides, result, note


def _doubt(rule: PolicyRule, seen: Observation) -> str | None:
    """Say why the finding of an observation cannot be what a rule warns or fails by, if it cannot."""
    finding = seen.finding
    if finding is None:
        return None
    if finding.confirmed is None:
        reason = finding.note or "too few samples were held out"
        return f"the finding that decides, {finding.subset}, could not be tested: {reason}"
    stability = finding.stability
    if rule.min_stability is None or stability is None or stability.jaccard >= rule.min_stability:
        return None
    return (
        f"the finding that decides, {finding.subset}, has a stability of {_number(stability.jaccard)}, "
        f"under the min_stability of {_number(rule.min_stability)}"
    )


def _compare(rule: PolicyRule, observed: Estimate) -> Result:
    """Compare a figure and its interval with the limits; `above` is turned into `below` by sign."""
    sign = 1.0 if _direction(rule) == "above" else -1.0
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
        of = f" ({result.detail})" if result.detail else ""
        seen, unit = result.observed, FIGURES[result.figure].unit
        text = (
            f"{result.figure}{of} is {with_interval(seen.value, seen.low, seen.high, seen.level, unit, result.limits)}"
        )
        text += f"; {result.note}" if result.note else _against(result)
    text += f": {result.reason}." if result.reason and not result.note else "."
    if result.retests and not result.note:
        text += f" {_still_confirmed(result.retests)}."
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
    what = {"fail": "over the fail", "warn": "over the warn", "inconclusive": "with an interval that holds the fail"}[
        status
    ]
    if result.direction == "below" and status != "inconclusive":
        what = what.replace("over", "under")
    return f", {what} limit of {limit_text(limit, FIGURES[result.figure].unit)}" if limit is not None else ""


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4g}"
