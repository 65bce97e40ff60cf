"""What a first page says of an audit, in words anyone understands: what is lost, with its effect, and what is gained.

The words come from the record by rules. A finding speaks only where the held-out test confirmed it, an effect only
where its interval holds no 0. A lobe goes by a metadata value or a word that dominates it, else by its size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from koda.records import OTHER_CLASSES, SIGNS, AuditRecord, Estimate, Finding, LobeRecord, SampleRecord, Sign, Subset
from koda.report import text
from koda.slicing.naming import DOMINANT, MOST_ELSEWHERE, says_something
from koda.typing import Role, Side, roles_of

SHOWN = 3  #: pictures of a lobe
_NEARLY_ALL = 0.95  # of a lobe: what goes for its pictures without "most of them"
_LEAST_LIFT = 2.0
_TASKS = {
    "zero-shot": "zero-shot accuracy on {n} falls",
    "image_to_text": "the share of {n} whose own caption is ranked first falls",
    "text_to_image": "the share of captions of {n} whose own picture is ranked first falls",
}
_FIGURES = {"zero-shot": "zero-shot", "image_to_text": "own caption first", "text_to_image": "own picture first"}


@dataclass(frozen=True)
class Effect:
    """A fall of a figure that people know, on the held-out members of one lobe.

    Args:
        sign: of the lobe.
        task: "zero-shot", "image_to_text" or "text_to_image".
        before, after: the figure under the baseline and under the candidate.
        difference: candidate less baseline, paired.
        n_compared: falls that this is the largest of.
    """

    sign: Sign
    task: str
    before: float
    after: float
    difference: Estimate
    n_compared: int


@dataclass(frozen=True)
class HeadLobe:
    """A lobe on the first page; the samples held out come first."""

    name: Markup
    extent: str
    samples: list[SampleRecord]


@dataclass(frozen=True)
class Headline:
    """The first page in words; `finding` is what it speaks of, None where nothing lost was confirmed."""

    sentence: Markup
    notes: list[Markup]
    lobes: list[HeadLobe]
    gained: Markup
    finding: Finding | None


def headline(record: AuditRecord) -> Headline:
    """Say what is lost, how much, and what is gained."""
    finding = leading(record)
    if finding is None:
        return Headline(_nothing(record), [], [], _gained(record), None)
    effect = effect_of(record, finding)
    order = SIGNS if effect is None else (effect.sign, *(sign for sign in SIGNS if sign != effect.sign))
    opening = _capital(contrast(record, finding, order[0]))
    sentence = Markup("{}.").format(opening)
    notes = []
    if effect is not None:
        sentence = Markup("{}: {}.").format(opening, _effect_in_words(record, finding, effect))
        notes += [_interval_in_words(effect), *_mistakes_in_words(record, finding, effect)]
    notes.append(_share_in_words(record, finding))
    lobes = [_head_lobe(record, finding, sign, effect) for sign in order]
    return Headline(sentence, notes, lobes, _gained(record), finding)


def leading(record: AuditRecord) -> Finding | None:
    """Return the confirmed lost finding that decides the verdict, else one that was waived, else the strongest.

    The first page has every waiver in full, so the one that it speaks of is the one that it shows.
    """
    lost = {finding.subset: finding for finding in record.findings if finding.side == "lost" and finding.confirmed}
    deciding = [rule.finding for rule in record.verdict.rules if rule.result == record.verdict.status]
    waived = [rule.finding for rule in record.verdict.rules if rule.result == "waived"]
    themes = [theme.findings[0] for theme in record.themes if theme.confirmed]
    for subset in (*deciding, *waived, *themes):
        if subset in lost:
            return lost[subset]
    return max(lost.values(), key=lambda finding: finding.target_share.value, default=None)


def largest(record: AuditRecord, side: Side) -> Finding | None:
    """Return the confirmed finding of a side whose share stands for it wherever one figure has to: the policy's.

    That is the finding which a rule on the largest share looks at. Without such a rule it has the largest share of
    those that the figure counts, of which the other model ties together at most half; where it counts none, of all.
    """
    confirmed = {finding.subset: finding for finding in record.findings if finding.side == side and finding.confirmed}
    for rule in record.verdict.rules:
        if rule.figure == f"{side}.max_share" and rule.finding in confirmed:
            return confirmed[rule.finding]
    own = [f for f in confirmed.values() if f.reference_share.value <= f.target_share.value / 2]
    return max(own or confirmed.values(), key=lambda finding: finding.target_share.value, default=None)


def shown_samples(record: AuditRecord) -> list[SampleRecord]:
    """Return the samples whose pictures the first page shows."""
    finding = leading(record)
    return [] if finding is None else [s for sign in SIGNS for s in _pictures(_lobe(finding, sign))]


def subject(finding: Finding, sign: Sign) -> str | None:
    """Return the metadata value, or else the word, that dominates a lobe and is rarer in the other; None without one.

    It covers most of the lobe, at least twice as much of it as elsewhere, and at most half as much of the other lobe. A
    value that the lobe's captions say goes by itself, any other with its column.
    """
    lobe, other = _lobe(finding, sign), _lobe(finding, "negative" if sign == "positive" else "positive")
    words = {word.text for word in lobe.words}
    there = {(item.column, item.value): item.share_in for item in other.metadata}
    values = [
        (item.lift * item.share_in, item)
        for item in lobe.metadata
        if item.share_in >= DOMINANT
        and item.lift >= _LEAST_LIFT
        and there.get((item.column, item.value), item.share_out) <= MOST_ELSEWHERE * item.share_in
    ]
    if values:
        item = max(values, key=lambda pair: pair[0])[1]
        alone = item.value.lower() in words
        return text.shorten(item.value if alone else f"{item.column} = {item.value}", 60)
    said = {word.text: word.share_in for word in other.words}
    for word in lobe.words:
        elsewhere = max(said.get(word.text, 0.0), word.share_out)
        if says_something(word.text) and word.share_in >= DOMINANT and elsewhere <= MOST_ELSEWHERE * word.share_in:
            return text.shorten(word.text, 60)
    return None


def effect_of(record: AuditRecord, finding: Finding) -> Effect | None:
    """Return the largest paired fall on the held-out members of a lobe; None where each interval holds 0."""
    falls = list(_falls(record, finding))
    clear = [
        fall
        for fall in falls
        if fall.difference.low is not None and fall.difference.high is not None and fall.difference.high < 0
    ]
    return min(clear, key=lambda fall: fall.difference.value, default=None)


def contrast(record: AuditRecord, finding: Finding, first: Sign = "positive") -> Markup:
    """Say which two groups a model keeps apart and the other one does not, for the middle of a sentence."""
    a, b = (subject(finding, sign) for sign in ((first, *(s for s in SIGNS if s != first))))
    lost = finding.side == "lost"
    opening = "the candidate no longer keeps" if lost else "the candidate keeps"
    closing = "" if lost else ", which the baseline does not"
    if a and b:
        return Markup("{} {} apart from {}{}").format(opening, _named(a), _named(b), closing)
    if a or b:
        size = _lobe(finding, _other(first) if a else first).size
        rest = f"{size} other {_things(record, size)}"
        return Markup("{} {} apart from {}{}").format(opening, _named(a or b or ""), rest, closing)
    sizes = [_lobe(finding, sign).size for sign in (first, _other(first))]
    said = f"apart two groups of {text.number(sizes[0])} and {text.number(sizes[1])} {_things(record, 2)}"
    who = "that the baseline keeps apart" if lost else "that the baseline mixes"
    return Markup("{} {} {}").format(opening, said, who)


def _falls(record: AuditRecord, finding: Finding) -> Iterable[Effect]:
    """Return every paired difference of zero-shot accuracy and recall at 1 on the held-out members of the lobes."""
    metrics = record.metrics
    found: list[tuple[Sign, str, float, float, Estimate]] = []
    for sign in SIGNS:
        lobe = Subset(finding.side, finding.direction, sign)
        if metrics.zero_shot is not None:
            levels = {a.role: a.top.get("top-1") for a in metrics.zero_shot.accuracies if a.subset == lobe}
            for fall in (d.top.get("top-1") for d in metrics.zero_shot.differences if d.subset == lobe):
                found += _with_levels(sign, "zero-shot", levels, fall)
        for way in ("image_to_text", "text_to_image"):
            recalls = {r.role: getattr(r, way).get("R@1") for r in metrics.retrieval if r.subset == lobe and r.role}
            for fall in (getattr(d, way).get("R@1") for d in metrics.retrieval_differences if d.subset == lobe):
                found += _with_levels(sign, way, recalls, fall)
    return (Effect(*each, n_compared=len(found)) for each in found)


def _with_levels(
    sign: Sign, task: str, levels: dict[Role, Estimate | None], fall: Estimate | None
) -> list[tuple[Sign, str, float, float, Estimate]]:
    before, after = (levels.get(role) for role in ("baseline", "candidate"))
    if before is None or after is None or fall is None:
        return []
    return [(sign, task, before.value, after.value, fall)]


def _effect_in_words(record: AuditRecord, finding: Finding, effect: Effect) -> Markup:
    count = effect.difference.n
    number = "" if count is None else f"{text.number(count)} "
    name, things = subject(finding, effect.sign), _things(record, count or 2)
    if name is None:
        n = Markup("{}held-out {} of the first of them").format(number, things)
    elif _covered(_lobe(finding, effect.sign), name) < _NEARLY_ALL or "=" in name:
        n = Markup("{}held-out {}, most of them {},").format(number, things, _named(name))
    else:
        n = Markup("{}held-out {} {}").format(number, _named(name), things)
    figure = Markup(_TASKS[effect.task]).format(n=n)
    before, after = (text.percent(value, 1) for value in (effect.before, effect.after))
    return Markup("{} from {} to <b>{}</b>").format(figure, before.removesuffix(f"{text.NBSP}%"), after)


def _interval_in_words(effect: Effect) -> Markup:
    """Write the fall with its interval in points, and how many such figures it was chosen of."""
    seen = effect.difference
    value, low, high = (f"{abs(100 * (end or 0)):.1f}" for end in (seen.value, seen.high, seen.low))
    chosen = ""
    if effect.n_compared > 1:
        chosen = f"; the largest of {effect.n_compared} falls measured on the two groups, not adjusted for that choice"
    return Markup("A fall of {}{}points ({} interval {} to {}{}).").format(
        value, text.NBSP, text.level(seen), low, high, chosen
    )


def _mistakes_in_words(record: AuditRecord, finding: Finding, effect: Effect) -> Iterable[Markup]:
    """Say what the candidate takes most of the samples for that it is wrong on; of a fall of zero-shot accuracy."""
    subset = finding.subset.of_lobe(effect.sign)
    confusions = [] if record.looks is None or effect.task != "zero-shot" else record.looks.confusions
    table = next((c for c in confusions if c.subset == subset and c.role == "candidate"), None)
    if table is None or table.n != effect.difference.n:
        return
    wrong: Counter[str] = Counter()
    for right, row in zip(table.right, table.counts, strict=True):
        shown = zip(table.chosen, row, strict=True)
        wrong.update({chosen: n for chosen, n in shown if chosen not in (right, OTHER_CLASSES)})
    for name, n in wrong.most_common(1):
        if n:
            yield Markup("The candidate takes {} of the {} for {}.").format(
                text.number(n), text.number(table.n), _named(text.shorten(name, 60))
            )


def _share_in_words(record: AuditRecord, finding: Finding) -> Markup:
    """Explain the share: as what group of the data each model ties the samples together."""
    target, reference = roles_of(finding.side)
    raw = "raw share; " if record.method.share_unit == "raw" else ""
    there = text.share_parts(finding.reference_share)[0]
    n = f", n{text.NBSP}={text.NBSP}{text.number(finding.target_share.n)}" if finding.target_share.n else ""
    return Markup(
        "The {} holds these {} to be as alike as a tight group of {} of the data would be ({}held out{}), the {} as "
        "alike as one of {}."
    ).format(target, _things(record, 2), text.share(finding.target_share, words=True), raw, n, reference, there)


def _nothing(record: AuditRecord) -> Markup:
    """Say that nothing lost was confirmed, and what of it would have been seen."""
    tested = any(finding.confirmed is not None for finding in record.findings)
    lost = [finding for finding in record.findings if finding.side == "lost"]
    if lost and not tested:
        return Markup("{} found that the candidate may have lost; none was tested on held-out samples.").format(
            text.plural(len(lost), "direction")
        )
    opening = f"No loss over {text.limit(record.method.materiality)} of the data was confirmed"
    trials = record.controls.spike_ins if record.controls is not None else []
    if record.controls is None or not trials:
        return Markup("{}; what this audit could have seen was not tried.").format(opening)
    smallest = record.controls.detectable_lost_share
    row = next((r for r in trials if r.share == smallest), max(trials, key=lambda r: r.share))
    return Markup("{}; with these data a lost group of {} % would have been seen in {} of {}.").format(
        opening, f"{100 * row.share:g}", row.confirmed, text.plural(row.trials, "trial")
    )


def _gained(record: AuditRecord) -> Markup:
    """Say in one line what was gained."""
    gained = [finding for finding in record.findings if finding.side == "gained"]
    confirmed = [finding for finding in gained if finding.confirmed]
    if gained and all(finding.confirmed is None for finding in gained):
        return Markup("Gained: {} found; none was tested on held-out samples.").format(
            text.plural(len(gained), "direction")
        )
    if not confirmed:
        return Markup("Gained: nothing over {} of the data was confirmed.").format(
            text.limit(record.method.materiality)
        )
    top = largest(record, "gained") or confirmed[0]
    themes = [theme for theme in record.themes if theme.side == "gained" and theme.confirmed]
    count = text.plural(len(themes), "theme") if themes else text.plural(len(confirmed), "direction")
    return Markup("Gained: {} confirmed; by {} {}; its share is {}.").format(
        count, top.subset, contrast(record, top), text.share(top.target_share)
    )


def _head_lobe(record: AuditRecord, finding: Finding, sign: Sign, effect: Effect | None) -> HeadLobe:
    lobe, name = _lobe(finding, sign), subject(finding, sign)
    extent = f"{text.number(lobe.size)} {_things(record, lobe.size)}"
    if name is not None:
        extent += f", {text.percent(_covered(lobe, name), 0)} of them {name}"
    if lobe.n_held_out is not None:
        extent += f", {text.number(lobe.n_held_out)} held out"
    same = [] if effect is None else [e for e in _falls(record, finding) if (e.sign, e.task) == (sign, effect.task)]
    for own in same:
        before, after = (text.percent(value, 1) for value in (own.before, own.after))
        extent += f": {_FIGURES[own.task]} {before.removesuffix(f'{text.NBSP}%')} to {after}"
    if name is None:
        return HeadLobe(Markup("A group without a common word or value"), extent, _pictures(lobe))
    return HeadLobe(_named(name), extent, _pictures(lobe))


def _pictures(lobe: LobeRecord) -> list[SampleRecord]:
    """Return the first members of a lobe, those that the search did not see before the others."""
    members = [sample for sample in lobe.samples if sample.pick != "near miss"]
    return sorted(members, key=lambda sample: sample.split != "confirmation")[:SHOWN]


def _covered(lobe: LobeRecord, name: str) -> float:
    """Return the share of a lobe that a name of :func:`subject` covers."""
    for item in lobe.metadata:
        if name in (text.shorten(item.value, 60), text.shorten(f"{item.column} = {item.value}", 60)):
            return item.share_in
    return next((word.share_in for word in lobe.words if text.shorten(word.text, 60) == name), 0.0)


def _capital(sentence: Markup) -> Markup:
    return Markup(sentence[:1].upper() + sentence[1:])


def _named(name: str) -> Markup:
    return Markup("<em><bdi>{}</bdi></em>").format(name)


def _lobe(finding: Finding, sign: Sign) -> LobeRecord:
    return finding.positive if sign == "positive" else finding.negative


def _other(sign: Sign) -> Sign:
    return "negative" if sign == "positive" else "positive"


def _things(record: AuditRecord, count: int) -> str:
    one = {"text": "caption", "image": "picture"}.get(record.method.modality, "picture")
    return one if count == 1 else one + "s"
