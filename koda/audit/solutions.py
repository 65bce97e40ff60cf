"""The discovery step: split the samples, search one question, and keep its solution as an artifact."""

from __future__ import annotations

from koda.audit.covariances import load_covariance, save_covariance
from koda.audit.plan import SOLUTIONS, AuditPlan
from koda.audit.samples import load_samples
from koda.discrepancy import Problem
from koda.discrepancy.saving import save_solution
from koda.typing import Side, roles_of


def discover(plan: AuditPlan, side: Side) -> str:
    """Search one question on the discovery samples; return the digest of the artifact."""
    samples = load_samples(plan)
    target, reference = (getattr(samples, role).select(samples.discovery) for role in roles_of(side))
    search = plan.config.discrepancy
    problem = Problem.of(target, reference, search, **load_covariance(plan, side, target, reference))
    if problem.covariance is not None:
        save_covariance(plan, side, problem.covariance, problem.kernels)
    solution = problem.solve(search)
    key = plan.solution_key(side)
    save_solution(solution, plan.artifacts.folder(SOLUTIONS, key))
    return plan.artifacts.complete(SOLUTIONS, key)
