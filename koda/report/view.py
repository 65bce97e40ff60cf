"""The findings of a report: each in words, rows and figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from koda.records import AuditRecord, Finding, LobeRecord, OverRepresented, Subset, Word
from koda.records.page_names import page_name
from koda.report import text
from koda.report.confusion import Matrix, confusions, similarities
from koda.report.figures import limit_of
from koda.report.plots import Interval, IntervalRow, interval_plot, interval_plots
from koda.report.shared_names import telling
from koda.report.thumbnails import PICKS, Gallery, Shot, in_order
from koda.slicing.naming import DOMINANT, says_something
from koda.typing import roles_of

_LEAST_TELLING = 0.4  # a word that tells less than this part of what the most telling one tells is left out
_LEAST_SHARE = 1e-3  # a share that stands for those below it
_ROWS, _PAIRED_ROWS = 20, 14  # of a figure, which has to fit on a page
_HEADINGS = {"top": "Top of the ranking", "member": "Drawn from the members", "near miss": "Near misses, no members"}


@dataclass(frozen=True)
class LobeView:
    """One lobe of a finding, as its gallery shows it.

    Args:
        words, metadata: of the lobe; what the heading of the finding says comes first.
        groups: the same shots under what they were chosen as.
    """

    lobe: LobeRecord
    name: str
    heading: str
    words: list[Word]
    metadata: list[OverRepresented]
    shots: list[Shot]
    groups: list[tuple[str, list[Shot]]]
    confusions: list[Matrix]


@dataclass(frozen=True)
class FindingView:
    """One finding, in words."""

    finding: Finding
    id: str
    name: str
    heading: str
    state: str
    theme: str
    page: str  # with all of its pictures; "" where the report holds them
    sentence: str
    members: str
    figures: list[tuple[str, str]]
    pairs: list[tuple[str, str, str]]
    similarities: list[Matrix]
    plot: Markup
    lobes: list[LobeView]


def titles(record: AuditRecord) -> dict[Subset, str]:
    """Return what each finding is called, with what tells it from others that would be called the same."""
    names = {f.subset: text.shorten(f.name, 160) if f.name else _by_words(f) for f in record.findings}
    apart = telling(record, names)
    return {subset: f"{name} ({apart[subset]})" if apart[subset] else name for subset, name in names.items()}


def view(record: AuditRecord, finding: Finding, gallery: Gallery) -> FindingView:
    """Put one finding in words, rows and a figure."""
    title, name = titles(record)[finding.subset], numbered(finding.subset)
    target, reference = finding.target, finding.reference
    figures = [
        ("difference (held out)", text.share(finding.difference)),
        ("materiality", text.limit(record.method.materiality)),
        ("p (one-sided, Holm)", text.p_value(finding.p_value)),
        *_stability(finding),
        *_previous(finding),
        ("quotient of the energies", text.number(finding.quotient)),
        ("multiplier λ", text.scientific(finding.multiplier)),
        ("gap to the optimum, at most", text.scientific(finding.gap)),
        ("solver", finding.status),
    ]
    pairs = [
        ("share (held out)", text.share(finding.target_share), text.share(finding.reference_share)),
        (
            "share (in sample)",
            text.percent(finding.target_share_in_sample),
            text.percent(finding.reference_share_in_sample),
        ),
        ("energy", text.power(finding.target_energy), text.power(finding.reference_energy)),
    ]
    n = finding.target_share.n or record.data.n_confirmation
    pairs.insert(
        1,
        (
            f"the same in samples, of {text.number(n)}",
            _in_samples(finding.target_share.value, n),
            _in_samples(finding.reference_share.value, n),
        ),
    )
    plot = interval_plot(
        [_row("", finding)],
        title=f"{name}: held-out shares under {target} and {reference}, with intervals",
        target_name=target,
        reference_name=reference,
        target_role=roles_of(finding.side)[0],
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
        theme=next((f"{t.side} {t.number}" for t in record.themes if finding.subset in t.findings), ""),
        page=page_name(finding.subset) if gallery.is_paged else "",
        sentence=_sentence(record, finding),
        members=_members(record, finding),
        figures=figures,
        pairs=pairs,
        similarities=similarities(finding),
        plot=plot,
        lobes=[
            _lobe(record, finding, lobe, place, title, gallery)
            for lobe, place in ((finding.positive, "First lobe"), (finding.negative, "Counterpart"))
        ],
    )


def _lobe(
    record: AuditRecord, finding: Finding, lobe: LobeRecord, place: str, title: str, gallery: Gallery
) -> LobeView:
    grouped = [(pick, [gallery.shot(s) for s in in_order(lobe) if s.pick == pick]) for pick in PICKS]
    return LobeView(
        lobe,
        place,
        _lobe_heading(place, lobe),
        sorted(lobe.words, key=lambda word: f"“{word.text}”" not in title),
        sorted(lobe.metadata, key=lambda item: f"{item.column} = {item.value}" not in title),
        [shot for _, shots in grouped for shot in shots],
        [(_HEADINGS[pick], shots) for pick, shots in grouped if shots],
        confusions(record, finding.subset.of_lobe(lobe.sign)),
    )


def forest(record: AuditRecord, views: Sequence[FindingView]) -> list[Markup]:
    """Draw the held-out difference of every finding beside the materiality; those not confirmed hollow and grey."""
    shown = [v for v in views if math.isfinite(v.finding.difference.value)]
    if not shown:
        return []
    rows = [
        IntervalRow(v.heading, Interval.of(v.finding.difference), faint=v.finding.confirmed is not True) for v in shown
    ]
    return interval_plots(
        rows,
        _ROWS,
        title="Held-out difference of each finding, with its interval, and the materiality",
        axis="target's share less the reference's, % of the data (held out)",
        limits={f"materiality {text.limit(record.method.materiality)}": record.method.materiality},
        warn=[f"materiality {text.limit(record.method.materiality)}"],
        scale=100,
        width=460,
        label_width=0,
    )


def overview(record: AuditRecord, side: str, views: Sequence[FindingView]) -> list[Markup]:
    """Draw the held-out shares of all directions of a side beside the limits of the policy."""
    shown = [v for v in views if v.finding.side == side]
    if not shown:
        return []
    limits = {
        f"{which} limit {limit_of(rule.figure, value)}": (value, which)
        for rule in record.verdict.rules
        if rule.figure == f"{side}.max_share"
        for which, value in (("warn", rule.warn), ("fail", rule.fail))
        if value is not None
    }
    return interval_plots(
        [_row(v.heading, v.finding) for v in shown],
        _PAIRED_ROWS,
        title=f"Held-out shares of the directions {side}, under both models, with intervals",
        target_name=shown[0].finding.target,
        reference_name=shown[0].finding.reference,
        target_role=roles_of(shown[0].finding.side)[0],
        axis="share of the data, % (held out)",
        limits={name: value for name, (value, _) in limits.items()},
        warn=[name for name, (_, which) in limits.items() if which == "warn"],
        scale=100,
        width=460,
        label_width=0,
    )


def _row(label: str, finding: Finding) -> IntervalRow:
    return IntervalRow(
        label,
        Interval.of(finding.target_share),
        Interval.of(finding.reference_share),
        faint=finding.confirmed is False,
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


def _in_samples(share: float, n: int) -> str:
    """Write what a share is in samples: the size of the group that it would be the share of."""
    return f"{share * n:.1f}".replace("-", "−") if math.isfinite(share) else text.NONE


def _members(record: AuditRecord, finding: Finding) -> str:
    """Say how many samples the slice has, how many of them were tested, and why its share is less than their part."""
    lobes = (finding.positive, finding.negative)
    held_out = [lobe.n_held_out for lobe in lobes]
    said = f"The lobes have {' and '.join(text.number(lobe.size) for lobe in lobes)} members"
    if all(n is not None for n in held_out):
        said += f" ({' and '.join(text.number(n) for n in held_out)} of them held out)"
    tied = (
        "samples that are as alike as a sample and its nearest 1 %"
        if record.method.share_unit == "ties"
        else "samples that are all alike"
    )
    value, n = finding.target_share.value, finding.target_share.n or record.data.n_confirmation
    if not math.isfinite(value):
        return f"{said}."
    return (
        f"{said}. The share counts how closely they are tied, not how many they are: it is what "
        f"{_in_samples(value, n)} {tied} would have among the {text.number(n)} held out."
    ).replace("1 %", f"1{text.NBSP}%")


def _sentence(record: AuditRecord, finding: Finding) -> str:
    """Say what was found, with data set, n, value and interval; neither why nor how bad it is."""
    target_role, reference_role = roles_of(finding.side)
    target, reference = (
        f"the {role}" if label == role else f"the {role} ({label})"
        for role, label in ((target_role, finding.target), (reference_role, finding.reference))
    )
    sizes = f"lobes of {text.number(finding.positive.size)} and {text.plural(finding.negative.size, 'sample')}"
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
        over = f"The difference is over the materiality of {text.limit(record.method.materiality)}"
        return f"{opening}; {under}. {over} (p{text.NBSP}{_p(finding.p_value)}, one-sided, Holm)."
    ending = _not_confirmed(record, finding) if finding.confirmed is False else ""
    return f"{opening}; under {reference} the figure is {there}. {ending}".rstrip()


def _not_confirmed(record: AuditRecord, finding: Finding) -> str:
    """Say why a difference is not confirmed: where its interval is, for how many samples, and the p-value."""
    n = finding.difference.n or finding.target_share.n or record.data.n_confirmation
    return (
        "The difference is not confirmed on held-out samples: it is "
        f"{text.share(finding.difference, words=True)} for n{text.NBSP}={text.NBSP}{text.number(n)}, which does not "
        f"show that it is over the materiality of {text.limit(record.method.materiality)} "
        f"(p{text.NBSP}{_p(finding.p_value)}, one-sided, Holm)."
    )


def _p(value: float | None) -> str:
    said = text.p_value(value)
    return (said if said.startswith("<") else f"= {said}").replace(" ", text.NBSP)
