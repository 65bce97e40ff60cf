"""An alignment as the report shows it: what was trained, what came of it held out, and what it cost elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from koda.records import STATES, AlignmentRecord, AuditRecord, Estimate, GroupRecord, Sample
from koda.report import text
from koda.report.alignment_costs import Cost, retrieval_cost, zero_shot_cost
from koda.report.metric_tables import subset_name
from koda.report.plots import IntervalRow, curve_plot, interval_plot
from koda.report.view import interval
from koda.typing import ROLES

_LISTED_UNREADABLE = 5
_SAMPLES: tuple[tuple[Sample, str], ...] = (
    ("held out", "Held out: the figures to go by"),
    ("trained on", "Trained on, in sample: no evidence of what holds for new samples"),
)


@dataclass(frozen=True)
class RetestRow:
    """The difference of one finding before and after; states as the pills of the findings have them."""

    finding: str
    words: str
    before: Estimate
    after: Estimate
    p: tuple[float | None, float | None]
    states: tuple[str, str]


@dataclass(frozen=True)
class ShareRow:
    """Shares, coherence and quotients of one finding, in the order of the states; None where there is no figure."""

    finding: str
    shares: list[Estimate | None]
    coherence: list[str]
    quotients: list[str]


@dataclass(frozen=True)
class AlignmentView:
    """An alignment in words, rows and figures."""

    sentence: str
    recovery: str
    facts: list[tuple[str, str | Markup]]
    held_out_note: str
    unreadable: list[tuple[str, str]]
    n_unreadable: int
    curves: list[Markup]
    curves_note: str
    clusters: list[tuple[str, str, list[tuple[str, list[str]]]]]
    retests: list[RetestRow]
    retest_sentence: str
    retest_plot: Markup
    n_held_out: int
    alpha: float
    materiality: float
    shares: list[ShareRow]
    retrieval: Cost | None
    zero_shot: Cost | None
    groups: list[tuple[str, GroupRecord]]


def cover_note(record: AuditRecord) -> str:
    """Say that a model of the audit was trained on samples of it, and which figures that leaves; "" where none was."""
    found = record.alignment
    if found is None:
        return ""
    role, _ = _roles(record, found)
    opening = f"The {role} is an aligned model: koda fine-tuned it"
    same = _same_held_out(record, found)
    if same:
        return (
            f"{opening} on samples that the search of this audit used. Only figures on held-out samples, which "
            "neither search nor training saw, speak of new data."
        )
    if same is None:
        return (
            f"{opening} after audit {found.audit_id}. Where this audit has the data and split of that one, its search "
            "used samples that were trained on, and only held-out figures speak of new data."
        )
    return (
        f"{opening} after audit {found.audit_id}, whose held-out samples are not those of this audit. Samples that are "
        "held out here may have been trained on."
    )


def alignment(record: AuditRecord) -> AlignmentView | None:
    """Put the alignment of a record in words, rows and figures; None where there is none."""
    found = record.alignment
    if found is None:
        return None
    alpha = record.method.alpha if found.alpha is None else found.alpha
    words = {group.name: ", ".join(text.shorten(word, 32) for word in group.words[:3]) for group in found.groups}
    retests = _retests(found, alpha)
    unreadable = list(found.split.unreadable.items())
    curves, curves_note = _curves(found)
    return AlignmentView(
        sentence=_sentence(record, found),
        recovery=_recovery(found),
        facts=_facts(found),
        held_out_note=_held_out_note(record, found),
        unreadable=unreadable[:_LISTED_UNREADABLE],
        n_unreadable=len(unreadable),
        curves=curves,
        curves_note=curves_note,
        clusters=_clusters(found),
        retests=retests,
        retest_sentence=_retest_sentence(retests, alpha),
        retest_plot=_retest_plot(retests, found.materiality),
        n_held_out=next((r.before.n for r in retests if r.before.n), found.split.n_held_out),
        alpha=alpha,
        materiality=record.method.materiality if found.materiality is None else found.materiality,
        shares=_shares(found),
        retrieval=retrieval_cost(found, words),
        zero_shot=zero_shot_cost(found, words),
        groups=[(subset_name(group.name), group) for group in found.groups],
    )


def finding_names(found: AlignmentRecord) -> str:
    """Name the findings that were learnt from: `finding lost 1`, `findings lost 1, 2 and 4`."""
    numbers = list(dict.fromkeys(str(group.name.direction) for group in found.groups))
    if len(numbers) < 2:
        return f"finding {found.side} {''.join(numbers)}".rstrip()
    return f"findings {found.side} {', '.join(numbers[:-1])} and {numbers[-1]}"


def _roles(record: AuditRecord, found: AlignmentRecord) -> tuple[str, str]:
    """Return the roles of the aligned model and of the other one in this audit, which may not be the first's."""
    aligned = found.weights_digest
    roles = [role for role in ROLES if getattr(record, role).weights_digest == aligned]
    role = found.role if len(roles) != 1 else roles[0]
    return role, "baseline" if role == "candidate" else "candidate"


def _same_held_out(record: AuditRecord, found: AlignmentRecord) -> bool | None:
    """Say whether this audit holds out the samples that the alignment held out; None where it is not known."""
    digest = record.data.confirmation_digest
    return None if digest is None else digest == found.split.held_out_digest


def _sentence(record: AuditRecord, found: AlignmentRecord) -> str:
    role, other = _roles(record, found)
    label, teacher = getattr(record, role).label, getattr(record, other)
    here = (
        f"the {other} of this audit"
        if teacher.fingerprint == found.teacher_fingerprint
        else "which is not a model of this audit"
    )
    return (
        f"The {role} of this audit, {_quoted(label)}, is {_quoted(found.student)} after koda fine-tuned it on "
        f"{finding_names(found)} of audit {found.audit_id}. It was the student; the teacher was "
        f"{_quoted(found.teacher)}, {here}. The aim was that the student ties the samples of these slices together as "
        "the teacher does, and stays as it was elsewhere. Held out are samples that neither the search nor the "
        "training saw."
    )


def _quoted(label: str) -> str:
    return f"“{text.shorten(label, 80)}”"


def _recovery(found: AlignmentRecord) -> str:
    before, after, teacher = (found.score(state) for state in STATES)
    if before is None or after is None or teacher is None:
        return (
            "No recovery can be stated: cluster scores need two slices with held-out samples under the student before "
            "and after and under the teacher."
        )
    scores = (
        f"On held-out samples the agreement of the student's clusters with the slices (AMI) was {_score(before.ami)} "
        f"before and is {_score(after.ami)} after; under the teacher it is {_score(teacher.ami)}."
    )
    if found.recovery is None:
        return (
            f"{scores} No recovery is stated: between student and teacher there was next to nothing to recover, so a "
            "share of it means nothing."
        )
    return (
        f"{scores} Recovery, held out: {text.percent(found.recovery, 0)} of the way from the student as it was (0 %) "
        "to its teacher (100 %). It can be below 0 or above 100 %."
    )


def _facts(found: AlignmentRecord) -> list[tuple[str, str | Markup]]:
    """Return what was done, a line each."""
    settings = found.settings
    towers = " and ".join(found.towers) + (" tower" if len(found.towers) == 1 else " towers")
    trained = f"{towers}, {text.number(found.n_parameters)} of {text.plural(found.n_parameters_total, 'parameter')}" + (
        f", as adapters of rank {settings['rank']}, merged into the weights" if settings.get("rank") else ""
    )
    done = found.looks[-1].step if found.looks else None
    size = (settings.get("batch_size") or 0) * (settings.get("accumulate") or 1)
    steps = f"{text.number(done)} of at most {text.number(settings.get('steps'))}"
    if size:
        steps += f", {text.number(size)} samples each, {text.percent(settings.get('slice_share'), 0)} of them in slices"
    drop = settings.get("max_retrieval_drop")
    guarded = bool(found.looks) and found.looks[0].retrieval is not None
    rows = [
        ("alignment", found.id),
        ("after audit", f"{found.audit_id} (koda show {found.audit_id})"),
        ("run", f"{text.utc(found.started)} to {text.utc(found.ended)}, koda {found.koda_version}"),
        ("trained", trained),
        ("steps", steps),
        ("weights kept", f"of step {text.number(found.kept_step)}"),
        ("why it ended", found.stopped),
        (
            "guard",
            f"stops if R@1 of the validation samples falls by more than {text.number(100 * drop)} points"
            if guarded and drop is not None
            else "not in force: image and text share no space in which to retrieve",
        ),
        ("settings", text.settings({k.replace("_", " "): v for k, v in settings.items() if v is not None})),
    ]
    return [(name, text.shorten(value, 900)) for name, value in rows] + [
        ("student, before", text.digest(found.student_fingerprint)),
        ("teacher", text.digest(found.teacher_fingerprint)),
        ("aligned weights", text.digest(found.weights_digest)),
    ]


def _held_out_note(record: AuditRecord, found: AlignmentRecord) -> str:
    same = _same_held_out(record, found)
    if same is None:
        return "Whether this audit holds out the same samples is not recorded."
    return f"The held-out samples of this audit are {'the same' if same else 'others'}, by digest."


def _curves(found: AlignmentRecord) -> tuple[list[Markup], str]:
    """Draw agreement and R@1 of the validation samples against the steps, and say where they began and ended."""
    looks = found.looks
    if not looks:
        return [], ""
    marks = {f"kept: step {found.kept_step}": float(found.kept_step)}
    drawn = [
        curve_plot(
            {"agreement with the teacher": [(point.step, round(point.agreement, 6)) for point in looks]},
            title="Agreement with the teacher on the validation slices, against the steps",
            x_axis="step",
            y_axis="",
            marks=marks,
            width=330,
            height=210,
        )
    ]
    kept = next((point for point in looks if point.step == found.kept_step), looks[-1])
    note = f"Agreement: {_score(looks[0].agreement)} at step 0, {_score(kept.agreement)} at step {kept.step}."
    ranked = [(point.step, 100 * point.retrieval) for point in looks if point.retrieval is not None]
    first = looks[0].retrieval
    if not ranked or first is None:
        return [curve for curve in drawn if curve], f"{note} There is no retrieval: image and text share no space."
    drop = found.settings.get("max_retrieval_drop")
    drawn.append(
        curve_plot(
            {"R@1 of the validation samples, %": ranked},
            title="Mean R@1 of the validation samples, against the steps, with the limit of the guard",
            x_axis="step",
            y_axis="",
            marks=marks,
            limits={} if drop is None else {"the guard stops below": 100 * (first - drop)},
            from_zero=False,
            width=330,
            height=210,
        )
    )
    return [
        curve for curve in drawn if curve
    ], f"{note} R@1: {text.percent(first, 1)} and {text.percent(kept.retrieval, 1)}."


def _clusters(found: AlignmentRecord) -> list[tuple[str, str, list[tuple[str, list[str]]]]]:
    """Return a heading, a count and the rows of each sample, those held out first."""
    groups = []
    for sample, heading in _SAMPLES:
        scores = [score for state in STATES if (score := found.score(state, sample)) is not None]
        if scores:
            rows = [(str(s.state), [_score(s.ami), _score(s.nmi), _score(s.ari)]) for s in scores]
            groups.append((heading, text.plural(scores[0].n, "sample"), rows))
    return groups


def _retests(found: AlignmentRecord, alpha: float) -> list[RetestRow]:
    def state(p: float | None) -> str:
        return "not tested" if p is None else "confirmed" if p < alpha else "not confirmed"

    return [
        RetestRow(
            finding=str(retest.finding),
            words=" against ".join(
                ", ".join(text.shorten(word, 32) for word in group.words[:2])
                for group in found.groups
                if group.name.finding == retest.finding and group.words
            ),
            before=retest.before,
            after=retest.after,
            p=(retest.p_before, retest.p_after),
            states=(state(retest.p_before), state(retest.p_after)),
        )
        for retest in found.retests
    ]


def _retest_sentence(retests: Sequence[RetestRow], alpha: float) -> str:
    """Say how many of the differences were confirmed before, how many still are, and which."""
    if not retests:
        return ""
    level = f"at α{text.NBSP}={text.NBSP}{alpha:g}"
    if len(retests) == 1:
        was, now = retests[0].states
        return f"The difference was {was} before ({level}) and is {now} after."
    before, after = ([r.finding for r in retests if r.states[place] == "confirmed"] for place in (0, 1))
    untested = [r.finding for r in retests if r.states[1] == "not tested"]
    said = (
        f"Of {text.number(len(retests))} differences, {text.number(len(before))} were confirmed before ({level}) and "
    )
    said += "none" if not after else text.number(len(after))
    said += f" {'is' if len(after) == 1 else 'are'} after"
    said += f": {', '.join(after)}." if after else "."
    return said + (f" Not tested: {', '.join(untested)}." if untested else "")


def _retest_plot(retests: Sequence[RetestRow], materiality: float | None) -> Markup:
    if not retests:
        return Markup("")
    return interval_plot(
        [IntervalRow(text.clean(r.finding), interval(r.before), interval(r.after)) for r in retests],
        title="Held-out difference of each finding before and after, with intervals",
        target_name="before",
        reference_name="after",
        axis="difference of the shares, % of the data (held out)",
        limits={} if materiality is None else {f"materiality {text.percent(materiality)}": materiality},
        scale=100,
        label_width=90,
    )


def _shares(found: AlignmentRecord) -> list[ShareRow]:
    rows = []
    for finding in dict.fromkeys(share.finding for share in found.shares):
        by_state = {share.state: share for share in found.shares if share.finding == finding}
        parts = [by_state.get(state) for state in STATES]
        rows.append(
            ShareRow(
                finding=str(finding),
                shares=[None if part is None else part.share for part in parts],
                coherence=[text.NONE if part is None else _fixed(part.coherence, 1) for part in parts],
                quotients=[text.NONE if part is None else _fixed(part.quotient, 2) for part in parts],
            )
        )
    return rows


def _score(value: float) -> str:
    return _fixed(value, 2)


def _fixed(value: float | None, digits: int) -> str:
    if value is None or not math.isfinite(value):
        return text.NONE
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")
