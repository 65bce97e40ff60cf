"""Waivers: who decided that a figure may be over its limits, why, and until when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from koda.config import PolicyRule, Waiver
from koda.errors import ConfigError, did_you_mean, nearest
from koda.policy.default import POSSIBLE_RULES
from koda.policy.figures import FIGURES
from koda.records import WaiverRecord
from koda.records.controls import SPIKE_IN_SHARES


def check_policy(
    policy: Sequence[PolicyRule] | None, waivers: Sequence[Waiver] = (), searches: int | None = None
) -> None:
    """Refuse what could never apply.

    Args:
        policy: its rules; None for the default.
        waivers: of its rules.
        searches: how many searches measure the stability of a finding; None where that is not known.

    Raises:
        ConfigError: a rule on a figure that no audit records (the nearest one is named), an option that has no
            meaning for its figure, a warn limit beyond the fail limit, or a waiver that matches no rule.
    """
    rules = POSSIBLE_RULES if policy is None else policy
    for place, rule in enumerate(rules):
        if rule.figure not in FIGURES:
            raise ConfigError(
                f"policy.{place}: no audit records the figure {rule.figure!r}.",
                f"{_hint(rule.figure, list(FIGURES))}The figures are: {', '.join(FIGURES)}. `koda figures` explains "
                "them.",
            )
        _check_rule(f"policy.{place}", rule, searches)
    figures = list(dict.fromkeys(rule.figure for rule in rules))
    for place, waiver in enumerate(waivers):
        if waiver.figure not in figures:
            known = f"The rules are on: {', '.join(figures)}." if figures else "The policy has no rules."
            raise ConfigError(
                f"waivers.{place}: no rule of the policy is on the figure {waiver.figure!r}.",
                f"{_hint(waiver.figure, figures)}{known}",
            )


def _check_rule(place: str, rule: PolicyRule, searches: int | None) -> None:
    figure = FIGURES[rule.figure]
    if rule.min_stability is not None and not figure.of_a_finding:
        raise ConfigError(
            f"{place}: min_stability has no meaning for {rule.figure}, which no single finding decides.",
            f"It is for {', '.join(name for name, other in FIGURES.items() if other.of_a_finding)}.",
        )
    if rule.min_stability is not None and searches == 0:
        raise ConfigError(
            f"{place}: min_stability is set, but significance.stability: 0 says that no stability is measured.",
            "Set significance.stability to 2 or more, or leave min_stability out.",
        )
    if rule.max_reference_share is not None and not figure.of_a_reference:
        raise ConfigError(
            f"{place}: max_reference_share has no meaning for {rule.figure}.",
            f"It is for {', '.join(name for name, other in FIGURES.items() if other.of_a_reference)}.",
        )
    smallest = min(SPIKE_IN_SHARES)
    too_strict = [limit for limit in (rule.warn, rule.fail) if limit is not None and limit < smallest]
    if rule.figure == "detectable.lost_share" and rule.direction != "below" and too_strict:
        raise ConfigError(
            f"{place}: detectable.lost_share is never under the limit of {too_strict[0]:g}: the smallest groups "
            f"that are put in have a share of {smallest:g}.",
            f"Set a limit of {smallest:g} or more.",
        )
    if rule.warn is None or rule.fail is None:
        return
    bad = rule.direction or figure.bad
    if (rule.warn > rule.fail) if bad == "above" else (rule.warn < rule.fail):
        raise ConfigError(
            f"{place}: the rule on {rule.figure} could never warn: what is {bad} the warn limit of {rule.warn:g} is "
            f"{bad} the fail limit of {rule.fail:g} too.",
            f"Exchange the limits, or set direction: {'below' if bad == 'above' else 'above'}.",
        )


def _hint(name: str, known: list[str]) -> str:
    hint = did_you_mean(nearest(name, known, alike=0.4))
    return f"{hint} " if hint else ""


def waivers_in_force(waivers: Sequence[Waiver], today: date) -> list[Waiver]:
    """Return the waivers that count on a day (UTC); one counts through the day on which it expires."""
    return [waiver for waiver in waivers if waiver.expires >= today]


def waiver_of(rule: PolicyRule, waivers: Sequence[Waiver], today: date) -> WaiverRecord | None:
    """Return what is to be recorded of the waiver of a rule: of several, the one that is in force the longest."""
    own = [waiver for waiver in waivers if waiver.figure == rule.figure]
    if not own:
        return None
    longest = max(own, key=lambda waiver: waiver.expires)
    return WaiverRecord(
        person=longest.person, reason=longest.reason, expires=longest.expires, expired=longest.expires < today
    )
