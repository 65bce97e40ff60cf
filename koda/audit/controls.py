"""The control step: what this audit could have seen, and that it sees nothing where there is nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from koda.audit.kernels import kernels_by_side
from koda.audit.plan import CONTROLS, SOLUTIONS, AuditPlan
from koda.audit.samples import Samples, load_samples
from koda.audit.spike_in import DIRECTIONS, MAX_SAMPLES, shares_to_try, spike_ins
from koda.discrepancy import Problem, Solution
from koda.discrepancy.extension import extensions as extensions_of
from koda.discrepancy.limits import again_on
from koda.discrepancy.saving import load_solution
from koda.discrepancy.significance import MIN_CONFIRMATION, confirm
from koda.embeddings import EmbeddingTable
from koda.embeddings.rows import drawn_keys
from koda.extraction import KIND as EMBEDDINGS
from koda.kernels import KernelPair
from koda.records import Controls, SelfControlRecord, SpikeInRecord
from koda.statistics import holm
from koda.storage import write_atomically
from koda.typing import ROLES, SIDES, Role, Side, roles_of

_ROUNDING = {"fp32": 2.0**-24, "bf16": 2.0**-8, "fp16": 2.0**-11}  # unit roundoff, relative


def control(plan: AuditPlan) -> str:
    """Run the controls of an audit; return the digest of the artifact.

    Source: method of paper 2606.04180 has none; spike-ins are the positive control of an assay, the model against its
    own copy the negative one.
    """
    samples = load_samples(plan)
    solutions = {side: plan.artifacts.read(SOLUTIONS, plan.solution_key(side), load_solution) for side in SIDES}
    seen, new = (min(len(part), MAX_SAMPLES) for part in (samples.discovery, samples.confirmation))
    note = None
    trials: list[SpikeInRecord] = []
    if new < MIN_CONFIRMATION:
        note = f"there are {new} confirmation samples; a test needs {MIN_CONFIRMATION}"
    elif plan.config.significance.spike_ins:
        trials = _spike_ins(plan, samples, solutions)
    alone = [] if note else [_self_control(plan, samples, solutions["lost"], role) for role in ROLES]
    controls = Controls(n_discovery=seen, n_confirmation=new, spike_ins=trials, self_controls=alone, note=note)
    folder = plan.artifacts.folder(CONTROLS, plan.control_key)
    write_atomically(folder / "controls.json", json.dumps(controls.model_dump(mode="json"), indent=1).encode())
    return plan.artifacts.complete(CONTROLS, plan.control_key)


def load_controls(folder: Path) -> Controls:
    """Read what :func:`control` wrote."""
    return Controls.model_validate_json((folder / "controls.json").read_bytes())


def _spike_ins(plan: AuditPlan, samples: Samples, solutions: Mapping[Side, Solution]) -> list[SpikeInRecord]:
    """Make groups of each share be lost, and count those that are found and confirmed.

    The directions of a trial take the place of the first ones lost, and are tested beside all others of the audit.
    """
    config = plan.config
    kernels = kernels_by_side(samples, solutions)
    # they only say how many tests the trials are beside, so fewer samples will do
    quick = config.significance.on_at_most(MAX_SAMPLES)
    extensions = extensions_of(solutions, kernels)
    tested = {
        side: confirm(solutions[side], *samples.of(side), samples.confirmation, quick, extensions[side])
        for side in SIDES
    }
    others = tested["lost"][DIRECTIONS:], tested["gained"]
    ready = spike_ins(
        *samples.of("lost"),
        samples.discovery,
        samples.confirmation,
        solutions["lost"],
        config.discrepancy,
        config.significance,
        ([held.p_value for held in others[0]], [held.p_value for held in others[1]]),
    )
    rows = []
    for share in shares_to_try(len(ready.discovery) + len(ready.confirmation)):
        trials = [ready.trial(share, number) for number in range(config.significance.spike_ins)]
        rows.append(
            SpikeInRecord(
                share=share,
                size=trials[0].size,
                trials=len(trials),
                confirmed=sum(trial.detected for trial in trials),
            )
        )
    return rows


def _self_control(plan: AuditPlan, samples: Samples, lost: Solution, role: Role) -> SelfControlRecord:
    """Search and test one model against its own copy with noise."""
    target, _ = roles_of("lost")
    name = "target" if role == target else "reference"
    kernel = getattr(lost.kernels, name)
    tie = lost.kernels.ties[name]
    config = plan.config.discrepancy
    seen, new = (drawn_keys(part, MAX_SAMPLES, config.seed) for part in (samples.discovery, samples.confirmation))
    table = getattr(samples, role).only(kernel.modalities).select([*seen, *new])
    info = (plan.artifacts.info(EMBEDDINGS, plan.embedding_key(role)) or {})["model"]
    precision = str(info["precision"])
    noise = _noise_of(precision, info.get("precision_cosine"), table)
    copy = _with_noise(table, noise, config.seed)
    n_directions = min(DIRECTIONS, config.n_directions)
    search = again_on(config, lost.eps, len(samples.discovery), len(seen), n_directions)
    pair = KernelPair(kernel, kernel, {"target": tie, "reference": tie}, {}, {}, "those of the audit")
    solution = Problem.of(table.select(seen), copy.select(seen), search, kernels=pair).solve(search, prove=False)
    tested = confirm(solution, table, copy, new, plan.config.significance)
    adjusted = holm([held.p_value for held in tested])
    return SelfControlRecord(
        role=role,
        model=plan.label(role),
        precision=precision,
        noise=noise,
        n_directions=len(tested),
        confirmed=sum(p is not None and p < plan.config.significance.alpha for p in adjusted),
    )


def _noise_of(precision: str, cosine: float | None, table: EmbeddingTable) -> float:
    """Return how far rounding moves an embedding, relative to its length.

    It is what was measured against fp32 where that is known (a cosine c is a relative distance of sqrt(2 (1 - c))), and
    at least the unit roundoff of the precision; of stored embeddings, that of the type they are stored in.
    """
    stored = max(float(np.finfo(getattr(table, name).dtype).eps) for name in table.modalities) / 2
    rounding = _ROUNDING.get(precision, stored)
    return max(rounding, 0.0 if cosine is None else math.sqrt(max(0.0, 2 * (1 - cosine))))


def _with_noise(table: EmbeddingTable, noise: float, seed: int) -> EmbeddingTable:
    """Return the embeddings, each moved by so much of its length in a random direction."""
    rng = np.random.default_rng([seed, 7])
    moved = {}
    for name in table.modalities:
        values = np.asarray(getattr(table, name), dtype=np.float64)  # (n, d)
        step = rng.standard_normal(values.shape) / math.sqrt(values.shape[1])
        moved[name] = values + noise * np.linalg.norm(values, axis=1, keepdims=True) * step
    return EmbeddingTable(table.keys, **moved)
