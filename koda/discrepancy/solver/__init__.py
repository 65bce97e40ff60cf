"""Solvers of the constrained problem: dense, and in a growing subspace with proved gaps."""

from __future__ import annotations

from koda.discrepancy.solver.dense import solve_dense
from koda.discrepancy.solver.outcome import DirectionState, Ending, RawDirection, RawSolution
from koda.discrepancy.solver.state import Effort, SolverRequest
from koda.discrepancy.solver.subspace import solve_subspace

__all__ = [
    "DirectionState",
    "Effort",
    "Ending",
    "RawDirection",
    "RawSolution",
    "SolverRequest",
    "solve_dense",
    "solve_subspace",
]
