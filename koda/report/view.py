"""The findings of a report: each in words, rows and figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from koda.records import AuditRecord, Finding, LobeRecord, Subset
from koda.report import text
from koda.report.figures import limit_in_words
from koda.report.plots import Interval, IntervalRow, interval_plot
from koda.report.thumbnails import Gallery, Shot
from koda.slicing.naming import DOMINANT, says_something
from koda.typing import roles_of

_LEAST_TELLING = 0.4  # a word that tells less than this part of what the most telling one tells is left out
_LEAST_SHARE = 1e-3  # a share that stands for those below it
_SIMILARITIES = (
    ("inside_positive", "inside first lobe"),
    ("inside_negative", "inside counterpart"),
    ("across", "across the lobes"),
    ("positive_to_rest", "first lobe to rest"),
    ("negative_to_rest", "counterpart to rest"),
)


@dataclass(frozen=True)
class LobeView:
    """One lobe of a finding, as its gallery shows it."""

    lobe: LobeRecord
    name: str
    heading: str
    shots: list[Shot]


@dataclass(frozen=True)
class FindingView:
    """One finding, in words."""

    finding: Finding
    id: str
    name: str
    heading: str
    state: str
    sentence: str
    figures: list[tuple[str, str]]
    pairs: list[tuple[str, str, str]]
    plot: Markup
    lobes: list[LobeView]


def view(record: AuditRecord, finding: Finding, gallery: Gallery) -> FindingView:
    """Put one finding in words, rows and a figure."""
    title = text.shorten(finding.name, 160) if finding.name else _by_words(finding)
    name = numbered(finding.subset)
    target, reference = finding.target, finding.reference
    figures = [
        ("difference (held out)", text.share(finding.difference)),
        ("materiality", text.percent(record.method.materiality)),
        ("p (one-sided, Holm)", text.p_value(finding.p_value)),
        *_stability(finding),
        *_previous(finding),
        ("quotient of the energies", text.number(finding.quotient)),
        ("multiplier λ", text.scientific(finding.multiplier)),
        ("gap to the optimum, at most", text.scientific(finding.gap)),
        ("solver", finding.status),
    ]
    under = (finding.similarity.get("target"), finding.similarity.get("reference"))
    pairs = [
        ("share (held out)", text.share(finding.target_share), text.share(finding.reference_share)),
        (
            "share (in sample)",
            text.percent(finding.target_share_in_sample),
            text.percent(finding.reference_share_in_sample),
        ),
        ("energy", text.power(finding.target_energy), text.power(finding.reference_energy)),
    ]
    searched = [finding.similarity_searched.get(name) for name in ("target", "reference")]
    for field, label in _SIMILARITIES:
        a, b = (
            _similarities(*(None if table is None else getattr(table, field) for table in tables))
            for tables in zip(under, searched, strict=True)
        )
        pairs.append((label, a, b))
    plot = interval_plot(
        [
            IntervalRow("", Interval.of(finding.target_share), Interval.of(finding.reference_share)),
        ],
        title=f"{name}: held-out shares under {target} and {reference}, with intervals",
        target_name=target,
        reference_name=reference,
        axis="share of the data, %",
        scale=100,
        width=330,
        label_width=14,
    )
    return FindingView(
        finding=finding,
        id=anchor(finding.subset),
        name=name,
        heading=f"{name}: {title}" if title else name,
        state=state(finding),
        sentence=_sentence(record, finding),
        figures=figures,
        pairs=pairs,
        plot=plot,
        lobes=[
            LobeView(lobe, place, _lobe_heading(place, lobe), [gallery.shot(sample) for sample in lobe.samples])
            for lobe, place in ((finding.positive, "First lobe"), (finding.negative, "Counterpart"))
        ],
    )


def overview(record: AuditRecord, side: str, views: Sequence[FindingView]) -> Markup:
    """Draw the held-out shares of all directions of a side beside the limits of the policy."""
    shown = [v for v in views if v.finding.side == side]
    if not shown:
        return Markup("")
    limits = {
        f"{which} limit {limit_in_words(rule, value)}": value
        for rule in record.verdict.rules
        if rule.figure == f"{side}.max_share"
        for which, value in (("warn", rule.warn), ("fail", rule.fail))
        if value is not None
    }
    return interval_plot(
        [
            IntervalRow(
                text.clean(v.heading), Interval.of(v.finding.target_share), Interval.of(v.finding.reference_share)
            )
            for v in shown
        ],
        title=f"Held-out shares of the directions {side}, under both models, with intervals",
        target_name=text.clean(shown[0].finding.target),
        reference_name=text.clean(shown[0].finding.reference),
        axis="share of the data, % (held out)",
        limits=limits,
        scale=100,
        label_width=220,
    )


def state(finding: Finding) -> str:
    """Say how a finding came out of its test."""
    return {True: "confirmed", False: "not confirmed", None: "not tested"}[finding.confirmed]


def anchor(subset: Subset) -> str:
    """Return the anchor of a finding: `lost-1`."""
    return str(subset).replace(" ", "-")


def numbered(subset: Subset) -> str:
    """Return the number of a finding as a heading has it: `Lost 1`."""
    return str(subset).capitalize()


def _lobe_heading(place: str, lobe: LobeRecord) -> str:
    size = text.plural(lobe.size, "sample")
    return f"{place}: {text.shorten(lobe.name, 200)}; {size}" if lobe.name else f"{place}: {size}"


def _by_words(finding: Finding) -> str:
    """Name a finding of a record without names by the words of its lobes."""
    first, second = (_telling(*pair) for pair in _both_ways(finding))
    words = " against ".join(", ".join(text.shorten(w, 32) for w in side) for side in (first, second) if side)
    return words or f"a group of {text.plural(finding.positive.size, 'sample')} against one of {finding.negative.size}"


def _both_ways(finding: Finding) -> list[tuple[LobeRecord, LobeRecord]]:
    return [(finding.positive, finding.negative), (finding.negative, finding.positive)]


def _telling(lobe: LobeRecord, other: LobeRecord, count: int = 2) -> list[str]:
    """Return the words that tell a lobe from the other, the most telling first, none that repeats another.

    With p the share of the lobe's captions that hold the word, and q that of the other's, it tells p log(p / q). A
    word that the other lobe does not list is as common there as elsewhere. One that tells little beside the first is
    left out, and so are those that hold for a minority of the lobe, or only join others.
    """
    there = {word.text: word.share_in for word in other.words}
    more = {
        word.text: word.share_in
        * math.log(max(word.share_in, _LEAST_SHARE) / max(there.get(word.text, word.share_out), _LEAST_SHARE))
        for word in lobe.words
        if word.share_in >= DOMINANT and says_something(word.text)
    }
    first = max(more.values(), default=0.0)
    ranked = [
        word for word in sorted(more, key=lambda word: -more[word]) if more[word] > max(0.0, _LEAST_TELLING * first)
    ]
    chosen: list[str] = []
    for word in ranked:
        tokens = set(word.split())
        if len(chosen) < count and not any(tokens & set(before.split()) for before in chosen):
            chosen.append(word)
    return chosen


def _stability(finding: Finding) -> list[tuple[str, str]]:
    """Say how much of the slice, and of the subspace of its side, other samples find again."""
    seen = finding.stability
    if seen is None:
        return []
    return [
        (
            f"slice found again (mean Jaccard of {text.plural(seen.n_runs, 'search', 'searches')})",
            text.percent(seen.jaccard, 0),
        ),
        (f"subspace of the {finding.side} directions found again", text.percent(seen.subspace, 0)),
    ]


def _previous(finding: Finding) -> list[tuple[str, str]]:
    """Name the finding of the last audit whose slice overlaps most with this one's."""
    seen = finding.nearest_previous
    if seen is None:
        return []
    where = f"{seen.side} {seen.direction} of {text.shorten(seen.audit, 60)}"
    return [("nearest direction of the last audit", f"{where}, overlap {text.percent(seen.overlap, 0)}")]


def _similarities(held_out: float | None, searched: float | None) -> str:
    """Write a mean similarity, and beside it that of the samples searched."""
    return _similarity(held_out) + (f" ({_similarity(searched)})" if searched is not None else "")


def _similarity(value: float | None) -> str:
    return text.NONE if value is None else f"{value:.3f}".replace("-", "−")


def _sentence(record: AuditRecord, finding: Finding) -> str:
    """Say what was found, with data set, n, value and interval; neither why nor how bad it is."""
    target_role, reference_role = roles_of(finding.side)
    target, reference = f"the {target_role} ({finding.target})", f"the {reference_role} ({finding.reference})"
    sizes = f"lobes of {text.number(finding.positive.size)} and {text.number(finding.negative.size)} samples"
    n = finding.target_share.n or record.data.n_confirmation
    opening = (
        f"In data set {record.data.name} (n{text.NBSP}={text.NBSP}{text.number(n)}, held out), {target} ties the "
        f"samples along this direction ({sizes}) together as a group of "
        f"{text.share(finding.target_share, words=True)} of the data would be"
    )
    there = text.share(finding.reference_share, words=True)
    if finding.confirmed:
        highest = finding.reference_share.high
        slight = highest is not None and highest <= record.method.materiality
        under = f"{reference} does not: {there}" if slight else f"under {reference} the figure is {there}"
        over = f"The difference is over the materiality of {text.percent(record.method.materiality)}"
        return f"{opening}; {under}. {over} (p{text.NBSP}{_p(finding.p_value)}, one-sided, Holm)."
    ending = "The difference is not confirmed on held-out samples." if finding.confirmed is False else ""
    return f"{opening}; under {reference} the figure is {there}. {ending}".rstrip()


def _p(value: float | None) -> str:
    said = text.p_value(value)
    return (said if said.startswith("<") else f"= {said}").replace(" ", text.NBSP)
