"""Find the directions that one model ties together and another does not."""

from __future__ import annotations

from koda.discrepancy.problem import Problem
from koda.discrepancy.quantiles import QuantilePoint, quantile_sweep
from koda.discrepancy.search import find_discrepancies
from koda.discrepancy.solution import Direction, Solution

__all__ = ["Direction", "Problem", "QuantilePoint", "Solution", "find_discrepancies", "quantile_sweep"]
