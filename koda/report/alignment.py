"""An alignment as the report shows it: what was trained, what came of it held out, and what it cost elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from koda.records import STATES, AlignmentRecord, AuditRecord, Estimate, GroupRecord, Sample, mending_of
from koda.report import text
from koda.report.alignment_costs import Cost, retrieval_cost, zero_shot_cost
from koda.report.metric_tables import subset_name
from koda.report.plots import Interval, IntervalRow, curve_plot, interval_plot
from koda.typing import ROLES, Role, other_role
from koda.wording import agreeing

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

    outcome: str
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
    run = record.alignment
    if run is None:
        return ""
    role, _ = _roles(record, run)
    opening = f"The {role} is an aligned model: koda fine-tuned it"
    if record.data.unseen is True:
        return (
            f"{opening} after audit {run.audit_id}. No search, training or early stopping of it saw the samples "
            "that are held out here. Findings are tested on them alone, and they alone are asked in retrieval and "
            "zero-shot."
        )
    if record.data.unseen is False:
        return (
            f"{opening} after audit {run.audit_id}. Which samples it was trained on is not known, so that some of "
            "those held out here may be among them."
        )
    same = _same_held_out(record, run)
    if same:
        return (
            f"{opening} on samples that the search of this audit used. Only figures on held-out samples, which "
            "neither search nor training saw, speak of new data."
        )
    if same is None:
        return (
            f"{opening} after audit {run.audit_id}. Where this audit has the data and split of that one, its search "
            "used samples that were trained on, and only held-out figures speak of new data."
        )
    return (
        f"{opening} after audit {run.audit_id}, whose held-out samples are not those of this audit. Samples that are "
        "held out here may have been trained on."
    )


def alignment(record: AuditRecord) -> AlignmentView | None:
    """Put the alignment of a record in words, rows and figures; None where there is none."""
    run = record.alignment
    if run is None:
        return None
    alpha = record.method.alpha if run.alpha is None else run.alpha
    words = {group.name: ", ".join(text.shorten(word, 32) for word in group.words[:3]) for group in run.groups}
    retests = _retests(run, alpha)
    unreadable = list(run.split.unreadable.items())
    curves, curves_note = _curves(run)
    outcome = mending_of(run, alpha).sentence
    return AlignmentView(
        outcome=f"{outcome[0].upper()}{outcome[1:]}.",
        sentence=_sentence(record, run),
        recovery=_recovery(run),
        facts=_facts(run),
        held_out_note=_held_out_note(record, run),
        unreadable=unreadable[:_LISTED_UNREADABLE],
        n_unreadable=len(unreadable),
        curves=curves,
        curves_note=curves_note,
        clusters=_clusters(run),
        retests=retests,
        retest_sentence=_retest_sentence(retests, alpha),
        retest_plot=_retest_plot(retests, run.materiality),
        n_held_out=next((r.before.n for r in retests if r.before.n), run.split.n_held_out),
        alpha=alpha,
        materiality=record.method.materiality if run.materiality is None else run.materiality,
        shares=_shares(run),
        retrieval=retrieval_cost(run, words),
        zero_shot=zero_shot_cost(run, words),
        groups=[(subset_name(group.name), group) for group in run.groups],
    )


def finding_names(run: AlignmentRecord) -> str:
    """Name the findings that were learnt from: `finding lost 1`, `findings lost 1, 2 and 4`."""
    numbers = list(dict.fromkeys(str(group.name.direction) for group in run.groups))
    if len(numbers) < 2:
        return f"finding {run.side} {''.join(numbers)}".rstrip()
    return f"findings {run.side} {', '.join(numbers[:-1])} and {numbers[-1]}"


def _roles(record: AuditRecord, run: AlignmentRecord) -> tuple[Role, Role]:
    """Return the roles of the aligned model and of the other one in this audit, which may not be the first's."""
    aligned = run.weights_digest
    roles = [role for role in ROLES if getattr(record, role).weights_digest == aligned]
    role = run.role if len(roles) != 1 else roles[0]
    return role, other_role(role)


def _same_held_out(record: AuditRecord, run: AlignmentRecord) -> bool | None:
    """Say whether this audit holds out the samples that the alignment held out; None where it is not known."""
    digest = record.data.confirmation_digest
    return None if digest is None else digest == run.split.held_out_digest


def _sentence(record: AuditRecord, run: AlignmentRecord) -> str:
    role, other = _roles(record, run)
    label, teacher = getattr(record, role).label, getattr(record, other)
    here = (
        f"the {other} of this audit"
        if teacher.fingerprint == run.teacher_fingerprint
        else "which is not a model of this audit"
    )
    return (
        f"The {role} of this audit, {_quoted(label)}, is {_quoted(run.student)} after koda fine-tuned it on "
        f"{finding_names(run)} of audit {run.audit_id}. It was the student; the teacher was "
        f"{_quoted(run.teacher)}, {here}. The aim was that the student ties the samples of these slices together as "
        "the teacher does, and stays as it was elsewhere. Held out are samples that neither the search nor the "
        "training saw."
    )


def _quoted(label: str) -> str:
    return f"“{text.shorten(label, 80)}”"


def _recovery(run: AlignmentRecord) -> str:
    before, after, teacher = (run.score(state) for state in STATES)
    if before is None or after is None or teacher is None:
        return (
            "No recovery can be stated: cluster scores need two slices with held-out samples under the student before "
            "and after and under the teacher."
        )
    scores = (
        f"On held-out samples the agreement of the student's clusters with the slices (AMI) was {_score(before.ami)} "
        f"before and is {_score(after.ami)} after; under the teacher it is {_score(teacher.ami)}."
    )
    if run.recovery is None:
        return (
            f"{scores} No recovery is stated: between student and teacher there was next to nothing to recover, so a "
            "share of it means nothing."
        )
    return (
        f"{scores} Recovery, held out: {text.percent(run.recovery, 0)} of the way from the student as it was (0 %) "
        "to its teacher (100 %). It can be below 0 or above 100 %."
    )


def _facts(run: AlignmentRecord) -> list[tuple[str, str | Markup]]:
    """Return what was done, a line each."""
    settings = run.settings
    towers = " and ".join(run.towers) + (" tower" if len(run.towers) == 1 else " towers")
    trained = f"{towers}, {text.number(run.n_parameters)} of {text.plural(run.n_parameters_total, 'parameter')}" + (
        f", as adapters of rank {settings['rank']}, merged into the weights" if settings.get("rank") else ""
    )
    done = run.looks[-1].step if run.looks else None
    size = (settings.get("batch_size") or 0) * (settings.get("accumulate") or 1)
    steps = f"{text.number(done)} of at most {text.number(settings.get('steps'))}"
    if size:
        steps += (
            f", {text.plural(size, 'sample')} each, {text.percent(settings.get('slice_share'), 0)} of them in slices"
        )
    drop = settings.get("max_retrieval_drop")
    guarded = bool(run.looks) and run.looks[0].retrieval is not None
    rows = [
        ("alignment", run.id),
        ("after audit", f"{run.audit_id} (koda show {run.audit_id})"),
        ("run", f"{text.utc(run.started)} to {text.utc(run.ended)}, koda {run.koda_version}"),
        ("trained", trained),
        ("steps", steps),
        ("weights kept", f"of step {text.number(run.kept_step)}"),
        ("why it ended", run.stopped),
        (
            "guard",
            f"stops if R@1 of the validation samples falls by more than {text.plural(100 * drop, 'point')}"
            if guarded and drop is not None
            else "not in force: image and text share no space in which to retrieve",
        ),
        ("settings", text.settings({k.replace("_", " "): v for k, v in settings.items() if v is not None})),
    ]
    return [(name, text.shorten(value, 900)) for name, value in rows] + [
        ("student, before", text.digest(run.student_fingerprint)),
        ("teacher", text.digest(run.teacher_fingerprint)),
        ("aligned weights", text.digest(run.weights_digest)),
    ]


def _held_out_note(record: AuditRecord, run: AlignmentRecord) -> str:
    same = _same_held_out(record, run)
    if record.data.unseen is True and not same:
        return "The held-out samples of this audit are others, by digest; the alignment saw none of them either."
    if same is None:
        return "Whether this audit holds out the same samples is not recorded."
    return f"The held-out samples of this audit are {'the same' if same else 'others'}, by digest."


def _curves(run: AlignmentRecord) -> tuple[list[Markup], str]:
    """Draw agreement and R@1 of the validation samples against the steps, and say where they began and ended."""
    looks = run.looks
    if not looks:
        return [], ""
    marks = {f"kept: step {run.kept_step}": float(run.kept_step)}
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
    kept = next((point for point in looks if point.step == run.kept_step), looks[-1])
    note = f"Agreement: {_score(looks[0].agreement)} at step 0, {_score(kept.agreement)} at step {kept.step}."
    ranked = [(point.step, 100 * point.retrieval) for point in looks if point.retrieval is not None]
    first = looks[0].retrieval
    if not ranked or first is None:
        return [curve for curve in drawn if curve], f"{note} There is no retrieval: image and text share no space."
    drop = run.settings.get("max_retrieval_drop")
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


def _clusters(run: AlignmentRecord) -> list[tuple[str, str, list[tuple[str, list[str]]]]]:
    """Return a heading, a count and the rows of each sample, those held out first."""
    groups = []
    for sample, heading in _SAMPLES:
        scores = [score for state in STATES if (score := run.score(state, sample)) is not None]
        if scores:
            rows = [(str(s.state), [_score(s.ami), _score(s.nmi), _score(s.ari)]) for s in scores]
            groups.append((heading, text.plural(scores[0].n, "sample"), rows))
    return groups


def _retests(run: AlignmentRecord, alpha: float) -> list[RetestRow]:
    def state(p: float | None) -> str:
        return "not tested" if p is None else "confirmed" if p < alpha else "not confirmed"

    return [
        RetestRow(
            finding=str(retest.finding),
            words=" against ".join(
                ", ".join(text.shorten(word, 32) for word in group.words[:2])
                for group in run.groups
                if group.name.finding == retest.finding and group.words
            ),
            before=retest.before,
            after=retest.after,
            p=(retest.p_before, retest.p_after),
            states=(state(retest.p_before), state(retest.p_after)),
        )
        for retest in run.retests
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
    were = agreeing(len(before), "was", "were")
    said = f"Of {text.number(len(retests))} differences, {text.number(len(before))} {were} confirmed before "
    said += f"({level}) and {text.number(len(after)) if after else 'none'}"
    said += f" {agreeing(len(after), 'is', 'are')} after"
    said += f": {', '.join(after)}." if after else "."
    return said + (f" Not tested: {', '.join(untested)}." if untested else "")


def _retest_plot(retests: Sequence[RetestRow], materiality: float | None) -> Markup:
    if not retests:
        return Markup("")
    return interval_plot(
        [IntervalRow(text.clean(r.finding), Interval.of(r.before), Interval.of(r.after)) for r in retests],
        title="Held-out difference of each finding before and after, with intervals",
        target_name="before",
        reference_name="after",
        axis="difference of the shares, % of the data (held out)",
        limits={} if materiality is None else {f"materiality {text.limit(materiality)}": materiality},
        scale=100,
        label_width=90,
    )


def _shares(run: AlignmentRecord) -> list[ShareRow]:
    rows = []
    for finding in dict.fromkeys(share.finding for share in run.shares):
        by_state = {share.state: share for share in run.shares if share.finding == finding}
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
