"""Find the directions that one model ties together and another does not."""

from __future__ import annotations

from koda.discrepancy.search import find_discrepancies
from koda.discrepancy.solution import Direction, Solution

__all__ = ["Direction", "Solution", "find_discrepancies"]
