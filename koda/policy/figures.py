"""The figures that a rule may limit: each is found in what the audit recorded, and in nothing else.

A figure over several findings or slices is that of the worst. The intervals of falls on slices hold for all slices
together; that of a share is the finding's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from koda.config import PolicyRule
from koda.policy.by_value import ALPHA, ANY_COLUMN, ByValue, Task
from koda.policy.facts import AuditFacts, harm_is_measured
from koda.policy.figure import Figure, Observation, Observe
from koda.policy.harm import (
    TOP_ONE,
    Falls,
    falls_on_slices,
    harms,
    in_words,
    retrieval_falls,
    together,
    zero_shot_falls,
)
from koda.policy.intervals import of_several
from koda.records import ALL, DataRecord, Estimate, Finding
from koda.typing import RETRIEVAL_DIRECTIONS, RetrievalDirection, Side

_AT_ONE = "R@1"
_fall = partial(Figure, unit="points")


def observe(name: str, facts: AuditFacts, rule: PolicyRule) -> list[Observation]:
    """Return what an audit has of a figure, the worst first; a figure that is no number was not observed."""
    figure = FIGURES[name]
    observations = figure.observe(facts, rule)
    if facts.retested is not None and (figure.of_a_finding or figure.of_findings):
        # the audit's own and those of the audit before may be one difference: both are judged, and never added up
        observations = _worst_first([*observations, *_of_retests(figure, facts.retested, rule)])
    return [seen for seen in observations if math.isfinite(seen.estimate.value)]


def _of_retests(figure: Figure, retested: AuditFacts, rule: PolicyRule) -> list[Observation]:
    """Observe a figure of the findings that were tested again, and name them."""
    named = []
    for seen in figure.observe(retested, rule):
        if seen.finding is not None:
            named.append(replace(seen, retests=(seen.finding,)))
        elif seen.estimate.value:
            confirmed = tuple(finding for finding in retested.findings if finding.confirmed)
            named.append(replace(seen, retests=confirmed))
    return named


def _alone(value: float | None, n: int | None = None) -> list[Observation]:
    return [] if value is None else [Observation(Estimate(value=value, n=n))]


def _worst_first(observations: Iterable[Observation]) -> list[Observation]:
    return sorted(observations, key=lambda seen: -seen.estimate.value)


def _max_share(side: Side) -> Observe:
    """The largest held-out target share of the side's material findings.

    A finding counts unless the held-out test did not confirm it, and where its share under the reference is at most
    the rule's `max_reference_share`, by default half its share under the target.
    """

    def observe(facts: AuditFacts, rule: PolicyRule) -> list[Observation]:
        return _worst_first(
            Observation(finding.target_share, finding)
            for finding in facts.findings
            if finding.side == side
            and finding.confirmed is not False
            and finding.reference_share.value <= _reference_limit(rule, finding)
        ) or _alone(0.0)

    return observe


def _reference_limit(rule: PolicyRule, finding: Finding) -> float:
    return finding.target_share.value / 2 if rule.max_reference_share is None else rule.max_reference_share


def _max_difference(side: Side) -> Observe:
    """The largest held-out difference of shares, target less reference, of the side's findings that count."""

    def observe(facts: AuditFacts, rule: PolicyRule) -> list[Observation]:
        return _worst_first(
            Observation(finding.difference, finding)
            for finding in facts.findings
            if finding.side == side and finding.confirmed is not False
        ) or _alone(0.0)

    return observe


def _confirmed(*sides: Side) -> Observe:
    def observe(facts: AuditFacts, rule: PolicyRule) -> list[Observation]:
        return _alone(sum(finding.side in sides and finding.confirmed is True for finding in facts.findings))

    return observe


def _max_harmful_share(facts: AuditFacts, rule: PolicyRule) -> list[Observation]:
    """The largest share that counts in `lost.max_share` and whose slice got worse; see :mod:`koda.policy.harm`."""
    if not harm_is_measured(facts):
        return []
    return _worst_first(
        Observation(finding.target_share, finding, f"{in_words(worst)} fell by {100 * worst.estimate.value:.0f} points")
        for finding, worst in harms(facts)
        if finding.reference_share.value <= _reference_limit(rule, finding)
    ) or _alone(0.0)


def _themes(side: Side) -> Observe:
    """The number of themes of a side that have a confirmed finding.

    A finding that was not refuted is in a theme, so that findings without any are of a record without themes.
    """

    def observe(facts: AuditFacts, rule: PolicyRule) -> list[Observation]:
        themes = [theme for theme in facts.themes if theme.side == side]
        if not themes and any(finding.side == side and finding.confirmed is not False for finding in facts.findings):
            return []
        return _alone(sum(theme.confirmed for theme in themes))

    return observe


def _worst_slice(falls: Falls) -> Observe:
    """The largest fall on the held-out members of a lobe of a confirmed finding; 0 where none is confirmed."""

    def observe(facts: AuditFacts, rule: PolicyRule) -> list[Observation]:
        if falls(facts.metrics, ALL) is None:
            return []
        confirmed = [finding for finding in facts.findings if finding.confirmed is True]
        return _worst_first(
            Observation(one.estimate, finding, in_words(one))
            for finding, one in falls_on_slices(facts.metrics, confirmed, falls)
        ) or _alone(0.0)

    return observe


def _whole_fall(falls: Falls) -> Observe:
    def observe(facts: AuditFacts, rule: PolicyRule) -> list[Observation]:
        wide = together(falls(facts.metrics, ALL) or [])
        return _worst_first(Observation(one.estimate, detail=in_words(one)) for one in wide)

    return observe


def _retrieval_falls(*directions: RetrievalDirection) -> Falls:
    return lambda metrics, subset: retrieval_falls(metrics, subset, *directions)


def _detectable(facts: AuditFacts, rule: PolicyRule) -> list[Observation]:
    """The smallest share of which every group that was put in was found and confirmed."""
    share = None if facts.controls is None else facts.controls.detectable_lost_share
    return _alone(share)


def _recall(facts: AuditFacts, rule: PolicyRule) -> list[Observation]:
    """R@1 of the candidate on the whole set, the lower of both retrieval directions first."""
    whole = [item for item in facts.metrics.retrieval if item.subset == ALL and item.role == "candidate"]
    estimates = [getattr(item, direction).get(_AT_ONE) for item in whole for direction in RETRIEVAL_DIRECTIONS]
    known = [estimate for estimate in estimates if estimate is not None]
    return _worst_first(Observation(of_several(one, len(known), 0.0, 1.0)) for one in known)[::-1]


def _accuracy(facts: AuditFacts, rule: PolicyRule) -> list[Observation]:
    """Zero-shot top-1 accuracy of the candidate on the whole set."""
    accuracies = [] if facts.metrics.zero_shot is None else facts.metrics.zero_shot.accuracies
    whole = [item.top.get(TOP_ONE) for item in accuracies if item.subset == ALL and item.role == "candidate"]
    return [Observation(estimate) for estimate in whole if estimate is not None]


def _by_value(figure: ByValue) -> Figure:
    """A figure of the family of falls by metadata value; 0 where no fall is significant."""

    def observe(facts: AuditFacts, rule: PolicyRule) -> list[Observation]:
        falls = figure.falls(facts.metrics)
        return _worst_first(
            Observation(of_several(one.estimate, len(falls), -1.0, 1.0), detail=one.where)
            for one in falls
            if one.p_value < ALPHA and one.estimate.value > 0
        ) or (_alone(0.0) if falls else [])

    def absent(facts: AuditFacts) -> str:
        on_the_whole, why = _TASKS[figure.task]
        if on_the_whole(facts.metrics, ALL) is None:
            return why(facts)
        return figure.absent(facts.metrics, facts.data.metadata_columns)

    return _fall(figure.words, observe, absent=absent)


def _share_of_compared(count: Callable[[DataRecord], int | None]) -> Observe:
    def observe(facts: AuditFacts, rule: PolicyRule) -> list[Observation]:
        n, counted = facts.data.n_compared, count(facts.data)
        return [] if counted is None or not n else _alone(min(1.0, counted / n), n)

    return observe


def _similarity(field: str, modality: str) -> Observe:
    def observe(facts: AuditFacts, rule: PolicyRule) -> list[Observation]:
        whole = facts.metrics.whole.get(modality)
        return [] if whole is None else _alone(float(getattr(whole, field)), whole.n)

    return observe


def _no_themes(facts: AuditFacts) -> str:
    return "the audit was made before findings were grouped into themes"


def _no_retrieval(facts: AuditFacts) -> str:
    return "retrieval needs both models to embed images and captions in one space"


def _no_zero_shot(facts: AuditFacts) -> str:
    zero_shot = facts.metrics.zero_shot
    if zero_shot is None:
        return "the configuration has no zero_shot section, which names the classes"
    reasons = [f"{model}: {reason}" for model, reason in zero_shot.unavailable.items()]
    return "; ".join(reasons) or f"no sample has one of the classes in {zero_shot.label_column}, or there is one class"


def _no_modality(name: str) -> Callable[[AuditFacts], str]:
    return lambda facts: f"the audit compares no {name} embeddings (discrepancy.modality)"


def _no_harm(facts: AuditFacts) -> str:
    return (
        f"nothing measured can show that something got worse: {_no_retrieval(facts)} and a baseline that finds more "
        f"than chance; {_no_zero_shot(facts)}"
    )


def _nothing_detectable(facts: AuditFacts) -> str:
    controls = facts.controls
    if controls is None or not controls.spike_ins:
        why = None if controls is None else controls.note
        return why or "significance.spike_ins: 0 says that nothing is put in"
    return "not even of the largest share was every group that was put in found and confirmed"


_BOTH_FALLS = _retrieval_falls()
_TASKS: dict[Task, tuple[Falls, Callable[[AuditFacts], str]]] = {
    "retrieval": (_BOTH_FALLS, _no_retrieval),
    "zero_shot": (zero_shot_falls, _no_zero_shot),
}

_NAMED: dict[str, Figure] = {
    "lost.max_share": Figure("largest share lost", _max_share("lost"), of_a_finding=True, of_a_reference=True),
    "gained.max_share": Figure("largest share gained", _max_share("gained"), of_a_finding=True, of_a_reference=True),
    "lost.max_harmful_share": Figure(
        "largest share lost where the candidate also got worse",
        _max_harmful_share,
        of_a_finding=True,
        of_a_reference=True,
        absent=_no_harm,
    ),
    "lost.max_difference": Figure("largest difference of shares lost", _max_difference("lost"), of_a_finding=True),
    "gained.max_difference": Figure(
        "largest difference of shares gained", _max_difference("gained"), of_a_finding=True
    ),
    "lost.themes": Figure(
        "number of themes lost: groups of overlapping directions with a confirmed one",
        _themes("lost"),
        of_findings=True,
        unit="number",
        absent=_no_themes,
    ),
    "gained.themes": Figure(
        "number of themes gained: groups of overlapping directions with a confirmed one",
        _themes("gained"),
        of_findings=True,
        unit="number",
        absent=_no_themes,
    ),
    "lost.confirmed": Figure(
        "number of confirmed directions lost", _confirmed("lost"), of_findings=True, unit="number"
    ),
    "gained.confirmed": Figure(
        "number of confirmed directions gained", _confirmed("gained"), of_findings=True, unit="number"
    ),
    "confirmed.count": Figure(
        "number of confirmed directions, lost and gained",
        _confirmed("lost", "gained"),
        of_findings=True,
        unit="number",
    ),
    "slice.retrieval_drop": _fall(
        "largest fall of recall on the held-out members of a confirmed slice, of both retrieval directions",
        _worst_slice(_BOTH_FALLS),
        of_a_finding=True,
        absent=_no_retrieval,
    ),
    "slice.zero_shot_drop": _fall(
        "largest fall of zero-shot accuracy on the held-out members of a confirmed slice",
        _worst_slice(zero_shot_falls),
        of_a_finding=True,
        absent=_no_zero_shot,
    ),
    "retrieval.drop": _fall(
        "fall of recall on the whole set, the larger of both retrieval directions",
        _whole_fall(_BOTH_FALLS),
        absent=_no_retrieval,
    ),
    "retrieval.image_to_text.drop": _fall(
        "fall of recall of captions by image on the whole set",
        _whole_fall(_retrieval_falls("image_to_text")),
        absent=_no_retrieval,
    ),
    "retrieval.text_to_image.drop": _fall(
        "fall of recall of images by caption on the whole set",
        _whole_fall(_retrieval_falls("text_to_image")),
        absent=_no_retrieval,
    ),
    "retrieval.recall": Figure(
        "R@1 of the candidate on the whole set, the lower of both retrieval directions",
        _recall,
        bad="below",
        absent=_no_retrieval,
    ),
    "zero_shot.drop": _fall(
        "fall of zero-shot accuracy on the whole set", _whole_fall(zero_shot_falls), absent=_no_zero_shot
    ),
    "zero_shot.accuracy": Figure(
        "zero-shot accuracy of the candidate on the whole set", _accuracy, bad="below", absent=_no_zero_shot
    ),
    "detectable.lost_share": Figure(
        "smallest share lost that this audit would have found in every trial", _detectable, absent=_nothing_detectable
    ),
    "rejections.share": Figure(
        "share of samples left out",
        lambda facts, rule: _alone(facts.data.n_rejected / facts.data.n_asked, facts.data.n_asked),
    ),
    "rejections.count": Figure(
        "number of samples left out", lambda facts, rule: _alone(facts.data.n_rejected), unit="number"
    ),
    "duplicates.share": Figure(
        "share of samples whose image an earlier sample has", _share_of_compared(lambda data: data.n_duplicate_images)
    ),
    "captions.long_share": Figure(
        "share of captions cut at the context length, of the model that cuts more",
        _share_of_compared(lambda data: max(data.n_long_captions.values(), default=None)),
    ),
    **{
        f"similarity.cka.{modality}": Figure(
            f"CKA of the {what} embeddings",
            _similarity("cka", modality),
            bad="below",
            unit="number",
            absent=_no_modality(modality),
        )
        for modality, what in (("image", "image"), ("text", "caption"))
    },
    **{
        f"similarity.neighbours.{modality}": Figure(
            f"agreement on the neighbours of {what}",
            _similarity("neighbours", modality),
            bad="below",
            absent=_no_modality(modality),
        )
        for modality, what in (("image", "images"), ("text", "captions"))
    },
    **{
        f"by.{column}{task}_drop": _by_value(ByValue(column.rstrip(".") or None, task))
        for column in (f"{ANY_COLUMN}.", "")
        for task in _TASKS
    },
}


class Figures(Mapping[str, Figure]):
    """The figures by name; of the open family of falls by metadata value, iteration has `by.<column>...` for all."""

    def __getitem__(self, name: str) -> Figure:
        if name in _NAMED:
            return _NAMED[name]
        if (family := ByValue.parse(name)) is None:
            raise KeyError(name)
        return _by_value(family)

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMED)

    def __len__(self) -> int:
        return len(_NAMED)


FIGURES = Figures()
