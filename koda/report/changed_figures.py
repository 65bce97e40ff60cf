"""The figures that changed since the last audit: those beyond what the intervals leave open, and the rest."""

from __future__ import annotations

from dataclasses import dataclass

from koda.records import ALL, AuditRecord, Estimate, FigureDifference, FigureName
from koda.report import text
from koda.report.figures import changed, estimate_parts


@dataclass(frozen=True)
class ChangedFigure:
    """A figure then and now, each with its interval ("" where the record has none)."""

    name: str
    before: tuple[str, str]
    after: tuple[str, str]


@dataclass(frozen=True)
class ChangedFigures:
    """Figures whose two intervals have nothing in common; those whose intervals overlap; those that lack one."""

    beyond: list[ChangedFigure]
    within: list[ChangedFigure]
    unknown: list[ChangedFigure]


def changed_figures(record: AuditRecord) -> ChangedFigures | None:
    """Sort the figures that are not the same as in the audit before by whether their intervals overlap."""
    if record.changes is None:
        return None
    sorted_ = ChangedFigures([], [], [])
    for figure in record.changes.metrics:
        before, after = _before(record, figure), _after(record, figure)
        apart = _apart(before, after)
        kind = sorted_.unknown if apart is None else sorted_.beyond if apart else sorted_.within
        kind.append(_written(figure, before, after))
    return sorted_


def quiet(record: AuditRecord, figures: ChangedFigures | None) -> str:
    """Say in one sentence that nothing material changed, and what that rests on; "" where something did.

    Material are a verdict, a rule or a direction that came out otherwise, a figure beyond its intervals, and a share
    that is another by more than the materiality. Audits that cannot be compared say nothing of it.
    """
    changes = record.changes
    if changes is None or figures is None or not changes.comparable or not changes.findings_compared:
        return ""
    retested = [kept for kept in changes.kept if kept.confirmed_before != kept.confirmed_after]
    moved = [kept for kept in changes.kept if abs(kept.share_after - kept.share_before) > record.method.materiality]
    if changes.verdict_flipped or changes.rules or changes.new or changes.gone or retested or moved or figures.beyond:
        return ""
    n = len(changes.kept)
    one = "the one direction is kept with the same result of its test"
    directions = f"the {text.number(n)} directions are kept with the same results of their tests"
    found = "no direction was found then or now" if not n else one if n == 1 else directions
    seen = "no figure differs by more than its intervals leave open" if figures.within else "the figures are the same"
    if figures.unknown:
        seen = "no figure that has intervals differs by more than they leave open"
    return f"the verdict is {changes.verdict_after.upper()} then and now, {found}, and {seen}."


def not_the_same(record: AuditRecord, figures: ChangedFigures | None) -> str:
    """Count what else is not the same as in the audit before: figures, and entries by what they are of."""
    changes = record.changes
    if changes is None or figures is None:
        return ""
    counted = [
        (len(figures.within), "figure within the noise", "figures within the noise"),
        (len(figures.unknown), "figure without an interval", "figures without an interval"),
        (len(changes.models), "entry of the models", "entries of the models"),
        (len(changes.data), "entry of the data", "entries of the data"),
        (len(changes.config), "entry of the configuration", "entries of the configuration"),
        (len(changes.software), "entry of software and hardware", "entries of software and hardware"),
    ]
    return ", ".join(text.plural(n, one, many) for n, one, many in counted if n)


def _written(figure: FigureDifference, before: Estimate | None, after: Estimate | None) -> ChangedFigure:
    name, *values = changed(figure.name, figure.before, figure.after)
    written = [
        (value, "" if estimate is None else estimate_parts(_unit(figure.name), estimate)[1])
        for value, estimate in zip(values, (before, after), strict=True)
    ]
    return ChangedFigure(name, written[0], written[1])


def _unit(figure: FigureName) -> str:
    """Return the name of a figure in whose unit this one is: what a model reaches in a task is a share."""
    return figure.policy or "lost.max_share"


def _before(record: AuditRecord, figure: FigureDifference) -> Estimate | None:
    """Return what the audit before observed, which the trend of the line holds."""
    points = record.trend.points if record.trend is not None and record.changes is not None else []
    seen = [p.figures.get(str(figure.name)) for p in points if record.changes and p.audit == record.changes.before]
    return _same(seen[0] if seen else None, figure.before)


def _after(record: AuditRecord, figure: FigureDifference) -> Estimate | None:
    """Return what this audit observed, of the policy or of one model on the whole set."""
    name, metrics = figure.name, record.metrics
    observed = [r.observed for r in record.verdict.rules if r.figure == str(name)]
    if record.trend is not None and record.trend.points:
        observed.append(record.trend.points[-1].figures.get(str(name)))
    if name.depth is not None and name.task == "zero-shot" and metrics.zero_shot is not None:
        observed += [
            a.top.get(name.depth) for a in metrics.zero_shot.accuracies if a.role == name.role and a.subset == ALL
        ]
    elif name.depth is not None:
        way = "image_to_text" if name.task == "I2T" else "text_to_image"
        recalls = [r for r in metrics.retrieval if r.role == name.role and r.subset == ALL]
        observed += [getattr(r, way).get(name.depth) for r in recalls]
    return next((same for each in observed if (same := _same(each, figure.after)) is not None), None)


def _same(estimate: Estimate | None, value: object) -> Estimate | None:
    """Return the estimate if it is of this value: another one of the same name says nothing of it."""
    return estimate if estimate is not None and estimate.value == value else None


def _apart(a: Estimate | None, b: Estimate | None) -> bool | None:
    """Say whether two intervals have nothing in common; None where one is missing."""
    if a is None or b is None or a.low is None or a.high is None or b.low is None or b.high is None:
        return None
    return a.high < b.low or b.high < a.low
