"""What the report looks at beside its figures: neighbours, a map, spectra, overlaps and confusions."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from koda.audit.metrics import SlicesBySide
from koda.audit.plan import AuditPlan
from koda.audit.samples import Samples
from koda.config import modalities_of
from koda.discrepancy import Solution
from koda.embeddings.rows import drawn_keys
from koda.kernels import Kernel
from koda.metrics.confusion import confusions
from koda.metrics.identity import image_ids
from koda.metrics.maps import MAX_SAMPLES, maps
from koda.metrics.neighbours import Near, looked_among, nearest
from koda.metrics.overlap import jaccard
from koda.metrics.spectra import MAX_SAMPLES as SPECTRUM_SAMPLES
from koda.metrics.spectra import leading_eigenvalues
from koda.metrics.zero_shot import ClassRanks, classes_of
from koda.records import (
    ConfusionRecord,
    Finding,
    Looks,
    MapRecord,
    Neighbour,
    Overlap,
    SampleNeighbours,
    ShownSample,
    Subset,
)
from koda.typing import ROLES, SIDES, Role, Side, roles_of

_DIGITS = 6  # of a similarity


def looks_of(
    plan: AuditPlan,
    samples: Samples,
    solutions: Mapping[Side, Solution],
    pieces: SlicesBySide,
    findings: Sequence[Finding],
    ranks: Mapping[Role, ClassRanks],
    drawn: MapRecord | None,
) -> Looks:
    """Return everything to look at but the map and the spectra, which stand among the metrics.

    Args:
        plan: of the audit.
        samples: of both models, joined.
        solutions: the directions of each side; their kernels say what is near.
        pieces: their slices.
        findings: of these slices, with their galleries.
        ranks: zero-shot of all labelled samples.
        drawn: the map, whose samples are named too.
    """
    standing = _standing(findings)
    near = _neighbours(plan, samples, solutions, standing)
    named = dict.fromkeys(drawn.keys if drawn else ())
    named |= dict.fromkeys(n.key for row in near for role in ROLES for n in getattr(row, role))
    shown = set(_shown(findings))
    pairs = plan.dataset.by_key
    return Looks(
        samples={
            key: ShownSample(caption=pairs[key].caption, metadata=pairs[key].metadata)
            for key in sorted(named)
            if key not in shown
        },
        neighbours=near,
        n_among=len(looked_among(samples.baseline.keys, _seed(plan))) if near else None,
        overlaps=_overlaps(standing, members_by_finding(pieces)),
        confusions=_confusions(plan, samples, pieces, findings, ranks, shown.union(named)),
    )


def map_of(plan: AuditPlan, samples: Samples, pieces: SlicesBySide, findings: Sequence[Finding]) -> MapRecord | None:
    """Return the map of at most 1500 samples: those in galleries, then members of findings, then others.

    Args:
        plan: of the audit.
        samples: of both models, joined.
        pieces: the slices of each side.
        findings: of these slices, with their galleries.
    """
    seed = _seed(plan)
    members = members_by_finding(pieces)
    inside = set().union(*(members[finding.subset] for finding in _standing(findings)))
    keys: set[str] = set()
    for part in (set(_shown(findings)), inside, set(samples.baseline.keys)):
        keys |= set(drawn_keys(sorted(part - keys), MAX_SAMPLES - len(keys), seed))
    ordered = sorted(keys)
    tables = [getattr(samples, role).select(ordered) for role in ROLES]
    found = maps(tables[0], tables[1], modalities_of(plan.config.discrepancy), seed=seed)
    if found is None:
        return None
    group = _groups(pieces, findings)
    return MapRecord(
        method=found.method,
        seed=seed,
        keys=ordered,
        baseline=[(x, y) for x, y in found.baseline.tolist()],
        candidate=[(x, y) for x, y in found.candidate.tolist()],
        group=[group.get(key, 0) for key in ordered],
        n=samples.baseline.n,
    )


def spectra_of(plan: AuditPlan, samples: Samples, solutions: Mapping[Side, Solution]) -> dict[str, list[float]]:
    """Return the leading eigenvalues of the kernel of each model, as the target, on the same discovery samples.

    Args:
        plan: of the audit.
        samples: of both models, joined.
        solutions: the directions of each side, with their kernels.
    """
    keys = drawn_keys(samples.discovery, SPECTRUM_SAMPLES, _seed(plan))
    spectra = {}
    for side in SIDES:
        role = roles_of(side)[0]
        spectra[role] = leading_eigenvalues(getattr(samples, role).select(keys), solutions[side].kernels.target)
    return {role: spectra[role] for role in ROLES}


def _seed(plan: AuditPlan) -> int:
    return plan.config.discrepancy.seed


def _standing(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings that the held-out test did not refute."""
    return [finding for finding in findings if finding.confirmed is not False]


def _shown(findings: Iterable[Finding]) -> list[str]:
    """Return the samples in the galleries of findings, each once, in their order."""
    lobes = (lobe for finding in findings for lobe in (finding.positive, finding.negative))
    return list(dict.fromkeys(sample.key for lobe in lobes for sample in lobe.samples))


def members_by_finding(pieces: SlicesBySide) -> dict[Subset, frozenset[str]]:
    """Return the samples in the slice of each finding, those of both lobes together."""
    return {
        Subset(side, piece.direction): frozenset(piece.positive.members + piece.negative.members)
        for side in SIDES
        for piece in pieces[side]
    }


def _neighbours(
    plan: AuditPlan, samples: Samples, solutions: Mapping[Side, Solution], standing: Sequence[Finding]
) -> list[SampleNeighbours]:
    """The neighbours of the samples in galleries, each by the kernels of the question whose gallery shows it first."""
    pairs = plan.dataset.by_key
    keys = samples.baseline.keys
    contents = list(zip(image_ids(keys, pairs), (pairs[key].caption for key in keys), strict=True))
    among = looked_among(keys, _seed(plan))
    device = plan.config.discrepancy.device
    asked: dict[str, Side] = {}
    for finding in standing:
        asked |= {key: finding.side for key in _shown([finding]) if key not in asked}
    found: dict[Role, dict[str, list[Near]]] = {role: {} for role in ROLES}
    for side in SIDES:
        of_side = [key for key, first in asked.items() if first == side]
        kernels = solutions[side].kernels
        by_role: dict[Role, Kernel] = dict(zip(roles_of(side), (kernels.target, kernels.reference), strict=True))
        if of_side:
            for role, kernel in by_role.items():
                found[role] |= nearest(getattr(samples, role), kernel, of_side, among, contents, device=device)
    return [
        SampleNeighbours(
            key=key,
            shared=len({near.key for near in found["baseline"][key]} & {near.key for near in found["candidate"][key]}),
            **{
                role: [Neighbour(key=near.key, similarity=round(near.similarity, _DIGITS)) for near in found[role][key]]
                for role in ROLES
            },
        )
        for key in asked
    ]


def _overlaps(standing: Sequence[Finding], members: Mapping[Subset, AbstractSet[str]]) -> list[Overlap]:
    return [
        Overlap(first=a.subset, second=b.subset, shared=shared, jaccard=jaccard(members[a.subset], members[b.subset]))
        for a, b in itertools.combinations(standing, 2)
        if a.side == b.side and (shared := len(members[a.subset] & members[b.subset]))
    ]


def _confusions(
    plan: AuditPlan,
    samples: Samples,
    pieces: SlicesBySide,
    findings: Sequence[Finding],
    ranks: Mapping[Role, ClassRanks],
    shown: AbstractSet[str],
) -> list[ConfusionRecord]:
    """What both models take the held-out members of the lobes of confirmed findings for; none of one model alone."""
    if plan.config.zero_shot is None or len(ranks) < len(ROLES):
        return []
    classes, _ = classes_of(plan.config.zero_shot, plan.dataset)
    held_out = set(samples.confirmation)
    found = []
    for finding in findings:
        piece = pieces[finding.side][finding.direction - 1]
        for lobe in (piece.positive, piece.negative) if finding.confirmed else ():
            members = [key for key in lobe.members if key in held_out]
            found += confusions(finding.subset.of_lobe(lobe.sign), members, ranks, classes, shown)
    return found


def _groups(pieces: SlicesBySide, findings: Sequence[Finding]) -> dict[str, int]:
    """Return the number of the strongest finding whose slice holds a sample, negative in its second lobe.

    Confirmed findings are stronger than untested ones, then those with the larger difference of shares are.
    """
    order = sorted(
        (place for place, finding in enumerate(findings) if finding.confirmed is not False),
        key=lambda place: (findings[place].confirmed is not True, -findings[place].difference.value, place),
    )
    group: dict[str, int] = {}
    for place in order:
        piece = pieces[findings[place].side][findings[place].direction - 1]
        for sign, lobe in ((1, piece.positive), (-1, piece.negative)):
            for key in lobe.members:
                group.setdefault(key, sign * (place + 1))
    return group
