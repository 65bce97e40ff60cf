"""The discovery step: split the samples, search one question, and keep its solution as an artifact."""

from __future__ import annotations

from dataclasses import replace

from koda.audit.covariances import load_covariance, save_covariance
from koda.audit.plan import SOLUTIONS, AuditPlan
from koda.audit.samples import Samples, load_samples
from koda.discrepancy import Problem, Solution
from koda.discrepancy.saving import save_solution
from koda.discrepancy.significance import MIN_CONFIRMATION, confirm
from koda.typing import Side
from koda.wording import counted

_LOOKED_AT = 2048  # held-out samples that say whether a search goes on


def discover(plan: AuditPlan, side: Side) -> str:
    """Search one question on the discovery samples; return the digest of the artifact."""
    samples = load_samples(plan)
    target, reference = (table.select(samples.discovery) for table in samples.of(side))
    search = plan.config.discrepancy
    problem = Problem.of(target, reference, search, **load_covariance(plan, side, target, reference))
    if problem.covariance is not None:
        save_covariance(plan, side, problem.covariance, problem.kernels)
    solution = _while_material(plan, problem, problem.solve(search), side, samples)
    key = plan.solution_key(side)
    save_solution(solution, plan.artifacts.folder(SOLUTIONS, key))
    return plan.artifacts.complete(SOLUTIONS, key)


def _while_material(plan: AuditPlan, problem: Problem, solution: Solution, side: Side, samples: Samples) -> Solution:
    """Search for more directions, in steps, while the last one is material on held-out samples; say where it stopped.

    A direction is material where its held-out difference of shares is over the materiality beyond noise (p < alpha, not
    adjusted); the directions that are added are tested together with all others.
    """
    config, significance = plan.config.discrepancy, plan.config.significance.on_at_most(_LOOKED_AT)
    most = config.max_directions
    wanted = config.n_directions
    more: bool | None = None  # not known
    while len(samples.confirmation) >= MIN_CONFIRMATION and len(solution.directions) == wanted:
        held = confirm(solution, *samples.of(side), samples.confirmation, significance)[-1]
        more = held.p_value is not None and held.p_value < significance.alpha
        if not more or wanted == most:
            break
        wanted, more = min(wanted + config.n_directions, most), None
        solution = problem.solve(config.model_copy(update={"n_directions": wanted}), warm=True)
    solution = replace(solution, stats={**solution.stats, "last_is_material": more})
    if not more:
        return solution
    words = (
        f"the search stopped at {counted(len(solution.directions), 'direction')}, the last of which is still material"
    )
    return replace(solution, status=f"{solution.status}; {words}")
