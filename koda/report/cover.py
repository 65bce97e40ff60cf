"""The first page of a report: the verdict, what decided it, and where everything else is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from koda.records import AuditRecord, Finding, ModelRecord, RuleResult, Subset, Theme
from koda.report import text
from koda.report.figures import figure_name, figure_value, limit_of
from koda.report.headline import largest
from koda.report.view import anchor, numbered, state, titles
from koda.typing import SIDES, Side, roles_of

SYMBOLS = {"pass": "✓", "warn": "!", "fail": "✗", "inconclusive": "?", "waived": "○"}
_RESULT_WORDS = {
    "pass": "passed",
    "warn": "warned",
    "fail": "failed",
    "inconclusive": "inconclusive",
    "waived": "waived",
}


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
class ThemeLine:
    """A theme on the cover; `directions` are anchors and numbers of its findings, first that whose share it is."""

    name: str
    share: str
    extent: str
    state: str
    directions: list[tuple[str, str]]


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
        ("controls", "What this audit could have seen", record.controls is not None),
        ("findings", "Findings", True),
        ("maps", looks, maps or curves),
        ("retrieval", tasks, recalls or accuracies),
        ("trend", "Trend over audits", record.trend is not None and len(record.trend.points) > 1),
        ("alignment", "Alignment", record.alignment is not None),
        ("provenance", "Provenance and how to verify", True),
        ("crosswalk", "Crosswalk to frameworks", record.crosswalk is not None),
        ("people", "People", True),
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


def cards(record: AuditRecord) -> list[Card]:
    """Return the key figures of the cover; each is of confirmed findings, or says that there is none."""
    made = [_side_card(record, side) for side in SIDES]
    lost, gained = (([f for f in record.findings if f.side == s]) for s in SIDES)
    tested = any(f.confirmed is not None for f in record.findings)
    how = f"Holm, α{text.NBSP}={text.NBSP}{record.method.alpha:g}" if tested else "not tested"
    directions = " / ".join(str(sum(f.confirmed is True for f in found)) for found in (lost, gained))
    if record.themes:
        themes = " / ".join(str(sum(t.side == side and t.confirmed for t in record.themes)) for side in SIDES)
        confirmed = f"{directions} of {len(lost)} / {len(gained)} directions confirmed; {how}"
        made.append(Card(themes, "confirmed themes, lost / gained", confirmed))
    else:
        found = f"of {len(lost)} / {len(gained)} found; {how}"
        made.append(Card(directions, "confirmed directions, lost / gained", found))
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


def theme_lines(record: AuditRecord) -> list[ThemeLine]:
    """Return a line for each theme: what it is, the share of its strongest finding, its directions and samples."""
    findings = {finding.subset: finding for finding in record.findings}
    called = titles(record)
    return [
        ThemeLine(
            name=f"{theme.side.capitalize()}: {_theme_name(theme, findings, called)}",
            share=f"share of {numbered(theme.findings[0])}: {text.share(findings[theme.findings[0]].target_share)}",
            extent=f"{text.plural(len(theme.findings), 'direction')}, {text.plural(theme.size, 'sample')}",
            state=state(findings[theme.findings[0]]),
            directions=[(anchor(subset), numbered(subset)) for subset in theme.findings],
        )
        for theme in record.themes
        if theme.findings[0] in findings
    ]


def _theme_name(theme: Theme, findings: Mapping[Subset, Finding], called: Mapping[Subset, str]) -> str:
    """Return the name of a theme, that of its strongest finding, as the heading of that finding has it."""
    strongest = theme.findings[0]
    return called[strongest] if theme.name == findings[strongest].name else text.shorten(theme.name, 160)


def _side_card(record: AuditRecord, side: Side) -> Card:
    """Return the card of a side: the share that the policy's rule is on, and what larger one does not count."""
    findings = [f for f in record.findings if f.side == side]
    label = f"largest confirmed {'raw ' if record.method.share_unit == 'raw' else ''}share {side}, held out"
    rules = [r for r in record.verdict.rules if r.figure == f"{side}.max_share" and r.observed is not None]
    for rule in rules:
        if rule.retests and rule.observed is not None:
            value, interval = text.share_parts(rule.observed)
            return Card(value, label, "; ".join(filter(None, (interval, _retests(rule)))))
    top = largest(record, side)
    if top is None:
        if not findings:
            return Card("none", label, "no direction over the limit with this search")
        tested = any(f.confirmed is not None for f in findings)
        said = f"of {text.plural(len(findings), 'direction')} found none was {'confirmed' if tested else 'tested'}"
        return Card("none" if tested else "not tested", label, "; ".join([said, *_elsewhere(rules, findings, None)]))
    value, interval = text.share_parts(top.target_share)
    reference = roles_of(side)[1]
    notes = [interval, f"{numbered(top.subset)}; the {reference} has {text.share_parts(top.reference_share)[0]}"]
    more = [f for f in findings if f.confirmed and f.target_share.value > top.target_share.value]
    if more:
        label = label.replace(", held out", " that counts, held out")
        beyond = max(more, key=lambda f: f.target_share.value)
        share, there = (text.share_parts(each)[0] for each in (beyond.target_share, beyond.reference_share))
        notes.append(f"{numbered(beyond.subset)} has {share}, but of that the {reference} has {there}")
    return Card(value, label, "; ".join(filter(None, [*notes, *_elsewhere(rules, findings, top)])))


def _elsewhere(rules: Sequence[RuleResult], findings: Sequence[Finding], top: Finding | None) -> list[str]:
    """Say which finding a rule on the largest share looks at, where it is not the one of the card."""
    confirmed = {finding.subset for finding in findings if finding.confirmed}
    said = []
    for rule in rules:
        if rule.finding in confirmed and top is not None and rule.finding != top.subset:
            said.append(f"a rule looks at {rule.finding}, which has {text.share_parts(rule.observed)[0]}")
        elif rule.finding is not None and rule.finding not in confirmed:
            said.append(f"the policy looks at {rule.finding}, which is not confirmed")
        elif rule.finding is None and top is not None:
            said.append("the policy counts none, since under the other model each has too much of its share")
    return said


def also(record: AuditRecord) -> str:
    """Name the other rules with the result that the verdict has, each with what was observed."""
    same = [rule for rule in record.verdict.rules if rule.result == record.verdict.status]
    if len(same) < 2 or record.verdict.status == "pass":
        return ""
    named = [f"{figure_name(rule.figure)}{_which(rule)} {_value_alone(rule)}{_limit(rule)}" for rule in same[1:]]
    return f"Also {_RESULT_WORDS[record.verdict.status]}: {'; '.join(named)}."


def _which(rule: RuleResult) -> str:
    """Say on which value of the metadata the figure was observed, where it is the worst of many."""
    return f" ({rule.detail})" if rule.detail and rule.figure.startswith("by.") else ""


def waivers(record: AuditRecord) -> list[str]:
    """Say of each waiver what it is of, who decided it, why, until when, and what the result is without it."""
    lines = []
    for rule in record.verdict.rules:
        waiver = rule.waiver
        if waiver is None:
            continue
        what = f"{figure_name(rule.figure).capitalize()}, {figure_value(rule)}"
        why = text.shorten(waiver.reason, 300).rstrip(".")
        by = f"by {text.shorten(waiver.person, 80)}: {why}"
        if waiver.expired:
            lines.append(f"{what}: a waiver expired on {waiver.expires} and counts for nothing; it was {by}.")
        else:
            without = f" Without it the result is {rule.waived}." if rule.waived else ""
            lines.append(f"{what}: waived until {waiver.expires} {by}.{without}")
    return lines


def weights(model: ModelRecord) -> str:
    """Say which weights a model has, without where they lie on the machine of the audit."""
    size = "" if model.parameters is None else f", {text.plural(model.parameters, 'parameter')}"
    return f"{text.shorten(model.architecture, 80)}{size}, weights {text.clean(model.weights_digest)[:12]}…"


def _limit(rule: RuleResult) -> str:
    limit = rule.warn if rule.result == "warn" else rule.fail
    return "" if limit is None else f" (limit {limit_of(rule.figure, limit)})"


def _value_alone(rule: RuleResult) -> str:
    if rule.observed is None:
        return "not observed"
    estimate = rule.observed.model_copy(update={"low": None, "high": None})
    return figure_value(rule.model_copy(update={"observed": estimate}))


def verdict_counts(record: AuditRecord) -> str:
    """Say how many rules had which result, the worst first."""
    rules = record.verdict.rules
    counts = {status: sum(1 for r in rules if r.result == status) for status in list(_RESULT_WORDS)[1:]}
    being = {"inconclusive", "waived"}
    came_out = [
        (n, f"{('was ' if n == 1 else 'were ') if status in being else ''}{_RESULT_WORDS[status]}")
        for status, n in counts.items()
        if n
    ]
    if not rules:
        return "No policy rule was set." if not record.verdict.reasons else ""
    if not came_out:
        return "The rule passed." if len(rules) == 1 else f"All {len(rules)} rules passed."
    total = text.plural(len(rules), "rule")
    if len(rules) == 1:
        return f"The rule {came_out[0][1]}."
    return f"Of {total}, {', '.join(f'{n} {words}' for n, words in came_out)}."


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
    of = f" ({text.shorten(rule.detail, 160)})" if rule.detail else ""
    said = f"{subject}{of} is {figure_value(rule, words=True)}{where}"
    said += f", {_retests(rule)}" if rule.retests else ""
    limit = rule.fail if rule.result == "fail" else rule.warn if rule.result == "warn" else None
    if limit is not None:
        return f"{said}, {rule.direction} the {rule.result} limit of {limit_of(rule.figure, limit)}."
    if rule.result == "inconclusive" and rule.note:
        return f"{said}, but {rule.note}."
    straddled = _straddled(rule)
    if rule.result == "inconclusive" and straddled is not None:
        inside = limit_of(rule.figure, straddled)
        return f"{said}: the interval holds the limit of {inside}, so neither side of it is supported."
    limits = [f"{w} {limit_of(rule.figure, v)}" for w, v in (("warn", rule.warn), ("fail", rule.fail)) if v is not None]
    return f"{said}, on the allowed side of its limits ({', '.join(limits)})." if rule.result == "pass" else f"{said}."


def _retests(rule: RuleResult) -> str:
    """Say of which findings of the audit before an alignment a figure is."""
    return f"by the retest of {', '.join(str(r.finding) for r in rule.retests)} of the audit before the alignment"


def _straddled(rule: RuleResult) -> float | None:
    seen = rule.observed
    if seen is None or seen.low is None or seen.high is None:
        return None
    return next((v for v in (rule.fail, rule.warn) if v is not None and seen.low <= v <= seen.high), None)
