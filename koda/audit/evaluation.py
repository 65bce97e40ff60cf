"""The evaluation step: held-out tests, slices and what is measured on them, for the directions of both questions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koda.audit.galleries import lobe_record
from koda.audit.kernels import kept_on, kernels_by_side
from koda.audit.looks import looks_of, map_of, members_by_finding, spectra_of
from koda.audit.metrics import measure, queries_drawn, with_duplicates
from koda.audit.plan import EVALUATIONS, SOLUTIONS, AuditPlan
from koda.audit.samples import load_samples
from koda.datasets import Pair
from koda.discrepancy import Direction, Solution
from koda.discrepancy.blocks import Kernels
from koda.discrepancy.extension import extensions as extensions_of
from koda.discrepancy.multiplicity import adjusted_p_values
from koda.discrepancy.saving import load_solution
from koda.discrepancy.sensitivity import bandwidth_sensitivity
from koda.discrepancy.significance import MIN_CONFIRMATION, HeldOut, held_out_shares, tested_keys
from koda.metrics.sampling import drawn_for_many
from koda.records import Estimate, Finding, Looks, Metrics, SharesAtTie, Stability, Subset, Theme
from koda.slicing.slices import Lobe, Slice, slices
from koda.slicing.stability import stability
from koda.slicing.themes import themes_of
from koda.storage import write_atomically
from koda.storage.parquet import write_parquet
from koda.typing import SIDES, FloatArray, Side, roles_of

_WORDS_SHOWN = 3  # of each lobe, in the headline of a finding
_BRIEF_GALLERY = 6  # samples of a lobe where the held-out test did not confirm the direction


@dataclass(frozen=True)
class Evaluation:
    """What was measured: findings and their themes, figures beside them, and every listed sample of every slice."""

    findings: list[Finding]
    themes: list[Theme]
    metrics: Metrics
    looks: Looks
    n_discovery: int
    n_confirmation: int
    slices: list[dict[str, Any]]


def evaluate(plan: AuditPlan) -> str:
    """Measure the directions of both sides; return the digest of the artifact."""
    samples = load_samples(plan)
    solutions = {side: plan.artifacts.read(SOLUTIONS, plan.solution_key(side), load_solution) for side in SIDES}
    tables = {side: samples.of(side) for side in SIDES}
    kernels = kernels_by_side(samples, solutions)
    significance = plan.config.significance
    keys = {side: tested_keys(solutions[side], samples.confirmation, significance) for side in SIDES}
    extensions = extensions_of(solutions, kernels)
    values = {side: extensions[side].values(keys[side]).T for side in SIDES}  # (m, k)
    kept = kept_on(kernels, keys)
    tested = {side: held_out_shares(values[side], keys[side], kept[side], significance.materiality) for side in SIDES}
    search = plan.config.discrepancy
    adjusted = adjusted_p_values(
        [[held.p_value for held in tested[side]] for side in SIDES], search.n_directions, search.max_directions
    )
    p_values = dict(zip(SIDES, adjusted, strict=True))
    drawn = drawn_for_many(samples.confirmation, len(samples.baseline.keys), search.seed)
    asked = queries_drawn(plan, samples)
    # who asks has to be ranked too, or some outside a slice would be members of it that nobody has looked at
    new = None if drawn is None else sorted({*drawn, *set(asked or ()).intersection(samples.confirmation)})
    ranked = None if new is None else (*samples.discovery, *new)
    pieces = {side: slices(solutions[side], *tables[side], keys=ranked, extension=extensions[side]) for side in SIDES}
    runs = significance.stability
    stable = {side: stability(solutions[side], *tables[side], runs, extensions[side]) for side in SIDES}
    at_ties: dict[Side, list[list[SharesAtTie]]] = {
        side: [[] for _ in tested[side]]
        if plan.is_brief
        else _at_ties(values[side], keys[side], solutions[side], kernels[side], kept[side], significance.materiality)
        for side in SIDES
    }
    del kept  # half a gigabyte
    pairs = plan.dataset.by_key
    findings = [
        _finding(plan, pairs, side, direction, piece, held, p, again, bandwidths)
        for side in SIDES
        for direction, piece, held, p, again, bandwidths in zip(
            solutions[side].directions,
            pieces[side],
            tested[side],
            p_values[side],
            stable[side] if runs else [None] * len(pieces[side]),
            at_ties[side],
            strict=True,
        )
    ]
    confirmation = set(samples.confirmation)
    row_of = {key: row for row, key in enumerate(samples.baseline.keys)}  # and of the candidate's: both are joined
    rows = [
        row
        for side in SIDES
        for piece in pieces[side]
        for lobe in (piece.positive, piece.negative)
        for row in _rows(side, piece.direction, lobe, tables[side][0].metadata, row_of, confirmation)
    ]
    findings = with_duplicates(plan, samples, pieces, findings, row_of)
    metrics, class_ranks = measure(plan, samples, solutions, pieces, findings, asked)
    metrics = metrics.model_copy(update={"ranked": None if new is None else len(new)})
    looks = Looks()
    if not plan.is_brief:
        mapped = map_of(plan, samples, pieces, findings)
        metrics = metrics.model_copy(update={"map": mapped, "spectra": spectra_of(plan, samples, solutions)})
        looks = looks_of(plan, samples, solutions, pieces, findings, class_ranks, mapped)
    members = members_by_finding(pieces)
    around = {Subset(side, piece.direction): piece.neighbourhood for side in SIDES for piece in pieces[side]}
    key = plan.evaluation_key
    folder = plan.artifacts.folder(EVALUATIONS, key)
    note = {
        "findings": [finding.model_dump(mode="json") for finding in findings],
        "themes": [theme.model_dump(mode="json") for theme in themes_of(findings, members, around)],
        "metrics": metrics.model_dump(mode="json"),
        "looks": looks.model_dump(mode="json"),
        "n_discovery": len(samples.discovery),
        "n_confirmation": len(samples.confirmation),
    }
    columns = list(rows[0]) if rows else ["side", "key"]
    write_parquet(folder / "slices.parquet", {name: [row[name] for row in rows] for name in columns})
    write_atomically(folder / "evaluation.json", json.dumps(note, indent=1).encode())
    return plan.artifacts.complete(EVALUATIONS, key)


def load_evaluation(folder: Path) -> Evaluation:
    """Read what :func:`evaluate` wrote."""
    import pyarrow.parquet as pq

    note = json.loads((folder / "evaluation.json").read_bytes())
    return Evaluation(
        [Finding.model_validate(finding) for finding in note["findings"]],
        [Theme.model_validate(theme) for theme in note["themes"]],
        Metrics.model_validate(note["metrics"]),
        Looks.model_validate(note["looks"]),
        note["n_discovery"],
        note["n_confirmation"],
        pq.ParquetFile(folder / "slices.parquet").read().to_pylist(),
    )


def _at_ties(
    f: FloatArray, keys: Sequence[str], solution: Solution, kernels: Kernels, kept: Kernels, materiality: float
) -> list[list[SharesAtTie]]:
    """Return the held-out shares of each direction under kernels of other typical ties."""
    if not f.shape[1] or len(keys) < MIN_CONFIRMATION:
        return [[] for _ in solution.directions]
    searched, seed = solution.keys, solution.config.seed
    measured = bandwidth_sensitivity(f, keys, searched, kernels, materiality, tested=kept, seed=seed)
    return [
        [SharesAtTie(tie=at.tie, **_shares(at.shares[k])) for at in measured] for k in range(len(solution.directions))
    ]


def _shares(held: HeldOut) -> dict[str, Any]:
    """Return the shares under both models and their difference, by the names of the fields that hold them."""
    return {
        name: Estimate(value=interval.value, low=interval.low, high=interval.high, n=held.n)
        for name, interval in (
            ("target_share", held.target_share),
            ("reference_share", held.reference_share),
            ("difference", held.difference),
        )
    }


def _finding(
    plan: AuditPlan,
    pairs: Mapping[str, Pair],
    side: Side,
    direction: Direction,
    piece: Slice,
    held: HeldOut,
    p_value: float | None,
    again: Stability | None,
    bandwidths: Sequence[SharesAtTie],
) -> Finding:
    target, reference = roles_of(side)
    confirmed = None if p_value is None else p_value < plan.config.significance.alpha
    gallery = plan.config.report.gallery
    if confirmed is False:
        gallery = min(gallery, _BRIEF_GALLERY)
    seed = [plan.config.discrepancy.seed, SIDES.index(side), piece.direction]
    words = [word.text for lobe in (piece.positive, piece.negative) for word in lobe.words[:_WORDS_SHOWN]]
    return Finding(
        side=side,
        direction=piece.direction,
        target=plan.label(target),
        reference=plan.label(reference),
        target_energy=direction.target_energy,
        reference_energy=direction.reference_energy,
        quotient=direction.quotient if math.isfinite(direction.quotient) else None,
        multiplier=direction.multiplier,
        gap=direction.gap,
        status=direction.status,
        target_share_in_sample=direction.target_share,
        reference_share_in_sample=direction.reference_share,
        **_shares(held),
        p_value=p_value,
        confirmed=confirmed,
        name=piece.name,
        words=list(dict.fromkeys(words)),
        similarity=dict(piece.similarity),
        similarity_searched=dict(piece.similarity_searched),
        bandwidths=list(bandwidths),
        depends_on_bandwidth=any(at.difference.value <= held.materiality for at in bandwidths) if bandwidths else None,
        positive=lobe_record(pairs, piece.positive, gallery, [*seed, 0]),
        negative=lobe_record(pairs, piece.negative, gallery, [*seed, 1]),
        stability=again,
        note=held.reason or None,
    )


def _rows(
    side: Side,
    direction: int,
    lobe: Lobe,
    columns: Mapping[str, Sequence[Any]],
    row_of: Mapping[str, int],
    confirmation: AbstractSet[str],
) -> list[dict[str, Any]]:
    """One row for each listed sample of a lobe; metadata as JSON, whatever its columns."""
    return [
        {
            "side": side,
            "direction": direction,
            "lobe": lobe.sign,
            "rank": rank,
            "key": key,
            "score": float(score),
            "in_slice": rank <= lobe.size,
            "split": "confirmation" if key in confirmation else "discovery",
            "caption": columns["caption"][row_of[key]],
            "metadata": json.dumps(
                {name: values[row_of[key]] for name, values in columns.items() if name != "caption"}, default=str
            ),
        }
        for rank, (key, score) in enumerate(zip(lobe.keys, lobe.scores, strict=True), start=1)
    ]
