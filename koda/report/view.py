"""What the report says, in the order in which it says it: records turned into words and rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from koda.plots import Interval, IntervalRow, interval_plot
from koda.policy import FIGURES
from koda.records import AuditRecord, Estimate, Finding, LobeRecord, RuleResult
from koda.report import text
from koda.report.thumbnails import Gallery, Shot

SYMBOLS = {"pass": "✓", "warn": "!", "fail": "✗", "inconclusive": "?", "waived": "○"}
_SIDES = {"lost": "Lost", "gained": "Gained"}
_DONE = {"pass": "passed", "warn": "warned", "fail": "failed", "inconclusive": "inconclusive", "waived": "waived"}
# of the solver's statistics: what the table of the method says anyway
_SAID = {"n", "eps_rule", "features", "feature_error", "feature_error_bound", "warnings"}
_TELLS = 0.4  # of what the most telling word of a lobe tells
_RARE = 1e-3  # a share that stands for those below it
_SIMILARITIES = (
    ("inside_positive", "inside first lobe"),
    ("inside_negative", "inside counterpart"),
    ("across", "across the lobes"),
    ("positive_to_rest", "first lobe to rest"),
    ("negative_to_rest", "counterpart to rest"),
)


@dataclass(frozen=True)
class Section:
    """A numbered section (or lettered annex); `id` names its anchor and its template."""

    id: str
    title: str
    number: str


@dataclass(frozen=True)
class Card:
    """A key figure on the cover."""

    value: str
    label: str
    note: str


@dataclass(frozen=True)
class LobeView:
    """One lobe of a finding, as its gallery shows it."""

    lobe: LobeRecord
    name: str
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


def sections(record: AuditRecord) -> tuple[list[Section], list[Section]]:
    """Return the sections that have content, and the annexes."""
    maps = record.metrics.map is not None and bool(record.metrics.map.keys)
    spectra, quotients = any(record.metrics.spectra.values()), bool(record.metrics.quotients)
    curves = spectra or quotients
    looks = "Maps and curves" if maps and curves else "Maps" if maps else "Curves" if quotients else "Spectra"
    recalls, accuracies = bool(record.metrics.retrieval), record.metrics.zero_shot is not None
    tasks = "Retrieval and zero-shot" if recalls and accuracies else "Zero-shot" if accuracies else "Retrieval"
    wanted = [
        ("changes", "What changed since the last audit", record.changes is not None),
        ("policy", "Policy", bool(record.verdict.rules or record.verdict.reasons)),
        ("scope", "What this report says and does not say", True),
        ("models", "Models", True),
        ("data", "Data", True),
        ("method", "Method", True),
        ("findings", "Findings", True),
        ("maps", looks, maps or curves),
        ("retrieval", tasks, recalls or accuracies),
        ("alignment", "Alignment", record.alignment is not None),
        ("provenance", "Provenance and how to verify", True),
    ]
    annexes = [
        ("samples", "Samples of the slices", any(f.positive.samples or f.negative.samples for f in record.findings)),
        ("rejections", "Samples left out", bool(record.data.rejections)),
        ("configuration", "Full configuration", bool(record.config)),
        ("glossary", "Glossary", True),
    ]
    return (
        [Section(i, t, str(k)) for k, (i, t) in enumerate([(i, t) for i, t, has in wanted if has], 1)],
        [Section(i, t, chr(64 + k)) for k, (i, t) in enumerate([(i, t) for i, t, has in annexes if has], 1)],
    )


def figure_name(figure: str) -> str:
    """Put the name of a policy figure in words; one without words of its own keeps its name."""
    return FIGURES[figure].words if figure in FIGURES else figure


def figure_value(rule: RuleResult, *, words: bool = False) -> str:
    """Write what was observed, with its interval, as a share or as a plain number."""
    if rule.observed is None:
        return "not observed"
    return (text.share if is_share(rule.figure) else text.plain)(rule.observed, words=words)


def figure_limit(rule: RuleResult, which: str) -> str:
    """Write the warn or fail limit of a rule with the side that is bad."""
    limit = rule.warn if which == "warn" else rule.fail
    if limit is None:
        return text.NONE
    return f"{'>' if rule.direction == 'above' else '<'}{text.NBSP}{_limit(rule, limit)}"


def is_share(figure: str) -> bool:
    """Say whether a policy figure is a share, which is written as a percentage."""
    if figure in FIGURES:
        return FIGURES[figure].percent
    return figure.rsplit(".", 1)[-1].endswith(("share", "difference", "drop"))  # of another version of koda


def _limit(rule: RuleResult, limit: float) -> str:
    return text.percent(limit) if is_share(rule.figure) else text.number(limit)


def changed(figure: str, before: Any, after: Any) -> tuple[str, str, str]:
    """Write a figure that two audits have in its own unit: its name in words, and both values."""
    side, _, what = figure.partition(".")
    name = f"number of directions {side}" if what == "found" else figure_name(figure)
    name = name.replace("I2T", "image to text,").replace("T2I", "text to image,")
    share = is_share(figure) or " R@" in figure or " top-" in figure
    written = text.percent if share else text.number
    return name, written(before), written(after)


def verdict_counts(record: AuditRecord) -> str:
    """Say how many rules had which result, the worst first."""
    rules = record.verdict.rules
    counts = {status: sum(1 for r in rules if r.result == status) for status in list(_DONE)[1:]}
    being = {"inconclusive", "waived"}
    named = [f"{n} {('was ' if n == 1 else 'were ') if s in being else ''}{_DONE[s]}" for s, n in counts.items() if n]
    if not rules:
        return "No policy rule was set." if not record.verdict.reasons else ""
    if not named:
        return "The rule passed." if len(rules) == 1 else f"All {len(rules)} rules passed."
    total = text.plural(len(rules), "rule")
    return f"Of {total}, {', '.join(named)}." if len(rules) > 1 else f"The rule {named[0].split(' ', 1)[1]}."


def verdict_sentence(record: AuditRecord) -> str:
    """Return the one sentence of the cover: the deciding figure with its value, limit and interval."""
    rule = next((r for r in record.verdict.rules if r.result == record.verdict.status), None)
    waived = any(r.result == "waived" for r in record.verdict.rules)
    if rule is None or (rule.result == "pass" and waived):  # the first reason then is the waived figure
        return record.verdict.reasons[0] if record.verdict.reasons else ""
    name = figure_name(rule.figure)
    subject = f"The {name}" if name != rule.figure else f"The figure {name}"
    if rule.observed is None:
        why = f": {rule.note}" if rule.note else ""
        return f"{subject} was not observed, so its rule could not be applied{why}."
    where = f" for n{text.NBSP}={text.NBSP}{text.number(rule.observed.n)}" if rule.observed.n else ""
    said = f"{subject} is {figure_value(rule, words=True)}{where}"
    limit = rule.fail if rule.result == "fail" else rule.warn if rule.result == "warn" else None
    if limit is not None:
        return f"{said}, {rule.direction} the {rule.result} limit of {_limit(rule, limit)}."
    if rule.result == "inconclusive" and rule.note:
        return f"{said}, but {rule.note}."
    straddled = _straddled(rule)
    if rule.result == "inconclusive" and straddled is not None:
        return f"{said}: the interval holds the limit of {_limit(rule, straddled)}, so neither side of it is supported."
    limits = [f"{w} {_limit(rule, v)}" for w, v in (("warn", rule.warn), ("fail", rule.fail)) if v is not None]
    return f"{said}, on the allowed side of its limits ({', '.join(limits)})." if rule.result == "pass" else f"{said}."


def _straddled(rule: RuleResult) -> float | None:
    seen = rule.observed
    if seen is None or seen.low is None or seen.high is None:
        return None
    return next((v for v in (rule.fail, rule.warn) if v is not None and seen.low <= v <= seen.high), None)


def cards(record: AuditRecord) -> list[Card]:
    """Return the key figures of the cover."""
    made = [_side_card(record, "lost"), _side_card(record, "gained")]
    lost, gained = (([f for f in record.findings if f.side == s]) for s in _SIDES)
    tested = any(f.confirmed is not None for f in record.findings)
    made.append(
        Card(
            f"{sum(f.confirmed is True for f in lost)} / {sum(f.confirmed is True for f in gained)}",
            "confirmed directions, lost / gained",
            f"of {len(lost)} / {len(gained)} found; "
            + (f"Holm, α{text.NBSP}={text.NBSP}{record.method.alpha:g}" if tested else "not tested"),
        )
    )
    rejected = record.data.n_rejected
    note = f"{text.number(record.data.n_confirmation)} of them held out to confirm"
    made.append(
        Card(
            text.number(record.data.n_compared),
            "samples compared",
            note + (f"; {text.number(rejected)} left out" if rejected else ""),
        )
    )
    return made


def _side_card(record: AuditRecord, side: str) -> Card:
    """Return the card of a side: the figure that the policy looks at, where it has a rule on it."""
    found = [f for f in record.findings if f.side == side]
    if not found:
        return Card("none", f"no direction {side}", "over the limit with this search")
    rule = next((r for r in record.verdict.rules if r.figure == f"{side}.max_share" and r.observed), None)
    if rule is not None:
        kept = [f for f in found if f.target_share == rule.observed]
    else:
        kept = [f for f in found if f.confirmed is not False] or found
    if not kept:
        return Card("none", f"no direction {side} that counts", f"of {len(found)} found, by the rule of the policy")
    top = max(kept, key=lambda f: f.target_share.value)
    value, _, spread = text.share(top.target_share).partition(" [")
    notes = ["" if top.confirmed else state(top), f"[{spread}" if spread else ""]
    notes.append(f"{top.reference}: {text.share(top.reference_share).partition(' [')[0]}")
    return Card(value, f"largest share {side}, held out", "; ".join(note for note in notes if note))


def state(finding: Finding) -> str:
    """Say how a finding came out of its test."""
    return {True: "confirmed", False: "not confirmed", None: "not tested"}[finding.confirmed]


def view(record: AuditRecord, finding: Finding, gallery: Gallery) -> FindingView:
    """Put one finding in words, rows and a figure."""
    first, second = (_telling(*pair) for pair in _both_ways(finding))
    words = " against ".join(", ".join(text.shorten(w, 32) for w in side) for side in (first, second) if side)
    words = words or ", ".join(text.shorten(w, 32) for w in finding.words[:4])
    name = f"{_SIDES[finding.side]} {finding.direction}"
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
    for field, label in _SIMILARITIES:
        a, b = (text.NONE if table is None else _similarity(getattr(table, field)) for table in under)
        pairs.append((label, a, b))
    plot = interval_plot(
        [
            IntervalRow("", interval(finding.target_share), interval(finding.reference_share)),
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
        id=f"{finding.side}-{finding.direction}",
        name=name,
        heading=f"{name}: {words}" if words else name,
        state=state(finding),
        sentence=_sentence(record, finding),
        figures=figures,
        pairs=pairs,
        plot=plot,
        lobes=[
            LobeView(lobe, title, [gallery.shot(sample) for sample in lobe.samples])
            for lobe, title in ((finding.positive, "First lobe"), (finding.negative, "Counterpart"))
        ],
    )


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


def statistics(stats: Mapping[str, Any]) -> str:
    """Write what the solver counted, without what other rows of the table say."""
    return text.settings({name.replace("_", " "): value for name, value in stats.items() if name not in _SAID})


def _both_ways(finding: Finding) -> list[tuple[LobeRecord, LobeRecord]]:
    return [(finding.positive, finding.negative), (finding.negative, finding.positive)]


def _telling(lobe: LobeRecord, other: LobeRecord, count: int = 2) -> list[str]:
    """Return the words that tell a lobe from the other, the most telling first, none that repeats another.

    With p the share of the lobe's captions that hold the word, and q that of the other's, it tells p log(p / q). A
    word that the other lobe does not list is as common there as elsewhere. One that tells little beside the first is
    left out; where no word is commoner than in the other lobe, the first words stand for the lobe.
    """
    there = {word.text: word.share_in for word in other.words}
    more = {
        word.text: word.share_in
        * math.log(max(word.share_in, _RARE) / max(there.get(word.text, word.share_out), _RARE))
        for word in lobe.words
    }
    first = max(more.values(), default=0.0)
    ranked = [word for word in sorted(more, key=lambda word: -more[word]) if more[word] > max(0.0, _TELLS * first)]
    chosen: list[str] = []
    for word in ranked or more:
        tokens = set(word.split())
        if len(chosen) < count and not any(tokens & set(before.split()) for before in chosen):
            chosen.append(word)
    return chosen


def interval(estimate: Estimate) -> Interval:
    """Return an estimate as the figures draw it."""
    return Interval(estimate.value, estimate.low, estimate.high)


def overview(record: AuditRecord, side: str, views: Sequence[FindingView]) -> Markup:
    """Draw the held-out shares of all directions of a side beside the limits of the policy."""
    shown = [v for v in views if v.finding.side == side]
    if not shown:
        return Markup("")
    limits = {
        f"{which} limit {_limit(rule, value)}": value
        for rule in record.verdict.rules
        if rule.figure == f"{side}.max_share"
        for which, value in (("warn", rule.warn), ("fail", rule.fail))
        if value is not None
    }
    return interval_plot(
        [
            IntervalRow(text.clean(v.heading), interval(v.finding.target_share), interval(v.finding.reference_share))
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


def _p(value: float | None) -> str:
    said = text.p_value(value)
    return (said if said.startswith("<") else f"= {said}").replace(" ", text.NBSP)


def _similarity(value: float | None) -> str:
    return text.NONE if value is None else f"{value:.3f}".replace("-", "−")


def _sentence(record: AuditRecord, finding: Finding) -> str:
    """Say what was found, with data set, n, value and interval; neither why nor how bad it is."""
    target = f"the {'baseline' if finding.side == 'lost' else 'candidate'} ({finding.target})"
    reference = f"the {'candidate' if finding.side == 'lost' else 'baseline'} ({finding.reference})"
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
