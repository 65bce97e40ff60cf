"""Find the directions that one model ties together and another does not."""

from __future__ import annotations

from koda.discrepancy.search import Problem, find_discrepancies
from koda.discrepancy.solution import Direction, Solution
from koda.discrepancy.sweep import QuantilePoint, quantile_sweep

__all__ = ["Direction", "Problem", "QuantilePoint", "Solution", "find_discrepancies", "quantile_sweep"]
