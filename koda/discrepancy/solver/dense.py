"""The reference solver: dense symmetric matrices, full eigendecompositions, optimal to rounding."""

from __future__ import annotations

import numpy as np
import torch

from koda.discrepancy.solver.direction import solve_direction
from koda.discrepancy.solver.numerics import complement, one_thread
from koda.discrepancy.solver.outcome import DirectionState, Ending, RawDirection, RawSolution
from koda.discrepancy.solver.state import SolverRequest
from koda.errors import ConfigError, DataError


def solve_dense(
    target: np.ndarray | torch.Tensor, reference: np.ndarray | torch.Tensor, request: SolverRequest
) -> RawSolution:
    """Find directions one after the other, each optimal on the orthogonal complement of those before.

    ``max x'Ax`` subject to ``x'Bx <= eps``, ``||x|| = 1``: the same problem that every other solver of
    koda is tested against. Cost: some ten eigendecompositions a direction, so for n up to a few hundred.

    Args:
        target: A, (n, n) symmetric.
        reference: B, (n, n) symmetric.
        request: what is asked; every direction is optimal to rounding and proved so, whatever its tolerance and
            whether or not a proof is asked for.

    Raises:
        ConfigError: n_directions under 1.
        DataError: matrices that are not square, symmetric, finite and of one size.
    """
    a, b = _checked(target, "target"), _checked(reference, "reference")
    if a.shape != b.shape:
        raise DataError(f"The target matrix has {a.shape[0]} rows, the reference matrix {b.shape[0]}.")
    if request.n_directions < 1:
        raise ConfigError(f"n_directions is {request.n_directions}; at least 1 is needed.")
    with one_thread():
        return _solve_dense(a, b, request)


def _solve_dense(a: torch.Tensor, b: torch.Tensor, request: SolverRequest) -> RawSolution:
    n = a.shape[0]
    basis = torch.eye(n, dtype=torch.float64)  # (n, n - len(directions))
    directions: list[RawDirection] = []
    evaluations = 0
    multiplier: float | None = None
    while len(directions) < request.n_directions:
        if basis.shape[1] == 0:
            return RawSolution(tuple(directions), Ending.EXHAUSTED, iterations=evaluations)
        optimum = solve_direction(a, b, request.limit, start=multiplier)
        evaluations += optimum.evaluations
        if not optimum.feasible:
            return RawSolution(tuple(directions), Ending.INFEASIBLE, optimum.reference, evaluations)
        if request.no_gain(optimum):
            return RawSolution(tuple(directions), Ending.NO_DISCREPANCY, iterations=evaluations)
        multiplier = optimum.multiplier or None
        directions.append(
            RawDirection(
                x=(basis @ optimum.y).numpy(),
                target_energy=optimum.target,
                reference_energy=optimum.reference,
                multiplier=optimum.multiplier,
                upper=optimum.upper,
                state=DirectionState.INACTIVE if optimum.inactive else DirectionState.OPTIMAL,
            )
        )
        rest = complement(optimum.y)  # (k, k - 1)
        basis, a, b = basis @ rest, _symmetric(rest.T @ a @ rest), _symmetric(rest.T @ b @ rest)
    return RawSolution(tuple(directions), iterations=evaluations)


def _symmetric(m: torch.Tensor) -> torch.Tensor:
    return (m + m.T) / 2


def _checked(matrix: np.ndarray | torch.Tensor, role: str) -> torch.Tensor:
    m = torch.as_tensor(matrix).to(device="cpu", dtype=torch.float64)
    if m.ndim != 2 or m.shape[0] != m.shape[1] or m.shape[0] == 0:
        raise DataError(f"The {role} matrix has shape {tuple(m.shape)}; it must be square, of at least one row.")
    if not bool(torch.isfinite(m).all()):
        raise DataError(f"The {role} matrix holds NaN or infinity.", "Leave out the samples they come from.")
    if float((m - m.T).abs().max()) > 1e-9 * max(float(m.abs().max()), 1e-300):
        raise DataError(f"The {role} matrix is not symmetric.", "Pass K / n of a kernel.")
    return _symmetric(m)
