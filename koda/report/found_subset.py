"""The paper's comparison as one table: full set against found subset, and how the subset clusters, for both models."""

from __future__ import annotations

from dataclasses import dataclass

from koda.records import ALL, AuditRecord, ClusterScores, RecallDifference, RecallRecord, Subset
from koda.report import text
from koda.report.figures import labels
from koda.report.metric_tables import Cell, cell
from koda.typing import RETRIEVAL_DIRECTIONS, ROLES, SIDES, Side, roles_of

_DEPTH = "R@1"


@dataclass(frozen=True)
class FoundRow:
    """One model, or the candidate less the baseline: recall on both sets and scores on the subset."""

    label: str
    recalls: list[Cell]
    scores: list[str]
    is_difference: bool = False


@dataclass(frozen=True)
class FoundTable:
    """Groups of rows, one a side; the columns of a measure that the record lacks are left out."""

    groups: list[tuple[str, list[FoundRow]]]
    has_recalls: bool
    has_scores: bool

    @property
    def width(self) -> int:
        """Number of columns."""
        return 1 + 5 * self.has_recalls + 3 * self.has_scores


def found_table(record: AuditRecord) -> FoundTable | None:
    """Return recall at 1 on the full set and on the found subset, and cluster scores, of both models and each side."""
    metrics = record.metrics
    recalls = {(r.subset, str(r.role)): r for r in metrics.retrieval}
    differences = {d.subset: d for d in metrics.retrieval_differences}
    has_recalls = any((Subset(side), role) in recalls for side in SIDES for role in ROLES)
    groups = []
    for side in SIDES:
        scores = {_role_of(s): s for s in metrics.clusters if s.side == side}
        rows = []
        for role, label in labels(record).items():
            whole, part = recalls.get((ALL, role)), recalls.get((Subset(side), role))
            if part is not None or role in scores:
                rows.append(FoundRow(label, _recalls(whole, part) if has_recalls else [], _scores(scores.get(role))))
        if not rows:
            continue
        whole_gap, gap = differences.get(ALL), differences.get(Subset(side))
        if gap is not None:
            rows.append(FoundRow("candidate − baseline", _recalls(whole_gap, gap), [text.NONE] * 3, True))
        groups.append((_heading(record, side), rows))
    if not groups:
        return None
    return FoundTable(groups, has_recalls, bool(metrics.clusters))


def _role_of(score: ClusterScores) -> str:
    """Say which model a score is of: the baseline is the target of what was lost, the candidate of what was gained."""
    target, reference = roles_of(score.side)
    return target if score.role == "target" else reference


def _heading(record: AuditRecord, side: Side) -> str:
    counts = [r.n for r in record.metrics.retrieval if r.subset == Subset(side)]
    counts += [s.n for s in record.metrics.clusters if s.side == side]
    findings = [f for f in record.findings if f.side == side]
    confirmed = sum(f.confirmed is True for f in findings)
    directions = text.plural(len(findings), "direction")
    counted = f"{side.capitalize()}: {text.plural(counts[0], 'sample')} at the top of {directions}"
    if len(findings) == 1:
        return f"{counted}, which is {'' if confirmed else 'not '}confirmed"
    return f"{counted}, {text.number(confirmed)} of them confirmed" if findings else counted


def _recalls(whole: RecallRecord | RecallDifference | None, part: RecallRecord | RecallDifference | None) -> list[Cell]:
    """Return recall at 1 on the whole and on the part in both directions, and the mean change from whole to part."""
    signed = isinstance(part, RecallDifference)
    cells, changes = [], []
    for way in RETRIEVAL_DIRECTIONS:
        pair = [None if source is None else getattr(source, way).get(_DEPTH) for source in (whole, part)]
        cells += [cell(estimate, signed=signed) for estimate in pair]
        if pair[0] is not None and pair[1] is not None:
            changes.append(pair[1].value - pair[0].value)
    return [
        *cells,
        Cell(_change(sum(changes) / len(changes)) if len(changes) == len(RETRIEVAL_DIRECTIONS) else text.NONE),
    ]


def _change(value: float) -> str:
    """Write a change in percentage points: below 0 the part is retrieved less often than the whole."""
    points = round(100 * value, 1) + 0.0  # no minus before a zero
    return f"{points:{'+' if points else ''}.1f}".replace("-", "−")


def _scores(score: ClusterScores | None) -> list[str]:
    return [text.NONE] * 3 if score is None else [_two(value) for value in (score.ami, score.nmi, score.ari)]


def _two(value: float) -> str:
    """Write a score with two decimals and no minus before a zero."""
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


@dataclass(frozen=True)
class OverlapMatrix:
    """Samples that each two findings of a side share; `rows` hold a name, the size of its slice, and cells."""

    side: Side
    names: list[str]
    rows: list[tuple[str, int, list[tuple[str, str]]]]


def overlaps(record: AuditRecord) -> list[OverlapMatrix]:
    """Return a matrix for each side with findings that share samples: several directions may be one difference."""
    matrices = []
    for side in SIDES:
        shared = {(o.first, o.second): o for o in record.looks.overlaps if o.first.side == side}
        shared |= {(second, first): o for (first, second), o in shared.items()}
        found = [f for f in record.findings if f.side == side and any(f.subset in pair for pair in shared)]
        if not found:
            continue
        rows = []
        for f in found:
            pairs = [shared.get((f.subset, other.subset)) for other in found]
            cells = [("0", "") if o is None else (text.number(o.shared), text.percent(o.jaccard, 0)) for o in pairs]
            cells[found.index(f)] = (text.NONE, "")
            rows.append((str(f.subset).capitalize(), f.positive.size + f.negative.size, cells))
        matrices.append(OverlapMatrix(side, [name for name, _, _ in rows], rows))
    return matrices


def stops(record: AuditRecord) -> list[tuple[Side, str]]:
    """Return the end of what the solver says, where each side's search stopped; nothing of a side without a finding."""
    sides = {finding.side for finding in record.findings}
    return [(side, getattr(record.method, side).status.rsplit("; ", 1)[-1]) for side in SIDES if side in sides]
