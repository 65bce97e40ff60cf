"""From what audits of equals show to the limits of a policy."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from typing import Literal

from koda.calibration.bounds import MIN_VALUES, rounded_up, upper_bound
from koda.config import PolicyRule
from koda.policy import FIGURES, AuditFacts, observe
from koda.records import CalibratedRule, SeenFigure, Spread
from koda.wording import counted

METHOD = (
    "The warn limit of a rule lies at the bound on the figure, its fail limit at the bound on the ends of its "
    "intervals, so that an audit of equals neither warns, nor fails, nor is inconclusive; a limit that lies farther "
    "out stays where it is. A bound is one-sided and is to hold 95 % of the audits of equals with the confidence "
    "95 %: from 59 audits on the largest value seen, which needs no distribution; under that mean + k sd with the "
    "tolerance factor k of a normal distribution, and at least the largest value. Both take the audits for "
    "independent. They share models and samples, so that the confidence is less than it says where there are few "
    "models. Every ordered pair is audited on the whole data set and on each subsample."
)
_EARLIER = re.compile(r"(; )?\d+ audits of \d+ equal models: .*$")


def seen_figure(rule: PolicyRule, facts: AuditFacts) -> SeenFigure | None:
    """Return the figure of a rule in one audit: what its warn and its fail limit are compared with, at the worst."""
    sign = _sign(rule)
    seen = [observation.estimate for observation in observe(rule.figure, facts, rule)]
    judged = seen if _direction(rule) == FIGURES[rule.figure].bad else seen[:1]  # as the rule is judged
    if not judged:
        return None
    value = max(sign * estimate.value for estimate in judged)
    ends = [sign * end for e in judged for end in (e.value, e.low, e.high) if end is not None]
    return SeenFigure(value=sign * value, end=sign * max(ends))


def calibrated(
    rules: Sequence[PolicyRule], seen: Sequence[Sequence[SeenFigure | None]], facts: AuditFacts, n_models: int
) -> tuple[list[PolicyRule], list[CalibratedRule]]:
    """Return the policy with limits beyond what equals show, and for each rule what it came from.

    Args:
        rules: the policy in force.
        seen: for each audit of equals the figure of each rule.
        facts: of one of the audits, which says why a figure is absent.
        n_models: how many equals there are.
    """
    columns = [[row[place] for row in seen] for place in range(len(rules))]
    made = [_calibrate(rule, column, facts, n_models) for rule, column in zip(rules, columns, strict=True)]
    return [rule for rule, _ in made], [account for _, account in made]


def _calibrate(
    rule: PolicyRule, column: Sequence[SeenFigure | None], facts: AuditFacts, n_models: int
) -> tuple[PolicyRule, CalibratedRule]:
    figures = [figure for figure in column if figure is not None]
    direction = _direction(rule)
    if len(figures) < MIN_VALUES:
        absent = f"observed in {len(figures)} of {len(column)} audits: {_why_absent(rule, facts)}"
        account = CalibratedRule(
            figure=rule.figure,
            direction=direction,
            n=len(figures),
            warn_before=rule.warn,
            fail_before=rule.fail,
            warn=rule.warn,
            fail=rule.fail,
            note=absent,
        )
        return rule, account
    values = _spread(rule, [figure.value for figure in figures])
    ends = _spread(rule, [figure.end for figure in figures])
    sign = _sign(rule)
    beyond = sign * max(sign * values.bound, sign * ends.bound)  # a fail limit is never nearer than the warn limit
    ends = ends.model_copy(update={"bound": beyond})
    account = CalibratedRule(
        figure=rule.figure,
        direction=direction,
        n=len(figures),
        values=values,
        ends=ends,
        warn_before=rule.warn,
        fail_before=rule.fail,
        warn=_farther(rule.warn, values.bound, sign),
        fail=_farther(rule.fail, ends.bound, sign),
    )
    reason = _EARLIER.sub("", rule.reason or "")
    told = _reason(account, n_models)
    limits = {"warn": account.warn, "fail": account.fail, "reason": f"{reason}; {told}" if reason else told}
    return rule.model_copy(update=limits), account


def _spread(rule: PolicyRule, values: Sequence[float]) -> Spread:
    sign = _sign(rule)
    signed = [sign * value for value in values]
    bound = rounded_up(upper_bound(signed))
    most = 0.0 if sign < 0 and min(values) >= 0 else 1.0 if FIGURES[rule.figure].unit != "number" else bound
    if FIGURES[rule.figure].unit == "number" and all(value.is_integer() for value in signed):
        bound = math.floor(bound)  # a count is over 3.4 where it is over 3
    bound = max(min(bound, most), max(signed))  # no limit lies where the figure cannot be
    return Spread(least=min(values), median=statistics.median(values), most=max(values), bound=sign * bound + 0.0)


def _farther(limit: float | None, bound: float, sign: float) -> float | None:
    return None if limit is None else sign * max(sign * limit, sign * bound)


def _why_absent(rule: PolicyRule, facts: AuditFacts) -> str:
    if rule.figure.startswith("detectable."):
        return "audits of equals have no controls"
    return FIGURES[rule.figure].absent(facts)


def _direction(rule: PolicyRule) -> Literal["above", "below"]:
    return rule.direction or FIGURES[rule.figure].bad


def _sign(rule: PolicyRule) -> float:
    return 1.0 if _direction(rule) == "above" else -1.0


def _reason(account: CalibratedRule, n_models: int) -> str:
    """Say what the limits of a rule come from."""
    values, ends = account.values, account.ends
    assert values is not None and ends is not None, "the rule was calibrated"
    farthest, most = ("smallest", values.least) if account.direction == "below" else ("largest", values.most)
    text = (
        f"{counted(account.n, 'audit')} of {counted(n_models, 'equal model')}: {farthest} {most:.3g}, 95 % bound "
        f"{values.bound:.3g}"
    )
    end = ends.least if account.direction == "below" else ends.most
    if account.fail is None or end == most:
        return text
    return f"{text}; intervals to {end:.3g}, bound {ends.bound:.3g}"
