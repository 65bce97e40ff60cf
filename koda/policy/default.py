"""The policy of an audit whose configuration has none: a verdict about harm, as far as harm was measured."""

from __future__ import annotations

from collections.abc import Sequence

from koda.config import PolicyRule
from koda.policy.facts import AuditFacts, harm_is_measured, retrieval_is_informative
from koda.policy.figures import FIGURES

HARM_LIMIT = 0.05  # fall of retrieval or accuracy
CATEGORY_LIMIT = 0.2  # of one on a category: seeds of one training differ by 0.15 on one of eight colours
_RETRIEVAL = PolicyRule(figure="retrieval.drop", fail=HARM_LIMIT, reason="retrieval that got worse")
_ZERO_SHOT = PolicyRule(figure="zero_shot.drop", fail=HARM_LIMIT, reason="zero-shot accuracy that got worse")
_HARMFUL = PolicyRule(
    figure="lost.max_harmful_share",
    warn=0.003,
    fail=0.006,
    reason="structure that the candidate no longer has, where it also got worse",
)
_BY_VALUE = PolicyRule(
    figure="by.retrieval_drop",
    warn=HARM_LIMIT,
    fail=CATEGORY_LIMIT,
    reason="a category of the metadata on which retrieval got worse",
)
_BY_VALUE_ZERO_SHOT = PolicyRule(
    figure="by.zero_shot_drop",
    warn=HARM_LIMIT,
    fail=CATEGORY_LIMIT,
    reason="a category of the metadata on which accuracy got worse",
)
_LOST = PolicyRule(figure="lost.max_share", warn=0.003, reason="structure that the candidate no longer has")
_LOST_ALONE = PolicyRule(
    figure="lost.max_share",
    warn=0.003,
    fail=0.006,
    reason="structure that the candidate no longer has; whether anything got worse could not be measured, since "
    "images and captions share no space in which they are found again, and there are no classes",
)
_GAINED = PolicyRule(figure="gained.max_share", warn=0.006, reason="structure that the baseline does not have")
_REJECTIONS = PolicyRule(figure="rejections.share", warn=0.01, reason="samples that could not be compared")

_AT_CHANCE = "the baseline retrieves no better than chance, so it has nothing to lose"

#: every rule that the default policy may hold, for the check of waivers before anything is measured
POSSIBLE_RULES = (_HARMFUL, _RETRIEVAL, _ZERO_SHOT, _BY_VALUE, _BY_VALUE_ZERO_SHOT, _LOST, _GAINED, _REJECTIONS)


def default_policy(facts: AuditFacts) -> tuple[PolicyRule, ...]:
    """Return the rules that hold where the configuration has none.

    What got worse decides: retrieval and zero-shot accuracy, as a whole and on every category of the metadata, and lost
    structure whose samples also got worse. Structure that changed while nothing measured got worse is warned about.
    Where neither retrieval nor accuracy can tell (no shared space, a baseline that retrieves no better than chance, no
    classes), lost structure itself is what fails.
    """
    if not harm_is_measured(facts):
        return (_LOST_ALONE, _GAINED, _REJECTIONS)
    rules = [_HARMFUL]
    by_value = facts.metrics.by_value
    if retrieval_is_informative(facts):
        rules.append(_RETRIEVAL)
        rules += [_BY_VALUE] if any(item.retrieval for item in by_value) else []
    if facts.metrics.zero_shot is not None and facts.metrics.zero_shot.differences:
        rules.append(_ZERO_SHOT)
        rules += [_BY_VALUE_ZERO_SHOT] if any(item.zero_shot for item in by_value) else []
    return (*rules, _LOST, _GAINED, _REJECTIONS)


def left_out(facts: AuditFacts, rules: Sequence[PolicyRule]) -> list[str]:
    """Say which rules about harm :func:`default_policy` leaves out, and why they have nothing to look at."""
    applied = {rule.figure for rule in rules}
    missing: dict[str, list[str]] = {}
    for rule in (_RETRIEVAL, _BY_VALUE, _ZERO_SHOT, _BY_VALUE_ZERO_SHOT):
        if rule.figure not in applied:
            figure = FIGURES[rule.figure]
            why = _AT_CHANCE if figure.observe(facts, rule) else figure.absent(facts)
            missing.setdefault(why, []).append(rule.figure)
    return [f"{', '.join(figures)}: {why}" for why, figures in missing.items()]
