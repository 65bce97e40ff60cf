"""The findings of the audit before an alignment, as facts of an audit of the aligned model.

What the held-out test confirms again stays a finding, whether or not a new search leads to it: the teacher's share and
that of the student after the alignment are those of the retest, and the figures on the slices are the student's after
less the teacher's. A finding that could not be tested again counts as one that could not be tested.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from koda.policy.facts import AuditFacts
from koda.policy.intervals import turned
from koda.records import (
    ALL,
    AlignmentRecord,
    DataRecord,
    Estimate,
    Finding,
    GroupRecord,
    LobeRecord,
    Metrics,
    RecallRecord,
    Retest,
    Sign,
    State,
    Theme,
    ZeroShotRecord,
    mending_of,
)
from koda.typing import RETRIEVAL_DIRECTIONS, Role, other_role

_NOT_SEARCHED = math.nan  # the retest searches nothing, so there are no energies and no shares in sample


def retested(
    run: AlignmentRecord, role: Role, teacher_fingerprint: str, data: DataRecord, alpha: float
) -> AuditFacts | None:
    """Return the findings of the audit before that count in an audit of the aligned model, and the figures on them.

    Args:
        run: the alignment.
        role: of the aligned model in this audit.
        teacher_fingerprint: of the other model in this audit.
        data: of this audit.
        alpha: the level of the retests, where the record does not state it.

    Returns:
        None where this audit asks another question: of another pair of models, or of other data.
    """
    if (run.role, run.teacher_fingerprint) != (role, teacher_fingerprint) or run.data_digest not in (None, data.digest):
        return None
    mending = mending_of(run, alpha)
    untested = mending.untested
    if run.share_unit == "raw":  # nothing says what they are in typical ties, which the limits are in
        untested = tuple(run.retests)
    findings = [_finding(run, retest, True) for retest in mending.still_confirmed if retest not in untested]
    findings += [_finding(run, retest, None) for retest in untested]
    return AuditFacts(findings, data, _metrics(run), themes=_themes(findings))


def _themes(findings: Sequence[Finding]) -> list[Theme]:
    """Return one theme of all: the record does not say which slices overlap, and one is what there is at the least."""
    if not findings:
        return []
    return [
        Theme(
            side=findings[0].side,
            number=1,
            findings=[finding.subset for finding in findings],
            name=findings[0].title,
            size=max(lobe.size for finding in findings for lobe in (finding.positive, finding.negative)),
            confirmed=any(finding.confirmed for finding in findings),
        )
    ]


def _finding(run: AlignmentRecord, retest: Retest, confirmed: bool | None) -> Finding:
    shares = {share.state: share.share for share in run.shares if share.finding == retest.finding}
    groups = {group.name.lobe: group for group in run.groups if group.name.finding == retest.finding}
    assert retest.finding.side is not None and retest.finding.direction is not None, "a retest is of a finding"
    return Finding(
        side=retest.finding.side,
        direction=retest.finding.direction,
        target=run.teacher,
        reference=run.student,
        target_energy=_NOT_SEARCHED,
        reference_energy=_NOT_SEARCHED,
        quotient=None,
        multiplier=_NOT_SEARCHED,
        gap=_NOT_SEARCHED,
        status="tested again",
        target_share_in_sample=_NOT_SEARCHED,
        reference_share_in_sample=_NOT_SEARCHED,
        target_share=shares["teacher"],
        reference_share=shares["after"],
        difference=retest.after,
        p_value=retest.p_after,
        confirmed=confirmed,
        words=list(dict.fromkeys(word for group in groups.values() for word in group.words)),
        similarity={},
        positive=_lobe("positive", groups.get("positive")),
        negative=_lobe("negative", groups.get("negative")),
        note=None if confirmed else _why_untested(run),
    )


def _why_untested(run: AlignmentRecord) -> str:
    if run.share_unit == "raw":
        return "the alignment was tested by an older koda, whose shares are in other units; align the model again"
    return "too few samples were held out"


def _lobe(sign: Sign, group: GroupRecord | None) -> LobeRecord:
    size = 0 if group is None else group.n_train + group.n_validation + group.n_held_out
    return LobeRecord(sign=sign, size=size, n_held_out=None if group is None else group.n_held_out, samples=[])


def _metrics(run: AlignmentRecord) -> Metrics:
    """Return the held-out figures of the two models of this audit, and candidate less baseline on the slices."""
    states: dict[State, tuple[str, Role]] = {
        "teacher": (run.teacher, other_role(run.role)),
        "after": (run.student, run.role),
    }
    whole = [
        RecallRecord(
            model=states[recall.state][0],
            role=states[recall.state][1],
            subset=recall.subset,
            n=recall.n,
            n_gallery=recall.n,  # they are asked among the held-out samples
            image_to_text=recall.image_to_text,
            text_to_image=recall.text_to_image,
        )
        for recall in run.retrieval
        if recall.subset == ALL and recall.state in states
    ]
    is_turned = run.role == "baseline"  # what is recorded is the student less its teacher
    recalls = [
        gap.model_copy(update={way: _differences(getattr(gap, way), is_turned) for way in RETRIEVAL_DIRECTIONS})
        for gap in run.retrieval_gaps
    ]
    accuracies = [gap.model_copy(update={"top": _differences(gap.top, is_turned)}) for gap in run.zero_shot_gaps]
    zero_shot = ZeroShotRecord(label_column="", classes=[], templates=[], n_labelled=0, differences=accuracies)
    return Metrics(
        queries="held out",
        retrieval=whole,
        retrieval_differences=recalls,
        zero_shot=zero_shot if accuracies else None,
    )


def _differences(figures: Mapping[str, Estimate], is_turned: bool) -> dict[str, Estimate]:
    return {name: turned(estimate) if is_turned else estimate for name, estimate in figures.items()}
